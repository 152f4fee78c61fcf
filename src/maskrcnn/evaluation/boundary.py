"""Boundary IoU of masks: only pixels near the outlines count. Source: Cheng et al., Boundary IoU, CVPR 2021.

AP of instances takes the lesser of mask IoU and boundary IoU of a pair, as the authors' evaluation does. So a pair
whose masks overlap too little is not looked at, and no mask is decoded beyond its own box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Pairs
from maskrcnn.ops.rle import decode_window

_SMALL_FRAME = 1 << 21  # pixels up to which decoding the whole frame is faster than looking at its runs
DILATION_RATIO = 0.02
"""Width of the band inside the outline, as a part of the image's diagonal; the paper's value for instances."""


def boundary_pairs(
    truth: Items, found: Items, pairs: Pairs, *, ratio: float = DILATION_RATIO, least: float = 0.5
) -> Pairs:
    """Pairs whose lesser of mask IoU and boundary IoU may reach `least`, with that IoU. Crowds keep the mask's.

    Args:
        truth, found: objects and results with masks.
        pairs: pairs with their mask IoU; those of two classes are left out.
        ratio: width of the band.
        least: the lowest threshold of the evaluation.
    """
    if truth.rles is None or found.rles is None:
        raise ValueError("boundaries are measured where truth and results have masks")
    pairs = pairs.take((found.labels[pairs.found] == truth.labels[pairs.truth]) & (pairs.iou >= least))
    iou = pairs.iou.copy()
    for start, end in _by_image(found.images[pairs.found]):
        true_masks: dict[int, _Boundary] = {}
        found_masks: dict[int, _Boundary] = {}
        for row in range(start, end):
            result, object_ = int(pairs.found[row]), int(pairs.truth[row])
            if truth.crowd[object_]:
                continue
            if object_ not in true_masks:
                true_masks[object_] = _Boundary(truth.rles[object_], ratio)
            if result not in found_masks:
                found_masks[result] = _Boundary(found.rles[result], ratio)
            iou[row] = min(iou[row], found_masks[result].iou(true_masks[object_], float(iou[row])))
    return Pairs(pairs.found, pairs.truth, iou)


def mask_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool -> (H, W) bool: pixels of the mask at most `width` rows and columns from one that is not in it.

    What lies outside the array is not in the mask. Equal to the mask without its `width`-fold erosion by 3 x 3 pixels.
    """
    return mask & ~_erode(_erode(mask, width).T, width).T


def _erode(mask: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: rows i with all of mask[i - width : i + width + 1], by doubling."""
    rows = len(mask)
    if rows <= 2 * width:
        return np.zeros_like(mask)
    window, length = mask, 1  # window[i]: all of mask[i : i + length]
    while length < 2 * width + 1:
        step = min(length, 2 * width + 1 - length)
        window = window[:-step] & window[step:]
        length += step
    kept = np.zeros_like(mask)
    kept[width : rows - width] = window
    return kept


class _Boundary:
    """The boundary of one mask inside the mask's own box."""

    def __init__(self, rle: dict, ratio: float) -> None:
        height, width = rle["size"]
        band = max(1, round(ratio * math.hypot(height, width)))
        left, top, wide, high = (int(side) for side in coco_mask.to_bbox(rle))
        self.box = top, left, top + high, left + wide
        if height * width <= _SMALL_FRAME:
            mask = coco_mask.decode(rle)[top : top + high, left : left + wide].astype(bool, order="C")
        else:
            mask = decode_window(rle, *self.box)
        self.whole = min(high, wide) <= 2 * band
        """The boundary is the mask."""
        self.pixels = mask if self.whole else mask_boundary(mask, band)
        self.area = int(np.count_nonzero(self.pixels))

    def iou(self, other: _Boundary, of_masks: float) -> float:
        """Boundary IoU; `of_masks` is that of the masks, which is the answer where both are thin."""
        if self.whole and other.whole:
            return of_masks
        top, left = max(self.box[0], other.box[0]), max(self.box[1], other.box[1])
        bottom, right = min(self.box[2], other.box[2]), min(self.box[3], other.box[3])
        if top >= bottom or left >= right:
            return 0.0
        both = self._window(top, left, bottom, right) & other._window(top, left, bottom, right)
        common = int(np.count_nonzero(both))
        return common / (self.area + other.area - common)

    def _window(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        y, x = self.box[:2]
        return self.pixels[top - y : bottom - y, left - x : right - x]


def _by_image(images: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows of one image each."""
    edges = [0, *(np.flatnonzero(np.diff(images)) + 1).tolist(), len(images)]
    for start, end in pairwise(edges):
        if start < end:
            yield start, end
