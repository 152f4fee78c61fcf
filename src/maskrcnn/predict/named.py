"""What a user names, in any mix -> entries, not opened yet: paths, addresses and cameras (str), windows of TIFFs,
images in memory, and a `DataError` for what is missing in the middle of a stream."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskrcnn.data.remote import is_url
from maskrcnn.errors import DataError
from maskrcnn.predict import film, pages
from maskrcnn.predict.sources import SUFFIXES, files_of, is_image, list_sources, refuse_bytes

ALL_SUFFIXES = (*SUFFIXES, *film.SUFFIXES)
"""Files that count as images or films in a folder."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def entries(sources: Any, *, cameras: bool = True) -> Iterable[Any]:
    """A list is looked through at once, so that what is missing is noticed before the first image; lines of stdin and
    items of iterables when they are asked for.

    Args:
        sources: as `Predictor.stream` takes them.
        cameras: whether a number is a camera; those that an iterable gives may be anything, such as bytes.

    Raises:
        DataError: nothing there, or what is no image.
    """
    refuse_bytes(sources)
    if isinstance(sources, pages.Window):
        return [sources]
    if isinstance(sources, int) and not isinstance(sources, bool):
        if not cameras:
            raise DataError(f"{sources} comes from an iterable, where numbers are no cameras; give a list or a tuple")
        return [str(sources)] if sources >= 0 else list_sources(sources)
    if isinstance(sources, str):
        return _named(sources)
    if isinstance(sources, Path):
        return files_of(sources, ALL_SUFFIXES)
    if isinstance(sources, (list, tuple)):
        parts = [entries(source) for source in sources]
        return [e for part in parts for e in part] if all(isinstance(p, list) for p in parts) else _chained(parts)
    if is_image(sources) or not isinstance(sources, Iterable):
        return list_sources(sources)
    return _chained(_late(source) for source in sources)


def check_one(image: Any) -> None:
    """Of what is given for one image: raises `DataError` for what only a stream takes."""
    window = isinstance(image, pages.Window)
    if not window and not (isinstance(image, str) and not Path(image).exists()):
        return
    kind = "address" if not window and _SCHEME.match(image) else "window" if window or pages.Window.parse(image) else ""
    if kind:
        raise DataError(f"{image} is no file but the {kind} of one; Predictor.stream takes it, and gives its images")


def _named(text: str) -> Iterable[Any]:
    if text == "-":
        return _stdin()
    if Path(text).exists():
        return files_of(text, ALL_SUFFIXES)
    if film.is_live(text) or is_url(text):
        return [text]
    if scheme := _SCHEME.match(text):
        raise DataError(
            f"{text}: {scheme[1]}:// is not opened; give http://, https:// or file://, or rtsp:// of a camera"
        )
    if window := pages.Window.parse(text):
        if not window.path.is_file():
            raise DataError("no such file or folder; check the path", path=window.path)
        return [window]
    pages.refuse_window(text)
    return files_of(text, ALL_SUFFIXES)


def _stdin() -> Iterator[Any]:
    """The first line is waited for, so that a list of nothing is noticed like a folder of nothing."""
    lines = (line.rstrip("\r\n") for line in _lines() if line.strip())
    first = next(lines, None)
    if first is None:
        raise DataError("standard input names nothing; give a file, folder, pattern or address a line")
    return _chained(_late(line) for line in itertools.chain([first], lines))


def _lines() -> Iterator[str]:
    """Of stdin; names of files may hold any bytes."""
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:
        return iter(sys.stdin)
    return (line.decode(sys.stdin.encoding, "surrogateescape") for line in binary)


def _late(source: Any) -> Iterable[Any]:
    """What is missing in the middle of a stream is reported like an image that is broken."""
    try:
        return entries(source, cameras=False)
    except DataError as error:
        return [error]


def _chained(parts: Iterable[Iterable[Any]]) -> Iterator[Any]:
    return (entry for part in parts for entry in part)
