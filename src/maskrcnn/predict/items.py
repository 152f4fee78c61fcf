"""Sources of any kind, in any mix -> items: one image each, not read yet, with a name for its results and a key.

A restart knows an item by its key. Films and cameras give their frames, TIFFs their pages.

Nothing is held but what is listed at once: paths. Frames, pages and downloads come when they are asked for.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from maskrcnn.data.remote import is_url, local_copy
from maskrcnn.data.sample import Pixels
from maskrcnn.errors import DataError
from maskrcnn.instances import Place
from maskrcnn.predict import film, pages
from maskrcnn.predict.sources import SUFFIXES, files_of, is_image, list_sources

MOST_DOWNLOADED = 4 << 30
"""Bytes of one address, or of all files of one pattern."""
MOST_OPENED = 1000
"""Files whose frames or pages are counted before the start; of more files each counts as one."""
_ALL = (*SUFFIXES, *film.SUFFIXES)
_NUMBERED = re.compile(r"(.+)_(?:\d{6}|p\d+)")


@dataclass(frozen=True, eq=False)
class Item:
    """One image on its way in.

    Attributes:
        read: gives what `to_image_tensor` takes; may run in another thread; raises `DataError`.
        place: its name, its key, and where it lies in its file.
        path: the image file, where the image is a whole file.
    """

    read: Callable[[], Any]
    place: Place
    path: str | None = None


class Names:
    """Names for results, no two alike; case does not distinguish files everywhere."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, stem: str) -> str:
        """The stem, or `STEM_2`, `STEM_3` ..."""
        name, copy = stem, 1
        while self._is_taken(name.lower()):
            copy += 1
            name = f"{stem}_{copy}"
        self._taken.add(name.lower())
        if match := _NUMBERED.fullmatch(name.lower()):
            self._taken.add(match[1])  # a film of that name would call a frame so
        return name

    def _is_taken(self, name: str) -> bool:
        match = _NUMBERED.fullmatch(name)
        return name in self._taken or (match is not None and match[1] in self._taken)


@dataclass
class Items:
    """All images that sources stand for.

    Iterating may raise `DataError` for none of them: what cannot be opened is an item whose `read` raises it.

    Attributes:
        sources: as `Predictor.stream` takes them.
        pixels: with "raw" the pages of a TIFF are the channels of one image.
        cache: folder of what is downloaded; needed for addresses alone.
        capture: opens cameras and live addresses.
        done: whether an item of this key need not come again.
        names: of the results, those taken so far.
    """

    sources: Any
    pixels: Pixels = "rgb8"
    cache: Path | None = None
    capture: film.Capture = film.open_capture
    done: Callable[[str], bool] = lambda key: False
    skipped: int = field(default=0, init=False)
    """Items left out because they are done."""

    def __post_init__(self) -> None:
        self.names = Names()
        self._entries = _entries(self.sources, eager=True)
        self._warn_of_endless()

    @property
    def live(self) -> bool:
        """Whether there are cameras: then what is not predicted at once is late."""
        return isinstance(self._entries, list) and any(isinstance(e, str) and film.is_live(e) for e in self._entries)

    def _warn_of_endless(self) -> None:
        """Sources come one after the other, and a camera's turn ends when somebody ends it."""
        named = self._entries if isinstance(self._entries, list) else []
        first = next((entry for entry in named[:-1] if isinstance(entry, str) and film.is_live(entry)), None)
        if first is not None:
            warnings.warn(
                f"{first} is live: what is named after it comes when it ends; name it last, and each camera in a "
                "command of its own",
                stacklevel=4,
            )

    def count(self) -> int | None:
        """How many images there are, by the headers of films and TIFFs; None where nobody knows."""
        if not isinstance(self._entries, list):
            return None
        total = 0
        for entry in self._entries[:MOST_OPENED]:
            number = self._count(entry)
            if number is None:
                return None
            total += number
        return total + len(self._entries[MOST_OPENED:])

    def _count(self, entry: Any) -> int | None:
        if not isinstance(entry, Path):
            return None if isinstance(entry, str) and film.is_live(entry) else 1
        try:
            if entry.suffix.lower() in film.SUFFIXES:
                return film.film_facts(entry).frames
            if entry.suffix.lower() in pages.SUFFIXES and self.pixels == "rgb8":
                return max(1, len(pages.count_pages(entry)))
        except DataError:
            pass  # one item, which says what is wrong
        return 1

    def __iter__(self) -> Iterator[Item]:
        for number, entry in enumerate(self._entries, 1):
            try:
                for item in self._open(entry, number):
                    if item.place.key and self.done(item.place.key):
                        self.skipped += 1
                    else:
                        yield item
            except DataError as error:
                yield Item(partial(_fail, error), Place(name=f"image_{number}"))

    def _open(self, entry: Any, number: int) -> Iterator[Item]:
        if isinstance(entry, DataError):
            raise entry
        if isinstance(entry, pages.Window):
            yield self._window(entry)
        elif isinstance(entry, Path):
            yield from self._file(entry, key_of(entry))
        elif isinstance(entry, str) and film.is_live(entry):
            yield from self._live(entry)
        elif isinstance(entry, str):
            yield from self._address(entry)
        else:
            path = getattr(entry, "path", None)  # of a record
            name = self.names.free(Path(path).stem if path else f"image_{number}")
            yield Item(lambda: entry, Place(name=name), None if path is None else str(path))

    def _file(self, path: Path, key: str) -> Iterator[Item]:
        suffix = path.suffix.lower()
        name = self.names.free(path.stem or "image")
        if suffix in film.SUFFIXES:
            yield from self._film(path, name, key)
            return
        geo = {}
        if suffix in pages.SUFFIXES:
            numbers = pages.count_pages(path)
            if self.pixels == "rgb8" and len(numbers) > 1:
                yield from self._pages(path, numbers, name, key)
                return
            to_map, crs = pages.map_of(path)
            geo = {"to_map": to_map, "crs": crs}
        yield Item(lambda: path, Place(name=name, key=key, **geo), str(path))  # type: ignore[arg-type]

    def _pages(self, path: Path, numbers: list[int], name: str, key: str) -> Iterator[Item]:
        for number in numbers:
            place = Place(name=f"{name}_p{number}", key=f"{key}#{number}", file=str(path), frame=number)
            yield Item(partial(pages.read_page, path, number), place)

    def _window(self, window: pages.Window) -> Item:
        name = self.names.free(f"{window.path.stem}_{window.rows[0]}_{window.columns[0]}")
        key = f"{key_of(window.path)}@{window.rows}{window.columns}"
        return Item(partial(pages.read_window, window, self.pixels), pages.place_of_window(window, name, key))

    def _film(self, path: Path, name: str, key: str) -> Iterator[Item]:
        rate = film.film_facts(path).rate
        for number, frame in enumerate(film.read_film(path)):
            yield Item(frame.pixels, _frame(name, key, str(path), number, frame.seconds, rate))

    def _live(self, source: str) -> Iterator[Item]:
        start = time.strftime("%Y%m%d-%H%M%S")  # each recording is one of its own
        name = self.names.free(f"{f'camera_{source}' if source.isdecimal() else _host(source)}_{start}")
        frames = film.latest(self.capture(source))
        try:
            for number, frame in frames:
                yield Item(frame.pixels, _frame(name, "", source, number, frame.seconds, 25.0))
        finally:
            frames.close()

    def _address(self, url: str) -> Iterator[Item]:
        if self.cache is None:
            raise DataError(f"{url} must be downloaded; give a cache folder")
        plain = unquote(urlsplit(url).path)
        if "{" not in url and Path(plain).suffix.lower() not in (*film.SUFFIXES, *pages.SUFFIXES):
            name = self.names.free(Path(plain).stem or "image")
            # In the thread that decodes, so that several come at once.
            yield Item(partial(local_copy, url, self.cache, most_bytes=MOST_DOWNLOADED), Place(name=name, key=url))
            return
        here = local_copy(url, self.cache, most_bytes=MOST_DOWNLOADED)
        for file in files_of(here, _ALL) if here.is_dir() else [here]:
            yield from self._file(file, f"{url}#{file.name}")


