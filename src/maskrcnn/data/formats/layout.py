"""Where things lie in a data set's folder: JSON files, their splits, and the images that they name."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from os.path import isfile
from pathlib import Path
from typing import Any

from maskrcnn.errors import DataError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "minival": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
}
ROUNDING = 1.0  # pixels that a box may reach beyond its image without a word
MOST_PIXELS = 1 << 20  # a side, or a coordinate; more is a mistake, or an attack


def json_files(
    path: Path, depth: int, wanted: Callable[[Path], bool], suffixes: tuple[str, ...] = (".json",)
) -> list[Path]:
    """The file itself, or all JSON of a folder down to `depth` folders below it, that are `wanted`; sorted."""
    if path.is_file():
        return [path] if path.name.endswith(suffixes) and wanted(path) else []
    found = (file for s in suffixes for level in range(depth + 1) for file in path.glob("*/" * level + f"*{s}"))
    places: dict[Path, Path] = {}  # by where they really lie: a linked folder may lead back to this one
    for file in found:
        if file.is_file():
            places.setdefault(file.parent.resolve() / file.name, file)
    return sorted(file for file in places.values() if wanted(file))


def load_json(file: Path) -> Any:
    """The content, in any of Unicode's encodings. Raises `DataError` where it is not JSON."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error}); export it again", path=file) from error


def split_of_name(name: str) -> str | None:
    """ "train" of "instances_train2017"; None where the name says nothing."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in SPLITS:
            return SPLITS[word]
    return None


class ImageFinder:
    """Finds image files by the names that an annotation file uses. Lists each folder once.

    Args:
        folders: where images may lie, nearest first.
        names: all names that will be asked for.
    """

    def __init__(self, folders: Iterable[Path], names: Iterable[str]) -> None:
        self._listing = {folder: _names(folder) for folder in folders if folder.is_dir()}
        self._bare = Counter(map(_bare, names))

    def __call__(self, name: str) -> Path | None:
        """The file, or None. A path that leads nowhere (another machine's) is tried by its last part, if no other
        image ends in the same: a wrong picture is worse than none."""
        place = self._find(name)
        if place is None and self._bare[_bare(name)] == 1:
            place = self._find(_bare(name))
        return place

    def _find(self, name: str) -> Path | None:
        nested = "/" in name  # a path below one of the folders
        for folder, names in self._listing.items():
            if name in names or (nested and _is_file(folder / name)):
                return folder / name
        return None


def _names(folder: Path) -> set[str]:
    """Of its files; those that are no links need no look at each."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False) or isfile(entry.path)}
    except OSError:  # a folder that may not be listed
        return set()


def _bare(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False
