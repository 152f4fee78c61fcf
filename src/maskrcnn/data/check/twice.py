"""What is there twice: annotations of one object, and images with the same pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.check.outlines import box_iou, rounded
from maskrcnn.data.check.problem import DROP_OBJECT, Places, Problem
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.structures import MaskFile, Polygons, Record

SAME_BOX = 0.99  # IoU
SAME_MASK = 0.95  # IoU; two things may share a box, as crossed sticks do
CHAIN = 8  # masks that share a box and are told apart; copies of later ones may go unseen
REACH = 1000  # neighbours in the order of their left sides that an annotation is compared with


def check_twins(dataset: Dataset, places: Places, decode: bool) -> Iterator[Problem]:
    """Annotations of one image, of one class, with the same box and the same mask; the first is kept.

    Args:
        decode: also compare masks that lie in files; without, such objects are taken for different.
    """
    table = dataset.table
    boxes = table.boxes
    first, second = _same_boxes(boxes, table.image_of, table.labels, table.crowd)
    if not len(first):
        return
    known: tuple[int, Record | None] = (-1, None)
    starts = np.cumsum(table.counts) - table.counts
    dropped: set[int] = set()
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        row = int(table.image_of[one])
        if known[0] != row:
            known = row, dataset[row]
        record = known[1]
        assert record is not None
        if one in dropped or other in dropped or not _same_mask(record, one - starts[row], other - starts[row], decode):
            continue
        dropped.add(other)
        message = f"box {rounded(boxes[other])} and class are those of annotation {table.annotation_ids[one]}"
        yield Problem("duplicate annotation", message, repair=DROP_OBJECT, **places.object(other))


def _same_boxes(
    boxes: np.ndarray, images: np.ndarray, labels: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (first, second) of objects of one image and class whose boxes agree, by image."""
    sound = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1) & np.isfinite(boxes).all(axis=1))
    order = sound[np.lexsort((sound, boxes[sound, 0], crowd[sound], labels[sound], images[sound]))]
    sorted_boxes, left = boxes[order], boxes[order, 0]
    group = np.stack([images[order], labels[order], crowd[order]], axis=1)
    # Left sides of boxes that agree are within a hundredth of the width; so each looks at a few neighbours only.
    near = (1 - SAME_BOX) / SAME_BOX * (sorted_boxes[:, 2] - left)
    going, copied, pairs = np.arange(len(order)), np.zeros(len(order), np.int64), []
    for step in range(1, REACH):
        going = going[going + step < len(order)]
        close = (group[going] == group[going + step]).all(axis=1) & (left[going + step] - left[going] <= near[going])
        going = going[close]
        if not len(going):
            break
        same = going[box_iou(sorted_boxes[going], sorted_boxes[going + step]) > SAME_BOX]
        pairs.append(np.stack([order[same], order[same + step]], axis=1))
        # Copies of a copy are found from the first ones: a thousand copies do not make a million pairs.
        copied[same + step] += 1
        going = going[copied[going] < CHAIN]
    found = np.sort(np.concatenate([np.zeros((0, 2), np.int64), *pairs]), axis=1)
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    return found[:, 0], found[:, 1]


def _same_mask(record: Record, one: int, other: int, decode: bool) -> bool:
    if len(record.masks) != len(record):
        return True
    a, b = record.masks[one], record.masks[other]
    if isinstance(a, Polygons) and isinstance(b, Polygons) and len(a.rings) == len(b.rings):
        if all(np.array_equal(ring, twin) for ring, twin in zip(a.rings, b.rings, strict=True)):
            return True
    elif a == b:
        return True
    if not decode and (isinstance(a, MaskFile) or isinstance(b, MaskFile)):
        return False
    try:
        rles = [mask_to_rle(mask, record.size) for mask in (a, b)]
    except DataError:
        return False  # reported with the other files
    if tuple(rles[0]["size"]) != tuple(rles[1]["size"]):
        return False
    return float(coco_mask.iou([rles[0]], [rles[1]], [False])[0][0]) > SAME_MASK


def check_copies(digests: Mapping[int, bytes], splits: np.ndarray, places: Places) -> Iterator[Problem]:
    """Images with the same decoded pixels, each named with the first of them; worst where a split leaks into another.

    Args:
        digests: hash of the pixels of each row that could be read.
        splits: (R,) str.
    """
    first: dict[bytes, int] = {}
    for row, digest in sorted(digests.items()):
        one = first.setdefault(digest, row)
        if one == row:
            continue
        where, path = places.image(row), places.image(one)["path"]
        if splits[one] == splits[row]:
            message = f"has the pixels of {path}, image {places.image(one)['image']}; remove one"
            yield Problem("duplicate image", message, severity="warning", **where)
        else:
            message = f"in {splits[row] or 'no split'} has the pixels of {path} in {splits[one] or 'no split'}"
            advice = "; remove one, or scores say too much"
            yield Problem("image in two splits", message + advice, severity="warning", **where)
