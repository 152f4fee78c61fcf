"""COCO's annotations, once all images and categories are known -> columns of a `Table`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maskrcnn.data.formats.coco_masks import OTHER_SIZE, WILD
from maskrcnn.data.formats.coco_objects import Objects, number_of
from maskrcnn.data.formats.layout import MOST_PIXELS, ROUNDING
from maskrcnn.table.pack import NO_MASK, POLYGONS, RLES, Columns, ends_of, spans_of, text_of

UNKNOWN, LEFT_OUT = -1, -2
"""Rows of images that the file does not list, and of those that cannot be used."""
NO_AREA = "boxes of zero area or outside the image"
TWICE = "annotations that are there twice"
SAME_ID = "annotations whose id another one has"
REACHES_OUT = "boxes that reach beyond the image"
BOX_FOR_MASK = "objects without a mask, whose box stands in for it"
MISFIT = "keypoints that do not fit the skeleton, as not labelled"


def columns_of(
    found: Objects, rows: np.ndarray, label_of: Mapping[Any, int], sizes: np.ndarray, points: int, masks: bool
) -> Columns:
    """What a `Table` keeps of objects and masks, in the order of the images.

    Args:
        found: all annotations.
        rows: row of each image in `found.images`, or UNKNOWN or LEFT_OUT.
        label_of: label of each category id.
        sizes: (R, 2) height, width of the images.
        points: keypoints of each object; 0: none.
        masks: whether every object needs a mask; its box will do.
    """
    row = rows[_integers(found.image)]
    label = np.array([label_of.get(key, UNKNOWN) for key in found.categories], np.int64)[_integers(found.category)]
    size = np.concatenate([sizes, [[0, 0]]])[np.maximum(row, UNKNOWN)].astype(np.int64)  # (N, 2)
    boxes = _floats(found.box).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        cut = np.clip(boxes, 0, size[:, [1, 0, 1, 0]]).astype(np.float32)
    kinds, places = np.frombuffer(found.mask_kind, np.int8).copy(), _integers(found.mask_at).copy()
    keep = row != LEFT_OUT
    drop = _Drop(found, keep)
    image_ids, categories = list(found.images), list(found.categories)
    drop(row != UNKNOWN, "annotations of an unknown image", lambda i: f"image_id {image_ids[found.image[i]]}")
    drop(
        label != UNKNOWN, "annotations of an unknown category", lambda i: f"category_id {categories[found.category[i]]}"
    )
    stated = np.concatenate([_integers(found.rle_size).reshape(-1, 2), [[0, 0]]])
    drop(
        (kinds != RLES) | (stated[np.where(kinds == RLES, places, -1)] == size).all(axis=1), OTHER_SIZE,
        lambda i: f"size {stated[places[i]].tolist()} instead of {size[i].tolist()}",
    )  # fmt: skip
    drop(*_tame(found, kinds, places))
    drop(
        (cut[:, 2:] > cut[:, :2]).all(axis=1), NO_AREA,
        lambda i: f"bbox {_as_written(boxes[i])} in {size[i, 1]}x{size[i, 0]}",
    )  # fmt: skip
    drop(~_repeated(found, keep, row, label, boxes), TWICE, lambda i: f"id {found.ids[i]}")
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(row[kept], kind="stable")]
    beyond = (np.abs(boxes[kept] - cut[kept]) > ROUNDING).any(axis=1)
    drop.tell(kept[beyond], REACHES_OUT, lambda i: f"bbox {_as_written(boxes[i])} in {size[i, 1]}x{size[i, 0]}", "cut")
    polygons = _polygons(found)
    if masks:
        bare = kept[kinds[kept] == NO_MASK]
        drop.tell(bare, BOX_FOR_MASK, lambda i: f"box {cut[i].tolist()}", "kept")
        places[bare] = len(found.rings) + np.arange(len(bare))
        kinds[bare] = POLYGONS
        polygons = _with_boxes(polygons, cut[bare])
    masked = kept[kinds[kept] != NO_MASK]
    with np.errstate(over="ignore"):
        area = _floats(found.area).astype(np.float32)
    full = (cut[:, 2:] - cut[:, :2]).prod(axis=1)
    return {
        "objects": ends_of(np.bincount(row[kept], minlength=len(sizes))),
        "masks": ends_of(np.bincount(row[masked], minlength=len(sizes))),
        "boxes": cut[kept],
        "labels": label[kept],
        "crowd": np.frombuffer(found.crowd, np.int8)[kept] != 0,
        "areas": np.where((area > 0) & (area <= size.prod(axis=1)), area, full)[kept],
        "annotation_ids": _numbers(found, kept, drop),
        "keypoints": _keypoints(found, kept, points, drop),
        "mask_kind": kinds[masked],
        "mask_at": places[masked],
        **polygons,
        "rle_size": _integers(found.rle_size).reshape(-1, 2),
        "rle_ends": ends_of(_integers(found.rle_lengths)),
        "rle_bytes": np.frombuffer(bytes(found.rle_bytes), np.uint8),
        "file_value": np.zeros((0, 3), np.int64),
        "file_span": spans_of([]),
        **text_of("file_paths", []),
    }


class _Drop:
    """Leaves annotations out of `keep` (N,) bool, and counts them."""

    def __init__(self, found: Objects, keep: np.ndarray) -> None:
        self.found, self.keep = found, keep
        self._image_ids = list(found.images)

    def __call__(self, good: np.ndarray, kind: str, value: Callable[[int], str]) -> None:
        self.tell(np.flatnonzero(self.keep & ~good), kind, value)
        self.keep &= good

    def tell(self, which: np.ndarray, kind: str, value: Callable[[int], str], verb: str = "skipped") -> None:
        found = self.found
        for i in which[:1].tolist():
            image = self._image_ids[found.image[i]]
            found.skipped.add(kind, found.file, image, found.ids[i], value(i), verb, times=len(which))


def _tame(found: Objects, kinds: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, str, Callable[[int], str]]:
    """Which objects have no wild coordinates; kind and value for `_Drop`."""
    points = _floats(found.points)
    wild_points = np.flatnonzero(~(np.abs(points) < MOST_PIXELS)) // 2  # NaN is wild too
    rings = np.searchsorted(ends_of(_integers(found.ring_points)), wild_points, side="right") - 1
    polygons = np.searchsorted(ends_of(_integers(found.rings)), rings, side="right") - 1
    worst = dict(zip(polygons.tolist(), wild_points.tolist(), strict=True))
    good = ~((kinds == POLYGONS) & np.isin(places, polygons))
    return good, WILD, lambda i: f"{max(points[2 * worst[places[i]] :][:2], key=abs)}"


def _repeated(found: Objects, keep: np.ndarray, row: np.ndarray, label: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: annotations that say again what one before says, with the same id, image, class and box."""
    again = np.zeros(len(keep), bool)
    kept = np.flatnonzero(keep)
    names = {name: i for i, name in enumerate(dict.fromkeys(found.ids))}
    if len(names) == len(found.ids):
        return again
    name = np.array([names[n] for n in found.ids], np.float64)
    facts = np.column_stack([name, row, label, boxes])[kept]
    _, first = np.unique(facts, axis=0, return_index=True)
    again[kept] = True
    again[kept[first]] = False
    again[[i for i in kept.tolist() if found.ids[i] is None]] = False  # no id to compare
    return again