def key_of(path: Path) -> str:
    """A file as it is now: changed, it is another one. Raises `DataError`: it is not there."""
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror}); check the path", path=path) from error
    return f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


def _entries(sources: Any, *, eager: bool) -> Iterable[Any]:
    """Paths, addresses (str), windows, images in memory. A list is looked through at once, so that what is missing is
    noticed before the first image; lines of stdin and items of iterables when they are asked for."""
    if isinstance(sources, pages.Window):
        return [sources]
    if isinstance(sources, int) and not isinstance(sources, bool):
        return [str(sources)] if sources >= 0 else list_sources(sources)
    if isinstance(sources, str):
        return _named(sources)
    if isinstance(sources, Path):
        return files_of(sources, _ALL)
    if isinstance(sources, (list, tuple)):
        parts = [_entries(source, eager=eager) for source in sources]
        return [e for part in parts for e in part] if all(isinstance(p, list) for p in parts) else _chained(parts)
    if is_image(sources) or not isinstance(sources, Iterable):
        return list_sources(sources)
    return _chained(_late(source) for source in sources)


def _named(text: str) -> Iterable[Any]:
    if text == "-":
        return _chained(_late(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
    if Path(text).exists():
        return files_of(text, _ALL)
    if film.is_live(text) or is_url(text):
        return [text]
    if window := pages.Window.parse(text):
        if not window.path.is_file():
            raise DataError("no such file or folder; check the path", path=window.path)
        return [window]
    return files_of(text, _ALL)


def _late(source: Any) -> Iterable[Any]:
    """What is missing in the middle of a stream is reported like an image that is broken."""
    try:
        return _entries(source, eager=False)
    except DataError as error:
        return [error]


def _chained(parts: Iterable[Iterable[Any]]) -> Iterator[Any]:
    return (entry for part in parts for entry in part)


def _frame(name: str, key: str, file: str, number: int, seconds: float, rate: float) -> Place:
    return Place(
        name=f"{name}_{number:06}",
        key=f"{key}#{number}" if key else "",
        file=file,
        film=True,
        frame=number,
        seconds=seconds,
        rate=rate,
    )


def _host(url: str) -> str:
    return re.sub(r"\W+", "_", urlsplit(url).hostname or "stream")


def _fail(error: DataError) -> Any:
    raise error
