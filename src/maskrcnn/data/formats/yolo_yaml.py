"""What a YOLO data set says about itself: `data.yaml`, or a list of class names beside its folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from maskrcnn.data.formats.pairs import subfolders
from maskrcnn.errors import DataError

LARGEST = 1 << 20  # bytes of a data.yaml; ImageNet's 21,841 names take half of that
DEEPEST = 16  # brackets or indents inside each other
MOST_CLASSES = 100_000
NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAMES = re.compile(rb"^[\"']?(names|nc)[\"']?\s*:", re.MULTILINE)
_SPLIT = re.compile(rb"^[\"']?(train|val|valid|validation|test)[\"']?\s*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """A `data.yaml`.

    Attributes:
        names: number of a class -> its name; None: not said.
        places: split -> where its images are, as written.
        root: the entry `path`, as written; "" where there is none.
        keypoints: whether a label's box is followed by keypoints.
    """

    file: Path
    names: dict[int, str] | None
    places: dict[str, list[str]]
    root: str
    keypoints: bool


def yaml_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder, or of its one subfolder with any, that look like a `data.yaml`; that
    name first. Never raises."""
    if path.is_file():
        return _fitting([path])
    found = _fitting(_yamls(path))
    below = [files for folder in subfolders(path) if (files := _fitting(_yamls(folder)))] if not found else []
    return below[0] if len(below) == 1 else found


def _yamls(folder: Path) -> list[Path]:
    return [*folder.glob("*.yaml"), *folder.glob("*.yml")]


def _fitting(files: list[Path]) -> list[Path]:
    try:
        fitting = [file for file in files if file.suffix in (".yaml", ".yml") and _looks_right(file)]
    except OSError:
        return []
    return sorted(fitting, key=lambda file: (file.stem != "data", file.name))


def _looks_right(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        text = stream.read(LARGEST)
    return bool(_NAMES.search(text)) and bool(_SPLIT.search(text))


class _Loader(yaml.BaseLoader):
    """Everything is text: a class `no` stays "no", 007 stays "007". No aliases, so nothing can multiply itself."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value out")
        self.depth = getattr(self, "depth", 0) + 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} values inside each other")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_plan(file: Path) -> Plan:
    """A `data.yaml`. Raises `DataError`: unreadable, not YAML, too large, or without images or with odd names."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise DataError(f"has more than {LARGEST >> 20} MB; is it the description of a data set?", path=file)
        content = yaml.load(data, Loader=_Loader)  # derived from yaml's safe BaseLoader
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"is not valid YAML ({reason}); export it again", path=file) from error
    if not isinstance(content, dict):
        raise DataError("has no entries; write `names:` and `train:`", path=file)
    places: dict[str, list[str]] = {}
    for key, split in SPLIT_KEYS.items():
        written = [text for text in _texts(content.get(key)) if text not in ("", "null", "~")]
        if written:
            places.setdefault(split, []).extend(written)
    if not places:
        raise DataError("names no images; write where they are: `train: images/train`", path=file)
    root = content.get("path")
    return Plan(file, _names(content, file), places, root if isinstance(root, str) else "", "kpt_shape" in content)


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _names(content: dict[Any, Any], file: Path) -> dict[int, str] | None:
    """By `names`, a list or a dict of numbers, or else by the count `nc`."""
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        pairs = list(names.items())
    elif isinstance(names, list) or names in (None, "", "null", "~"):
        pairs = list(enumerate(names or [])) if isinstance(names, list) else []
    else:
        raise DataError(f"`names` is {names!r:.60}; write a list of names, or `0: name` lines", path=file)
    found = {}
    for key, name in pairs:
        number = _whole(key)
        if number is None or not isinstance(name, str):
            raise DataError(f"class {key!r:.40} of `names` is {name!r:.60}; write a number and a name", path=file)
        found[number] = name.strip() or str(number)
    stated = _whole(count)
    if not found and stated:
        found = {number: str(number) for number in range(stated)}
    return found or None


def _whole(value: Any) -> int | None:
    """0 .. MOST_CLASSES, or None."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= MOST_CLASSES else None


def names_beside(folders: Iterable[Path]) -> dict[int, str] | None:
    """The names of a `classes.txt`, one a line, in the first folder that has one; None where there is none."""
    for folder in folders:
        for name in NAME_FILES:
            try:
                with (folder / name).open("rb") as stream:
                    lines = stream.read(LARGEST).decode("utf-8-sig", "replace").splitlines()
            except OSError:
                continue
            found = {number: line.strip() for number, line in enumerate(lines[:MOST_CLASSES]) if line.strip()}
            if found:
                return found
    return None


def resolve(plan: Plan, written: str) -> Path | None:
    """Where an entry of `train`, `val` or `test` leads, or None.

    As ultralytics: below `path`, which may be relative to the YAML; `../train/images` also as `train/images`, because
    Roboflow writes it so. Paths of another machine are tried by their last parts.
    """
    wanted = written.strip().replace("\\", "/")
    bare = wanted
    while bare.startswith(("../", "./")):
        bare = bare.partition("/")[2]
    tails = ["/".join(PurePosixPath(bare).parts[-count:]) for count in (3, 2, 1)]
    for candidate in [wanted, bare, *tails]:
        for base in bases(plan):
            place = base / candidate
            try:
                if candidate and place.exists():
                    return place
            except (OSError, ValueError):  # a name that no file system takes
                continue
    return None


def bases(plan: Plan) -> Iterator[Path]:
    """Where relative paths may start."""
    here = plan.file.parent
    root = plan.root.strip().replace("\\", "/")
    if root:
        yield here / root
        yield here.parent / root
        yield here / PurePosixPath(root).name
        yield here.parent / PurePosixPath(root).name
    yield here


def bare_roots(path: Path, depth: int = 2) -> Iterator[tuple[Path, Path]]:
    """Pairs of folders `images` and `labels` at `path` or below it."""
    folders = {folder.name: folder for folder in subfolders(path)}
    if "images" in folders and "labels" in folders:
        yield folders["images"], folders["labels"]
    elif depth:
        for folder in folders.values():
            yield from bare_roots(folder, depth - 1)
