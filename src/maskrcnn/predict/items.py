"""Sources of any kind, in any mix -> items: one image each, not read yet, with a name for its results and a key.

A restart knows an item by its key. Films and cameras give their frames, TIFFs their pages.

Nothing is held but what is listed at once: paths. Frames, pages and downloads come when they are asked for.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from maskrcnn.data.remote import expand, local_copy, name_of
from maskrcnn.data.sample import Pixels, load_record, record_values
from maskrcnn.errors import DataError
from maskrcnn.instances import Place
from maskrcnn.predict import film, pages
from maskrcnn.predict.named import entries
from maskrcnn.structures import Record

MOST_DOWNLOADED = 4 << 30
"""Bytes of one address, or of all files of one pattern."""
MOST_OPENED = 1000
"""Files whose frames or pages are counted before the start; of more files each counts as one."""
_NUMBERED = re.compile(r"(.+)_(?:\d{6}|p\d+)")


@dataclass(frozen=True, eq=False)
class Item:
    """One image on its way in.

    Attributes:
        read: gives what `to_image_tensor` takes; may run in another thread; raises `DataError`.
        place: its name, its key, and where it lies in its file.
        path: the image file, where the image is a whole file.
        address: what it was downloaded from.
    """

    read: Callable[[], Any]
    place: Place
    path: str | None = None
    address: str | None = None

    @contextmanager
    def named(self) -> Iterator[None]:
        """A `DataError` from inside names the address, not the copy of it in the cache."""
        try:
            yield
        except DataError as error:
            if self.address is None or error.path is None:
                raise
            raise DataError(str(error).replace(str(error.path), self.address)) from error


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
        once: leave out a file that comes again, with one warning.
        refresh: download addresses anew that are in the cache.
        names: of the results, those taken so far.
    """

    sources: Any
    pixels: Pixels = "rgb8"
    cache: Path | None = None
    capture: film.Capture = film.open_capture
    done: Callable[[str], bool] = lambda key: False
    once: bool = False
    refresh: bool = False
    skipped: int = field(default=0, init=False)
    """Items left out because they are done."""

    def __post_init__(self) -> None:
        self.names = Names()
        self._entries = entries(self.sources)
        self._warn_of_endless()
        self._seen: set[str] = set()
        self._told = False

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
        entries = self._entries
        if self.once:
            again = (str, Path, pages.Window)
            entries = list({str(e) if isinstance(e, again) else i: e for i, e in enumerate(entries)}.values())
        total = 0
        for entry in entries[:MOST_OPENED]:
            number = self._count(entry)
            if number is None:
                return None
            total += number
        return total + len(entries[MOST_OPENED:])

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
        self._seen, self._told = set(), False
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
            yield from self._window(entry)
        elif isinstance(entry, Path):
            yield from self._file(entry, key_of(entry))
        elif isinstance(entry, str) and film.is_live(entry):
            yield from self._live(entry)
        elif isinstance(entry, str):
            yield from self._address(entry)
        elif isinstance(entry, Record):
            yield self._record(entry, number)
        else:
            yield Item(lambda: entry, Place(name=self.names.free(f"image_{number}")))

    def _again(self, key: str, name: object) -> bool:
        """Whether this file came before, and shall not come again."""
        if not self.once:
            return False
        again = key in self._seen
        self._seen.add(key)
        if again and not self._told:
            self._told = True
            warnings.warn(f"{name} is named twice and taken once, like every other file that comes again", stacklevel=2)
        return again

    def _record(self, record: Record, number: int) -> Item:
        name = self.names.free(Path(record.path).stem or f"image_{number}")
        if record.span is None and record.make is None:
            return Item(lambda: record, Place(name=name), str(record.path))
        read = record_values if self.pixels == "raw" else load_record  # no file holds this image alone
        return Item(partial(read, record), Place(name=name, file=str(record.path)))

    def _file(self, path: Path, key: str) -> Iterator[Item]:
        if self._again(key, path):
            return
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

    def _window(self, window: pages.Window) -> Iterator[Item]:
        key = f"{key_of(window.path)}@{window.rows}{window.columns}"
        if self._again(key, window):
            return
        name = self.names.free(f"{window.path.stem}_{window.rows[0]}_{window.columns[0]}")
        yield Item(partial(pages.read_window, window, self.pixels), pages.place_of_window(window, name, key))

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
        copy = partial(local_copy, most_bytes=MOST_DOWNLOADED, refresh=self.refresh)
        plain = unquote(urlsplit(url).path)
        if "{" not in url and Path(plain).suffix.lower() not in (*film.SUFFIXES, *pages.SUFFIXES):
            if not self._again(url, url):
                name = self.names.free(Path(plain).stem or "image")
                # In the thread that decodes, so that several come at once.
                yield Item(partial(copy, url, self.cache), Place(name=name, key=url), address=url)
            return
        here = copy(url, self.cache)
        for one in expand(url):
            yield from self._downloaded(here / name_of(one) if here.is_dir() else here, one)

    def _downloaded(self, file: Path, url: str) -> Iterator[Item]:
        source = Item(lambda: None, Place(), address=url)

        def read(item: Item) -> Any:
            with source.named():
                return item.read()

        with source.named():
            for item in self._file(file, url):
                yield replace(item, read=partial(read, item), address=url)


def key_of(path: Path) -> str:
    """A file as it is now: changed, it is another one. Raises `DataError`: it is not there."""
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror}); check the path", path=path) from error
    return f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


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
