"""COCO instance JSON: one file, or a folder with a file for each split; LVIS and Roboflow's exports; gzip.

Takes a path, gives a `Dataset` whose labels are contiguous in order of category id. Polygons, both kinds of RLE, crowds
and keypoints are understood. What points nowhere is left out and counted; what cannot be read at all is a `DataError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.formats.coco_columns import LEFT_OUT, UNKNOWN, columns_of
from maskrcnn.data.formats.coco_federated import federated_of
from maskrcnn.data.formats.coco_files import coco_files, image_folders, split_of, unpacked
from maskrcnn.data.formats.coco_objects import Objects, is_id, number_of
from maskrcnn.data.formats.json_parts import NotInParts, json_parts
from maskrcnn.data.formats.layout import MOST_PIXELS, ImageFinder, load_json
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema
from maskrcnn.table import Table
from maskrcnn.table.change import concat
from maskrcnn.table.pack import NO_MASK, Columns, spans_of, text_of

NAME = "coco"
LOOKS_FOR = "a .json (or .json.gz) with images and categories, here or up to two folders down"
ODD_IMAGE = "images that are not as COCO writes them"
MOST_WHOLE = 2 << 30
"""Bytes of a file that is read as a whole, which takes eight times as much memory; one in pieces may be larger."""


def sniff(path: Path) -> bool:
    """Whether there is a COCO JSON: the file itself, or one in the folder, two levels down."""
    return bool(coco_files(path))


def read(path: Path, *, truth_only: bool = False) -> Dataset:
    """Open a COCO JSON file, or all splits of a folder.

    Args:
        path: file or folder.
        truth_only: keep images whose file is missing, where the JSON says how large they are.

    Raises:
        DataError: not JSON, without images or categories, or files that disagree about the categories.
    """
    files = coco_files(path)
    if not files:
        raise DataError("no COCO JSON with `images` and `categories` here", path=path)
    skipped = Skipped()
    parts = [_read_file(file) for file in files]
    categories = _agreed(parts)
    images = _Images(skipped, truth_only)
    sets = [images.add(part, split_of(part.objects.file, path, len(files))) for part in parts]
    masks = any(kind != NO_MASK for part in parts for kind in part.objects.mask_kind)
    categories = _without_placeholder(categories, parts, skipped)
    schema = schema_of(categories)
    label_of = {category["id"]: label for label, category in enumerate(categories)}
    points = len(schema.names) if schema else 0
    tables = []
    for part, listed in zip(parts, sets, strict=True):
        columns = listed.columns(points > 0)
        columns |= columns_of(part.objects, listed.rows(part.objects), label_of, listed.sizes(), points, masks)
        tables.append(Table(columns, np.arange(len(listed.ids))))
        skipped.extend(part.objects.skipped)
    table = concat(tables)
    used = (image for pair in zip(parts, sets, strict=True) for image in _numbered(*pair))
    federated = federated_of(categories, used, label_of, skipped)
    if not len(table):
        reason = f"; {skipped.sentences()[0]}" if skipped else ""
        raise DataError(f"holds no image that can be used{reason}", path=path)
    return Dataset(
        records=table,
        classes=tuple(str(c["name"]) for c in categories),
        category_ids=tuple(int(c["id"]) for c in categories),
        keypoints=schema,
        name=str(path),
        format=NAME,
        warnings=tuple(skipped.sentences()),
        federated=federated,
    )


# ---------------------------------------------------------------- one file


@dataclass(eq=False)
class _Part:
    """What one file holds. `images` and `categories` as in the file."""

    objects: Objects
    images: list[Any] = field(default_factory=list)
    categories: list[Any] = field(default_factory=list)


def _read_file(file: Path) -> _Part:
    with unpacked(file) as plain:
        try:
            return _collected(file, json_parts(plain))
        except NotInParts:
            if plain.stat().st_size > MOST_WHOLE:
                message = f"is larger than {MOST_WHOLE >> 30} GB and not plain JSON in UTF-8; export it again"
                raise DataError(message, path=file) from None
        try:
            content = load_json(plain)
        except DataError as error:
            raise DataError(error.message, path=file) from error
    return _collected(file, content.items() if isinstance(content, dict) else [])


def _collected(file: Path, pairs: Iterable[tuple[str, Any]]) -> _Part:
    """Lists may come in several pieces."""
    part = _Part(Objects(file, Skipped()))
    lists: dict[str, list[Any]] = {"images": part.images, "categories": part.categories}
    seen = set()
    for key, value in pairs:
        if key == "annotations" and value is not None:
            if not isinstance(value, list):
                raise DataError("`annotations` is not a list; export the data again", path=file)
            for annotation in value:
                part.objects.add(annotation)
        elif key in lists and isinstance(value, list):
            lists[key] += value
            seen.add(key)
    for key in lists:
        if key not in seen:
            raise DataError(f"has no list {key!r}; a COCO file has images, annotations and categories", path=file)
        if not lists[key]:
            raise DataError(f"the list `{key}` is empty; export the data again with its {key}", path=file)
    part.categories = _checked(file, part.categories)
    return part


def _checked(file: Path, categories: list[Any]) -> list[dict]:
    """Categories in order of their ids."""
    for category in categories:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            raise DataError(f"category {category!r:.80} has no integer id; give it one", path=file)
        if not isinstance(category.get("name"), str):
            raise DataError(f"category {category['id']} has no name; give it one", path=file)
    for kind in ("id", "name"):
        for value, count in Counter(category[kind] for category in categories).items():
            if count > 1:
                raise DataError(f"category {kind} {value!r} is there twice; give each its own", path=file)
    return sorted(categories, key=lambda category: category["id"])


def _agreed(parts: list[_Part]) -> list[dict]:
    first = parts[0]
    for part in parts[1:]:
        if [(c["id"], c["name"]) for c in part.categories] != [(c["id"], c["name"]) for c in first.categories]:
            message = (
                f"has other categories than {first.objects.file}; name both files, one after the other, and their "
                "classes are joined by name"
            )
            raise DataError(message, path=part.objects.file)
    return first.categories


def _without_placeholder(categories: list[dict], parts: list[_Part], skipped: Skipped) -> list[dict]:
    """Roboflow puts a class 0 in front that no object has and that all others name as their supercategory."""
    first, rest = categories[0], categories[1:]
    if (
        first["id"] == 0
        and rest
        and all(c.get("supercategory") == first["name"] for c in rest)
        and not any(0 in part.objects.categories for part in parts)
    ):
        skipped.add("classes that only name the group of the others", parts[0].objects.file, None, None, first["name"])
        return rest
    return categories


# ---------------------------------------------------------------- images


@dataclass(eq=False)
class _Listed:
    """The usable images of one file."""

    split: str
    keys: dict[Any, int] = field(default_factory=dict)  # id in the file -> row, or LEFT_OUT
    paths: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def rows(self, objects: Objects) -> np.ndarray:
        """Row of each image that annotations name."""
        return np.array([self.keys.get(key, UNKNOWN) for key in objects.images], np.int64)

    def sizes(self) -> np.ndarray:
        return np.array([self.heights, self.widths], np.int64).T.reshape(-1, 2)

    def columns(self, keypoints: bool) -> Columns:
        count = len(self.ids)
        return {
            "image_id": np.array(self.ids, np.int64),
            "height": np.array(self.heights, np.int64),
            "width": np.array(self.widths, np.int64),
            "span": spans_of([None] * count),
            "split": np.zeros(count, np.int64),
            "has_keypoints": np.full(count, keypoints),
            **text_of("paths", self.paths),
            **text_of("split_names", [self.split]),
        }


def _numbered(part: _Part, listed: _Listed) -> Iterator[tuple[Path, int, dict]]:
    """(file, id in the data set, image) of the images that are used."""
    for image in part.images:
        row = listed.keys.get(image["id"], LEFT_OUT) if isinstance(image, dict) and is_id(image.get("id")) else LEFT_OUT
        if row >= 0:
            yield part.objects.file, listed.ids[row], image


class _Images:
    """Finds the files of images, and gives every image an id of its own."""

    def __init__(self, skipped: Skipped, truth_only: bool) -> None:
        self.skipped, self.truth_only = skipped, truth_only
        self.taken: set[int] = set()
        self.seen: set[tuple[str, str]] = set()

    def add(self, part: _Part, split: str) -> _Listed:
        file, listed = part.objects.file, _Listed(split)
        here: dict[str, int] = {}
        images = []
        for image in part.images:
            if isinstance(image, dict) and "id" in image and is_id(image["id"]):
                images.append(image)
            else:
                self.skipped.add(ODD_IMAGE, file, None, None, f"{image!r:.100}")
        names = [_file_name(image) for image in images]
        find = ImageFinder(image_folders(file, split), names)
        numbers = [number_of(image["id"]) for image in images]
        spare = max([0, *self.taken, *(number for number in numbers if number is not None)])  # ids above it are free
        for image, name, number in zip(images, names, numbers, strict=True):
            key = image["id"]
            if key in listed.keys:
                self.skipped.add("images whose id is there twice", file, key, None, f"id {key}")
                continue
            listed.keys[key] = LEFT_OUT
            place = find(name) or (file.parent / name if self.truth_only else None)
            size = self._size(image, place, name, file)
            if place is None or size is None:
                continue
            if (split, str(place)) in self.seen:
                verb, kind = "skipped", "images that another file lists too"
                if str(place) in here:
                    listed.keys[key] = here[str(place)]
                    verb, kind = "joined", "images that are listed before"
                self.skipped.add(kind, file, key, None, str(place), verb)
                continue
            self.seen.add((split, str(place)))
            here[str(place)] = len(listed.ids)
            if number is None or number in self.taken:
                number = spare = spare + 1
            self.taken.add(number)
            listed.keys[key] = len(listed.ids)
            listed.paths.append(str(place))
            listed.ids.append(number)
            listed.heights.append(size[0])
            listed.widths.append(size[1])
        return listed

    def _size(self, image: dict, place: Path | None, name: str, file: Path) -> tuple[int, int] | None:
        """(height, width) as stated, or else as the file says."""
        if place is None:
            self.skipped.add("images whose file is missing", file, image["id"], None, f"{name!r}")
            return None
        height, width = image.get("height"), image.get("width")
        if type(height) is type(width) is int and 0 < min(height, width) <= max(height, width) < MOST_PIXELS:
            return height, width
        try:
            return image_size(place)
        except DataError as error:
            value = f"{height} x {width}, and {error.message}"
            self.skipped.add("images without width and height", file, image["id"], None, value)
            return None


def _file_name(image: dict) -> str:
    """LVIS names the folder and the file in the address alone: ".../train2017/000000391895.jpg"."""
    name = image.get("file_name") or "/".join(str(image.get("coco_url", "")).split("/")[-2:])
    return str(name)


# ---------------------------------------------------------------- keypoints


def schema_of(categories: list[dict]) -> KeypointSchema | None:
    """Names and left-right pairs of the first category that has a skeleton. COCO: "left_eye" and "right_eye"."""
    skeletons = (c["keypoints"] for c in categories if isinstance(c.get("keypoints"), list))
    names = next((tuple(map(str, skeleton)) for skeleton in skeletons if skeleton), None)
    if names is None:
        return None
    index = {name: i for i, name in enumerate(names)}
    pairs = [(i, index[other]) for name, i in index.items()
             if name.startswith("left") and (other := "right" + name[4:]) in index]  # fmt: skip
    return KeypointSchema(names, tuple(pairs))
