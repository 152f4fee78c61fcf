"""Objects behind others: which pixels an object fills, and what is left of those that are covered.

One full-size array says what is covered; each object is looked at in its own box.
"""

from __future__ import annotations

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.bounds import file_to_rle
from maskrcnn.data.objects import MIN_VISIBLE, Objects, Shape
from maskrcnn.ops.masks import crop_masks
from maskrcnn.ops.rle import decode_window, polygons_to_rle
from maskrcnn.structures import MaskFile, Polygons

Window = tuple[int, int, int, int]
"""(y0, x0, y1, x1), whole pixels of the input frame."""


def covered_by(objects: Objects, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, input frame: pixels that any of the objects fills."""
    covered = np.zeros(size, bool)
    for shape, box in zip(objects.shapes, objects.boxes, strict=True):
        y0, x0, y1, x1 = window = _around(box, size)
        covered[y0:y1, x0:x1] |= filled_pixels(shape, window)
    return covered


def behind(objects: Objects, covered: np.ndarray, data: DataConfig) -> Objects:
    """The objects without what `covered` (H, W) bool hides: masks and boxes of the rest, dropped below `MIN_VISIBLE`.

    Crowds stay as they are. Keypoints that are hidden stay, as labelled but not visible (1).
    """
    integral = np.zeros((covered.shape[0] + 1, covered.shape[1] + 1), np.int32)
    integral[1:, 1:] = covered.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    objects = objects.take(np.arange(len(objects)))  # a copy
    keep = np.ones(len(objects), bool)
    for index in np.flatnonzero(~objects.crowd).tolist():
        box = objects.boxes[index]
        y0, x0, y1, x1 = window = _around(box, covered.shape)
        if not integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]:
            continue
        filled = filled_pixels(objects.shapes[index], window)
        left = filled & ~covered[y0:y1, x0:x1]
        if left.sum() == filled.sum():
            continue
        rest = _rest(left, box, window)
        keep[index] = left.sum() >= MIN_VISIBLE * filled.sum() and (rest[2:] - rest[:2]).min() >= data.min_box_side
        if keep[index]:
            objects.boxes[index] = rest
            objects.masks[index] = _crop(objects.shapes[index], rest, objects.masks.shape[1], integral)
    if objects.keypoints is not None:
        _hide(objects.keypoints, covered)
    return objects if keep.all() else objects.take(np.flatnonzero(keep))


def filled_pixels(shape: Shape, window: Window) -> np.ndarray:
    """(h, w) bool: the pixels of the window, input frame, that the object fills (by their centres)."""
    top, left, bottom, right = window
    affine, mask = shape.to_original, shape.mask
    if isinstance(mask, Polygons):
        forth = np.linalg.inv(affine[:, :2])
        rings = [(ring - affine[:, 2]) @ forth.T - [left, top] for ring in mask.rings]
        return coco_mask.decode(polygons_to_rle(rings, (bottom - top, right - left))).astype(bool)
    rle = file_to_rle(mask, shape.size) if isinstance(mask, MaskFile) else mask
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
    column = np.floor(affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]).astype(np.int64)
    row = np.floor(affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]).astype(np.int64)
    inside = (column >= 0) & (column < shape.size[1]) & (row >= 0) & (row < shape.size[0])
    if not inside.any():
        return inside
    row, column = row.clip(0, shape.size[0] - 1), column.clip(0, shape.size[1] - 1)
    y0, x0 = int(row.min()), int(column.min())
    source = decode_window({"size": rle.size, "counts": rle.counts}, y0, x0, int(row.max()) + 1, int(column.max()) + 1)
    return source[row - y0, column - x0] & inside


def _around(box: np.ndarray, size: tuple[int, ...]) -> Window:
    """Whole pixels that the box touches."""
    x0, y0 = np.floor(box[:2]).astype(int).tolist()
    x1, y1 = np.ceil(box[2:]).astype(int).tolist()
    return max(y0, 0), max(x0, 0), min(y1, size[0]), min(x1, size[1])


def _rest(left: np.ndarray, box: np.ndarray, window: Window) -> np.ndarray:
    """(4,) float32: the box around the pixels that are left, within the box that it was."""
    rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
    if not len(rows):
        return np.zeros(4, np.float32)
    top, start = window[:2]
    tight = np.array([start + columns[0], top + rows[0], start + columns[-1] + 1, top + rows[-1] + 1], np.float32)
    return np.concatenate([np.maximum(tight[:2], box[:2]), np.minimum(tight[2:], box[2:])])


def _crop(shape: Shape, box: np.ndarray, cells: int, integral: np.ndarray) -> np.ndarray:
    """(S, S) uint8: the object in its box, each cell less the part of it that is covered."""
    crop = crop_masks([shape.mask], box[None], shape.to_original, cells, shape.size)[0]
    x, y = (np.linspace(box[axis], box[axis + 2], cells + 1, dtype=np.float64) for axis in (0, 1))
    part = np.diff(np.diff(_read(integral, y, x), axis=0), axis=1) / ((x[1] - x[0]) * (y[1] - y[0]))
    return np.round(crop * (1 - part.clip(0, 1))).astype(np.uint8)


def _read(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values (H, W) read between their points, bilinear, at all pairs of rows y (h,) and columns x (w,): (h, w)."""
    top, left = (np.clip(np.floor(at).astype(int), 0, n - 2) for at, n in zip((y, x), values.shape, strict=True))
    down, right = (y - top)[:, None], x - left
    upper = values[np.ix_(top, left)] * (1 - right) + values[np.ix_(top, left + 1)] * right
    lower = values[np.ix_(top + 1, left)] * (1 - right) + values[np.ix_(top + 1, left + 1)] * right
    return upper * (1 - down) + lower * down


def _hide(keypoints: np.ndarray, covered: np.ndarray) -> None:
    """In place: visible points (2) on covered pixels become hidden ones (1)."""
    column = np.clip(keypoints[..., 0].astype(int), 0, covered.shape[1] - 1)
    row = np.clip(keypoints[..., 1].astype(int), 0, covered.shape[0] - 1)
    hidden = covered[row, column] & (keypoints[..., 2] > 1)
    keypoints[hidden, 2] = 1
