"""Tar shards as webdataset has them: `x-000000.tar` with `KEY.jpg` and `KEY.json` for each image.

The JSON is one image of a COCO file: `{"image": {...}, "annotations": [{"bbox", "segmentation", "category": name}]}`.
Archives are walked over header by header and never extracted: images stay where they are. `categories.json`, a list of
`{"id", "name"}` beside the shards, may name classes that no object has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.coco_masks import Odd, box_of, mask_of
from maskrcnn.data.formats.coco_objects import ODD, SHORT_RINGS
from maskrcnn.data.formats.keypoint_rows import Rows, keypoint_schema, with_keypoints
from maskrcnn.data.formats.label_map import ClassNames, Item
from maskrcnn.data.formats.layout import load_json, split_of_name
from maskrcnn.data.formats.shards import shard_files
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.tar_members import BLOCK, DamagedTar, Member, is_tar, tar_members
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema, Polygons, Span

NAME = "tar"
LOOKS_FOR = "tar shards (x-000000.tar) with KEY.jpg and KEY.json for each image, a file, a pattern or a folder"
NAMES = r".*\.tar"
CATEGORIES = "categories.json"
LARGEST_JSON = 64 << 20  # bytes
IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm")
_LOOKED_AT = 50  # members, to tell whether an archive is ours
_WRONG = "members that are not {image, annotations} of COCO"
_MISFITS = (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError)


def sniff(path: Path) -> bool:
    """Whether a tar file has a .json and an image among its first members; never raises."""
    return any(_looks_right(file) for file in shard_files(path, NAMES))


def read(path: Path) -> Dataset:
    """Open a tar shard, all that a pattern like `x-*.tar` matches, or those of a folder.

    Raises:
        DataError: no shard, or no image that can be used.
    """
    files = shard_files(path, NAMES)
    if not files:
        raise DataError("no .tar file here; a compressed one must be decompressed, images are read in place", path=path)
    skipped = Skipped()
    _count_gaps(files, skipped)
    items, schema = _categories(path if path.is_dir() else path.parent)
    names = ClassNames(items)
    images: list[Found] = []
    ids: list[Any] = []
    rows: list[Rows] = []
    for file in files:
        for found, content in _images(file, _split(file, path), names, skipped):
            images.append(found)
            ids.append((content.get("image") or {}).get("id"))
            rows.append(_keypoints(content) if schema else {})
    classes, category_ids = names.classes()
    dataset = assemble(images, path=path, format=NAME, skipped=skipped, classes=classes, category_ids=category_ids)
    if all(_is_id(number) for number in ids) and len(set(ids)) == len(ids):
        records = [replace(record, image_id=number) for record, number in zip(dataset.records, ids, strict=True)]
        dataset = replace(dataset, records=records)
    return with_keypoints(dataset, rows, schema)


# ---------------------------------------------------------------- which files


def _looks_right(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            if not is_tar(stream.read(BLOCK)):
                return False
            kinds = {_key(member.name)[1] for member in islice(_members(file, stream), _LOOKED_AT)}
    except (OSError, DamagedTar):
        return False
    return "json" in kinds and not kinds.isdisjoint(IMAGES)


def _split(file: Path, root: Path) -> str:
    folders = file.relative_to(root).parent.parts if root.is_dir() else ()
    return next((split for name in (file.stem, *reversed(folders)) if (split := split_of_name(name))), "")


def _count_gaps(files: list[Path], skipped: Skipped) -> None:
    """Says which of x-000000.tar, x-000001.tar ... are missing: how many there should be, nobody knows."""
    for before, after in pairwise(files):
        first, second = (re.fullmatch(r"(.*?)(\d{4,9})\.tar", file.name) for file in (before, after))
        if first and second and before.parent == after.parent and first[1] == second[1]:
            missing = int(second[2]) - int(first[2]) - 1
            if missing > 0:
                name = f"{first[1]}{int(first[2]) + 1:0{len(first[2])}}.tar"
                skipped.add("gaps between numbered shards", before.parent, None, None, f"{name} is missing")


def _categories(folder: Path) -> tuple[list[Item], KeypointSchema | None]:
    file = folder / CATEGORIES
    if not file.is_file() or file.stat().st_size > LARGEST_JSON:
        return [], None
    try:
        entries = load_json(file)
        items = [Item(int(entry["id"]), str(entry["name"]), str(entry["name"])) for entry in entries]
        points: list[Any] = next((entry["keypoints"] for entry in entries if entry.get("keypoints")), [])
        schema = keypoint_schema([str(point) for point in points])
    except _MISFITS as error:
        raise DataError(f'is not a list of {{"id", "name"}} ({error}); mend or remove it', path=file) from error
    if len({item.id for item in items}) < len(items) or len({item.name for item in items}) < len(items):
        raise DataError("has an id or a name twice; give each class its own", path=file)
    return items, schema


# ---------------------------------------------------------------- one shard


def _members(file: Path, stream: BinaryIO) -> Iterator[Member]:
    return tar_members(stream, file.stat().st_size)


def _key(name: str) -> tuple[str, str]:
    """ "a/b.c.json" -> "a/b", "c.json": the key ends at the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + stem, kind.lower()


