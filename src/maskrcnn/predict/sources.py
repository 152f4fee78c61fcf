"""What a user may point at -> images, one after the other. Files, folders, patterns, arrays, and lists of them."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskrcnn.data.sample import to_image_tensor
from maskrcnn.errors import DataError
from maskrcnn.predict.journal import NAME
from maskrcnn.structures import Record

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".npy")
"""Files that count as images in a folder."""
_UNREAD = {
    "JPEG or PNG": (".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".svg", ".raw", ".dng", ".cr2",
                    ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    "MP4": (".flv", ".f4v", ".vob", ".rm", ".rmvb", ".asf", ".mxf"),
}  # fmt: skip
"""Pictures and films that are not read, and what to make of them."""


def list_sources(sources: Any) -> Iterable[Any]:
    """Every image meant, not opened yet: paths for files, anything else as it came.

    Args:
        sources: a file, a folder (its images, folders inside it too, sorted), a pattern such as `photos/*.jpg`, an
            array, a tensor, a PIL image, a record, or an iterable of these. Lists are looked through at once, so that
            a missing file is noticed before the first image is predicted; other iterables when their items are asked
            for.

    Raises:
        DataError: nothing at a path, a folder without images, a pattern that fits no image, bytes or an open file.
    """
    refuse_bytes(sources)
    if isinstance(sources, (str, Path)):
        return files_of(sources)
    if isinstance(sources, (list, tuple)):
        return [item for source in sources for item in list_sources(source)]
    if is_image(sources):
        return [sources]
    if isinstance(sources, Iterable):
        return (item for source in sources for item in list_sources(source))
    raise DataError(f"cannot take {type(sources).__name__} for images; give files, folders, patterns or arrays")


def iterate_images(sources: Any) -> Iterator[tuple[Path | None, Tensor]]:
    """(path or None, (3, H, W) uint8 RGB) of every image, in order. Raises `DataError` as `list_sources`, and for an
    image that cannot be read."""
    for item in list_sources(sources):
        yield item if isinstance(item, Path) else None, to_image_tensor(item)


def is_image(item: Any) -> bool:
    """Whether this is one image in memory, not several."""
    if isinstance(item, np.ndarray):
        return item.ndim < 4  # (B, H, W, 3) is a batch: iterate
    if isinstance(item, Tensor):
        return item.ndim < 4
    return isinstance(item, Record) or hasattr(item, "getexif")


def refuse_bytes(source: Any) -> None:
    """Raises `DataError` for the content of a file and for an open one, which else would be taken byte by byte."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise DataError(
            f"cannot take {type(source).__name__} for images; give the path, or PIL.Image.open(io.BytesIO(data))"
        )
    if callable(getattr(source, "read", None)):
        raise DataError("cannot take an open file for images; give its path, or PIL.Image.open(file)")


def files_of(source: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The file, or those of a folder or pattern that have one of the suffixes, frame2 before frame10.

    Folders of results below the folder, or below the part of a pattern before `**`, are left out. Warns of pictures and
    films that are left out because nobody here reads them.

    Raises:
        DataError: there is none.
    """
    path = Path(source)
    if path.is_dir():
        return _chosen(path, _below(path), suffixes, "no image in this folder")
    if path.exists():
        return [path]
    if glob.has_magic(str(source)):
        matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
        return _chosen(path, _without_results(path, matches), suffixes, "no image fits this pattern")
    raise DataError("no such file or folder; check the path", path=path)


def _chosen(source: Path, files: Iterable[Path], suffixes: tuple[str, ...], none: str) -> list[Path]:
    found, left_out = [], []
    for file in files:
        if file.name.startswith("."):  # macOS leaves `._photo.jpg` beside `photo.jpg`
            continue
        suffix = file.suffix.lower()
        if suffix in suffixes and file.is_file():
            found.append(file)
        elif any(suffix in kinds for kinds in _UNREAD.values()) and file.is_file():
            left_out.append(suffix)
    remedy = _remedy(left_out)
    if not found:
        raise DataError(f"{none}; {remedy or 'looked for ' + ' '.join(suffixes)}", path=source)
    if remedy:
        warnings.warn(f"{source}: {remedy}", stacklevel=2)
    return sorted(found, key=_in_order)


def _remedy(suffixes: list[str]) -> str:
    """What to do about files with these suffixes; "" for none."""
    if not suffixes:
        return ""
    forms = [form for form, kinds in _UNREAD.items() if not set(kinds).isdisjoint(suffixes)]
    files = "1 file is" if len(suffixes) == 1 else f"{len(suffixes)} files are"
    return f"{files} left out, as {' '.join(sorted(set(suffixes)))} cannot be read; convert to {' and '.join(forms)}"


def _below(folder: Path) -> Iterator[Path]:
    """All files but those in hidden folders and in folders of results."""
    for place, folders, files in os.walk(folder):
        if NAME in files and Path(place) != folder:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files)


def _without_results(pattern: Path, matches: list[Path]) -> list[Path]:
    """What a `**` finds, but in folders of results."""
    if "**" not in pattern.parts:
        return matches
    named = pattern.parts.index("**")
    known: dict[Path, bool] = {}

    def of_results(folder: Path) -> bool:
        if len(folder.parts) <= named:
            return False
        if folder not in known:
            known[folder] = (folder / NAME).is_file() or of_results(folder.parent)
        return known[folder]

    return [match for match in matches if not of_results(match.parent)]


def _in_order(path: Path) -> list[list[tuple[int, str]]]:
    """As people count."""
    parts = (re.split(r"(\d+)", part) for part in path.parts)
    return [[(int(text), "") if text.isdecimal() else (-1, text) for text in part] for part in parts]
