"""COCO's `segmentation` in all its spellings: polygons, compressed and plain run lengths."""

from __future__ import annotations

from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.layout import MOST_PIXELS
from maskrcnn.ops.rle import parse_counts
from maskrcnn.structures import RLE, Mask, Polygons

Trouble = tuple[str, str]
"""(kind, value) for `Skipped.add`."""
OTHER_SIZE = "masks of another size than their image"
WILD = "polygons with wild coordinates"
FEW_POINTS = "polygons of fewer than three points"
RUNS = "masks whose runs do not fill the image"

_WRONG = (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError)


class Odd(ValueError):
    """The value is not as COCO writes it."""


def mask_of(segmentation: Any, size: tuple[int, int]) -> tuple[Mask | None, Trouble | None]:
    """The mask of an image of `size`, or what is wrong with it; (None, None) where there is none.

    Raises:
        Odd: neither polygons nor RLE.
    """
    if not segmentation:
        return None, None
    if isinstance(segmentation, dict):
        rle, trouble = rle_of(segmentation)
        if rle is not None and rle.size != size:
            return None, (OTHER_SIZE, f"size {list(rle.size)} instead of {list(size)}")
        return rle, trouble
    try:
        whole = whole_rings(segmentation)
        if not whole:
            return None, (FEW_POINTS, f"{len(segmentation[0])} numbers")
        rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in whole]
    except _WRONG as error:
        raise Odd from error
    if not all((np.abs(ring) < MOST_PIXELS).all() for ring in rings):  # NaN fails too
        return None, (WILD, f"{max(np.abs(ring).max() for ring in rings)}")
    return Polygons(tuple(rings)), None


def whole_rings(segmentation: Any) -> list[Any]:
    """The rings of at least three points. Raises `Odd` where it is no list of lists."""
    if not isinstance(segmentation, list):
        raise Odd
    try:
        return [ring for ring in segmentation if len(ring) >= 6 and len(ring) % 2 == 0]
    except TypeError as error:
        raise Odd from error


def rle_of(segmentation: dict[str, Any]) -> tuple[RLE | None, Trouble | None]:
    """The mask as it says of itself, its runs checked: a broken string must not reach the decoder."""
    try:
        size = height, width = tuple(segmentation.get("size") or ())
        if not (type(height) is type(width) is int and 0 < min(size) <= max(size) < MOST_PIXELS):
            return None, (OTHER_SIZE, f"size {list(size)}")
        counts = segmentation.get("counts", b"")
        if isinstance(counts, list):
            if sum(counts) != height * width or min(counts, default=0) < 0:
                return None, (RUNS, f"sum {sum(counts)}")
            counts = coco_mask.fr_py_objects({"size": [height, width], "counts": counts}, height, width)["counts"]
        if not isinstance(counts, (str, bytes)):  # `bytes` of a number would be as many zeros
            raise Odd
        text = counts.encode() if isinstance(counts, str) else counts
        runs = parse_counts(text)
        if len(text) > 8 * MOST_PIXELS or (runs < 0).any() or runs.sum() != height * width:
            return None, (RUNS, f"sum {runs.sum()}")
        coco_mask.area({"size": [height, width], "counts": text})  # numbers that are longer than they need be
    except _WRONG as error:
        raise Odd from error
    return RLE((height, width), text), None


def box_of(annotation: dict[str, Any], mask: Mask | None, size: tuple[int, int]) -> list[float] | None:
    """x0, y0, x1, y1: the given box, or that of the mask; cut to the image; None when nothing is left.

    Raises:
        Odd: not four numbers.
    """
    try:
        if box := annotation.get("bbox"):
            x, y, w, h = map(float, box)
        elif isinstance(mask, Polygons):
            points = np.concatenate(mask.rings)
            (x, y), (w, h) = points.min(axis=0), np.ptp(points, axis=0)
        elif isinstance(mask, RLE):
            x, y, w, h = coco_mask.to_bbox({"size": list(mask.size), "counts": mask.counts})
        else:
            return None
    except _WRONG as error:
        raise Odd from error
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, size[1]), min(y + h, size[0])
    return [x0, y0, x1, y1] if x1 > x0 and y1 > y0 else None  # NaN fails both
