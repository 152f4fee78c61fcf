"""What a format cannot hold, counted object by object; and masks as every writer needs them."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.keypoint_rows import keypoint_schema
from maskrcnn.data.formats.layout import SPLITS
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.ops.rle import rle_area
from maskrcnn.structures import Polygons, Record

BOX_CLOSE = 0.5
"""Pixels that a side of a box may move without being counted: files round boxes to hundredths."""
AREA_CLOSE = 0.01
"""Part of an area that may be lost or won without being counted: an outline's area and its pixels differ."""

_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")


def full_rle(record: Record, index: int) -> dict:
    """RLE of an object's mask in the frame of its image. Raises `DataError`: it has another size, or is unreadable."""
    rle = mask_to_rle(record.masks[index], record.size)
    if tuple(rle["size"]) != record.size:
        height, width = rle["size"]
        message = f"a mask has {width}x{height} pixels, its image {record.width}x{record.height}; mend one of the two"
        raise DataError(message, path=record.path, image=record.image_id, annotation=number_of(record, index))
    return rle


def segmentation_of(record: Record, index: int) -> list[list[float]] | dict[str, Any]:
    """COCO's JSON of an object's mask: its rings, or compressed RLE. Raises `DataError` as `full_rle`."""
    mask = record.masks[index]
    if isinstance(mask, Polygons):
        return [ring.ravel().tolist() for ring in mask.rings]
    counts = full_rle(record, index)["counts"]
    return {"size": list(record.size), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def number_of(record: Record, index: int) -> int:
    """The annotation's id."""
    return int(record.annotation_ids[index])


def note(lost: Skipped, verb: str, kind: str, record: Record, index: int | None, value: str) -> None:
    """Count an image, or one of its objects: "left out 3 crowds"."""
    number = None if index is None else number_of(record, index)
    lost.add(kind, record.path, record.image_id, number, value, verb)


def split_of(record: Record, lost: Skipped) -> str:
    """The split, "" for one that readers do not know."""
    if record.split in ("", *SPLITS.values()):
        return record.split
    note(lost, "kept", "images without their split, which is none of train, val, test", record, None, record.split)
    return ""


def plain_names(dataset: Dataset, lost: Skipped, reserved: Sequence[str] = ()) -> list[str]:
    """Class names for text files: without white space around and control characters, none of `reserved`, each once."""
    names: list[str] = []
    for name in dataset.classes:
        plain = _UNPRINTABLE.sub(" ", name).strip() or "object"
        free, number = plain, 1
        while free in names or free in reserved:
            number += 1
            free = f"{plain} {number}"
        names.append(free)
        if free != name:
            lost.add("classes", Path(dataset.name), None, None, f"{name!r} is now {free!r}", "renamed")
    return names


def note_pairs(dataset: Dataset, lost: Skipped) -> None:
    """Count left-right pairs of keypoints, for a format from whose names readers have to guess them."""
    schema = dataset.keypoints
    if schema is None:
        return
    told = keypoint_schema(schema.names)
    pairs = set(schema.flip_pairs) - set(told.flip_pairs if told else ())
    if pairs:
        value = " and ".join(schema.names[i] for i in min(pairs))
        kind = "pairs of keypoints whose names do not say left and right"
        lost.add(kind, Path(dataset.name), None, None, value, "left out", len(pairs))


def note_outlines(record: Record, lost: Skipped) -> None:
    """Count outlines, for a format that has pixels only."""
    for index, mask in enumerate(record.masks):
        if isinstance(mask, Polygons):
            note(lost, "drew", "outlines as pixels", record, index, f"{len(mask.rings)} rings")


def rows_of_splits(dataset: Dataset, lost: Skipped) -> dict[str, list[int]]:
    """Rows of each split, "" for images whose split readers do not know."""
    rows: dict[str, list[int]] = {}
    for row, record in enumerate(dataset):
        rows.setdefault(split_of(record, lost), []).append(row)
    return rows


def note_ids(dataset: Dataset, lost: Skipped, *, unused: bool) -> None:
    """Count the ids, for a format that has none, and classes without objects where the format drops the `unused`."""
    path = Path(dataset.name)
    ids = [(old, new) for new, old in enumerate(dataset.category_ids, 1) if old != new]
    if ids:
        value = f"{ids[0][0]} becomes {ids[0][1]}"
        lost.add("category ids", path, None, None, value, "renumbered", len(ids))
    for kind, numbers in (("image ids", dataset.table.image_ids), ("annotation ids", dataset.table.annotation_ids)):
        if len(numbers):
            value = "a reader counts in its own order"
            lost.add(kind, path, None, None, value, "left out", len(numbers))
    if unused:
        counts = np.bincount(dataset.table.labels, minlength=len(dataset.classes))
        names = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
        if names:
            lost.add("classes without objects", path, None, None, repr(names[0]), "left out", len(names))


def note_objects(record: Record, kept: Sequence[int], holds: Set[str], lost: Skipped) -> None:
    """Count what the written objects of an image lose.

    Args:
        kept: indices of the objects that are written.
        holds: which of "boxes", "outlines" the format has beside masks.
    """
    for index in kept:
        if record.keypoints is not None and (record.keypoints[index, :, 2] > 0).any():
            note(lost, "left out", "sets of keypoints", record, index, "the format has no place for them")
        if record.masks:
            _note_mask(record, index, holds, lost)
        else:
            _note_area(record, index, _box_area(record, index), lost)


def _note_mask(record: Record, index: int, holds: Set[str], lost: Skipped) -> None:
    mask, rle = record.masks[index], full_rle(record, index)
    outlined = isinstance(mask, Polygons) and "outlines" in holds
    if isinstance(mask, Polygons) and not outlined:
        note(lost, "drew", "outlines as pixels", record, index, f"{len(mask.rings)} rings")
    if "boxes" not in holds:
        x, y, width, height = coco_mask.to_bbox(rle)
        found = np.array([x, y, x + width, y + height])
        if outlined and isinstance(mask, Polygons):
            points = np.concatenate(mask.rings)
            found = np.concatenate([points.min(axis=0), points.max(axis=0)])
        found = np.clip(found, 0, [record.width, record.height] * 2)
        if np.abs(found - record.boxes[index]).max() > BOX_CLOSE:
            value = f"{record.boxes[index].round(2).tolist()} becomes {found.round(2).tolist()}"
            note(lost, "took", "boxes from the masks", record, index, value)
    _note_area(record, index, rle_area(rle) or _box_area(record, index), lost)


def _note_area(record: Record, index: int, new: float, lost: Skipped) -> None:
    old = float(record.areas[index])
    if abs(old - new) > AREA_CLOSE * old:
        note(lost, "counted", "areas anew", record, index, f"{old:g} becomes {new:g}")


def _box_area(record: Record, index: int) -> float:
    x0, y0, x1, y1 = record.boxes[index].tolist()
    return (x1 - x0) * (y1 - y0)