def _images(file: Path, split: str, names: ClassNames, skipped: Skipped) -> Iterator[tuple[Found, dict[str, Any]]]:
    """Each image of a shard that can be used, and its JSON."""
    pairs: dict[str, dict[str, Member]] = {}
    try:
        with file.open("rb") as stream:
            try:
                for member in _members(file, stream):
                    key, kind = _key(member.name)
                    if kind == "json" or kind in IMAGES:
                        pair = pairs.setdefault(key, {})
                        if pair.setdefault("json" if kind == "json" else "image", member) is not member:
                            skipped.add("second members of the same key", file, key, None, member.name)
            except DamagedTar as error:
                skipped.add("rests of damaged or truncated tar files", file, None, None, str(error))
            for key, pair in pairs.items():
                if len(pair) < 2:
                    missing = "an image" if "json" in pair else "a .json"
                    skipped.add(f"members without {missing} of the same key", file, key, None, f"{key}.*")
                elif made := _image(file, stream, split, key, pair, names, skipped):
                    yield made
    except OSError as error:
        raise DataError(f"cannot be read ({error})", path=file) from error


def _image(
    file: Path, stream: BinaryIO, split: str, key: str, pair: dict[str, Member], names: ClassNames, skipped: Skipped
) -> tuple[Found, dict[str, Any]] | None:
    try:
        content = _content(stream, pair["json"])
        annotations, image = content["annotations"] or [], content.get("image") or {}
        if not isinstance(annotations, list):
            raise TypeError(f"annotations {annotations!r:.50}")
        stated = image.get("height"), image.get("width")
    except (*_MISFITS, RecursionError) as error:
        skipped.add(_WRONG, file, key, None, f"{type(error).__name__}: {error}")
        return None
    span = Span(pair["image"].start, pair["image"].length)
    try:
        size = image_size(file, span)
    except DataError as error:
        skipped.add("images that cannot be opened", file, key, None, error.message)
        return None
    if None not in stated and stated != size:
        value = f"{stated[1]!r:.20}x{stated[0]!r:.20} stated, {size[1]}x{size[0]} in the file"
        skipped.add("images whose stated size is not that of their file", file, key, None, value, verb="kept")
    objects = [made for a in annotations if (made := _object(a, size, file, key, names, skipped))]
    return Found(file, size, objects, split, span), content


def _content(stream: BinaryIO, member: Member) -> dict[str, Any]:
    if member.length > LARGEST_JSON:
        raise ValueError(f"{member.length} bytes of JSON")
    stream.seek(member.start)
    content = json.loads(stream.read(member.length))
    if not isinstance(content, dict):
        raise TypeError(f"{content!r:.50}")
    return content


def _object(
    annotation: Any, size: tuple[int, int], file: Path, key: str, names: ClassNames, skipped: Skipped
) -> Object | None:
    number = annotation.get("id") if isinstance(annotation, dict) else None
    try:
        mask, problem = mask_of(annotation.get("segmentation"), size)
        box = None if problem else box_of(annotation, mask, size)
        if not problem and box is None:
            problem = "boxes of zero area or outside the image", f"bbox {annotation.get('bbox')!r:.60}"
        area, crowd = float(annotation.get("area") or 0), bool(annotation.get("iscrowd", 0))
        text, label = _class(annotation)
        rings = len(annotation["segmentation"]) - len(mask.rings) if isinstance(mask, Polygons) else 0
    except (Odd, *_MISFITS):
        problem = ODD, f"{annotation!r:.100}"
    if problem:
        skipped.add(problem[0], file, key, number, problem[1])
        return None
    if rings:
        skipped.add(SHORT_RINGS, file, key, number, f"{rings} rings")
    name = names.name(text, label) or names.name("object", None)
    return Object(name, mask, box, crowd, area, number if _is_id(number) else None)


def _keypoints(content: dict[str, Any]) -> Rows:
    """By annotation id: objects without one keep none."""
    rows: Rows = {}
    for annotation in content["annotations"] or []:
        if isinstance(annotation, dict) and _is_id(annotation.get("id")):
            try:
                with np.errstate(over="ignore"):  # what becomes infinite is left out later
                    rows[annotation["id"]] = np.array(annotation["keypoints"], np.float32).reshape(-1, 3)
            except _MISFITS:
                continue
    return rows


def _class(annotation: dict[str, Any]) -> tuple[str, int | None]:
    """Name and id; either may be missing."""
    found = annotation.get("category", annotation.get("category_name"))
    if isinstance(found, dict):
        found = found.get("name")
    label = annotation.get("category_id")
    number = label if isinstance(label, int) and abs(label) < 1 << 31 else None
    return ("" if found is None else str(found)), number


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