def _numbers(found: Objects, kept: np.ndarray, drop: _Drop) -> np.ndarray:
    """(N,) ids as integers; what has none, or one that is taken, gets the next that is free."""
    numbers = [number_of(found.ids[i]) for i in kept.tolist()]
    known = np.array([-1 if n is None else n for n in numbers], np.int64)
    first = np.zeros(len(known), bool)
    first[np.unique(known, return_index=True)[1]] = True
    missing = np.array([n is None for n in numbers], bool)
    drop.tell(kept[~first & ~missing & (known >= 0)], SAME_ID, lambda i: f"id {found.ids[i]}", "numbered anew")
    anew = missing | ~first
    known[anew] = max(0, known.max(initial=0)) + 1 + np.arange(anew.sum())
    return known


def _keypoints(found: Objects, kept: np.ndarray, points: int, drop: _Drop) -> np.ndarray:
    """(N, K, 3) float32; zeros, "not labelled", for objects without."""
    result = np.zeros((len(kept), points, 3), np.float32)
    lengths = _integers(found.keypoint_lengths)
    if not points or not lengths.any():
        return result
    starts, values = ends_of(lengths)[:-1][kept], _floats(found.keypoints)
    fits = lengths[kept] == 3 * points
    index = starts[fits][:, None] + np.arange(3 * points)
    result[fits] = np.clip(np.nan_to_num(values[index]), -MOST_PIXELS, MOST_PIXELS).reshape(-1, points, 3)
    misfits = kept[~fits & (lengths[kept] > 0)]
    drop.tell(misfits, MISFIT, lambda i: f"{lengths[i]} numbers for {points} points", "took")
    return result


def _polygons(found: Objects) -> Columns:
    return {
        "polygon_rings": ends_of(_integers(found.rings)),
        "ring_points": ends_of(_integers(found.ring_points)),
        "points": _floats(found.points).reshape(-1, 2),
    }


def _with_boxes(polygons: Columns, boxes: np.ndarray) -> Columns:
    """The same, with one rectangle more for each box (B, 4)."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].astype(np.float64).reshape(-1, 2)
    count = np.arange(1, len(boxes) + 1)
    rings, points = polygons["polygon_rings"], polygons["ring_points"]
    return {
        "polygon_rings": np.concatenate([rings, rings[-1] + count]),
        "ring_points": np.concatenate([points, points[-1] + 4 * count]),
        "points": np.concatenate([polygons["points"], corners]),
    }


def _as_written(box: np.ndarray) -> list[float] | None:
    """x, y, width, height."""
    if np.isnan(box).all():
        return None
    values = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    return [int(v) if v == np.floor(v) else float(np.round(v, 4)) for v in values]


def _integers(values: array) -> np.ndarray:
    return np.frombuffer(values, np.int64) if len(values) else np.zeros(0, np.int64)


def _floats(values: array) -> np.ndarray:
    return np.frombuffer(values, np.float64) if len(values) else np.zeros(0, np.float64)
