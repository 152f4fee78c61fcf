"""What a placement shows of a mask: the tight box around it, and its part of the whole. No full-size arrays."""

from __future__ import annotations

from collections.abc import Sequence

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.placement import Placement
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from maskrcnn.ops.rle import decode_window, rle_area, window_to_rle
from maskrcnn.structures import RLE, MaskFile, Polygons

_STRIP_PIXELS = 4_000_000


def shown_polygon(mask: Polygons, placement: Placement) -> tuple[np.ndarray, float]:
    """Box (4,) float64, input frame, around what the content shows of the rings, and the part of the area it shows."""
    if placement.angle:
        rings = [placement.to_input(ring) for ring in mask.rings]
        return _ring_bounds(rings, (0, 0, *placement.size))
    bounds, part = _ring_bounds(mask.rings, placement.window)
    return boxes_to_input(bounds[None], placement)[0], part


def shown_pixels(mask: RLE, placement: Placement) -> tuple[np.ndarray, float]:
    """The same for run lengths, by the object's pixels; one whose centre is shown counts as shown."""
    rle = {"size": list(mask.size), "counts": mask.counts}
    total = rle_area(rle)
    x, y, width, height = (int(v) for v in coco_mask.to_bbox(rle))
    top, left, bottom, right = y, x, y + height, x + width
    if not placement.angle:
        y0, x0, y1, x1 = placement.window
        top, left, bottom, right = max(top, y0), max(left, x0), min(bottom, y1), min(right, x1)
    if not total or top >= bottom or left >= right:
        return np.zeros(4), 0.0
    pixels = decode_window(rle, top, left, bottom, right)
    if placement.angle:
        return _turned_bounds(pixels, top, left, placement, total)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return np.zeros(4), 0.0
    tight = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1.0])
    return boxes_to_input(tight[None], placement)[0], np.count_nonzero(pixels) / total


def file_to_rle(mask: MaskFile, size: tuple[int, int]) -> RLE:
    """A mask image of the frame `size`, read once. Raises `DataError`: it cannot be read, or has another size."""
    pixels = load_mask_file(mask)
    if pixels.shape != size:
        raise DataError(
            f"the mask is {pixels.shape[1]} x {pixels.shape[0]}, its image {size[1]} x {size[0]}; make them equal",
            path=mask.path,
        )
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    top, left = (int(rows[0]), int(columns[0])) if len(rows) else (0, 0)
    window = pixels[top : rows[-1] + 1, left : columns[-1] + 1] if len(rows) else pixels[:0, :0]
    return RLE(size, window_to_rle(window, top, left, size)["counts"])


def boxes_to_input(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """(N, 4) original frame -> (N, 4) float64 input frame, corners in order, not clipped.

    A rotated box becomes the box around the rotated ellipse inside it: nearer to what objects look like than the box
    around the rotated corners (Kalra 2021).
    """
    if placement.angle:
        linear = np.abs(np.linalg.inv(placement.to_original[:, :2]))
        wide = boxes.astype(np.float64)
        centre = placement.to_input((wide[:, :2] + wide[:, 2:]) / 2)
        half = np.sqrt(((wide[:, 2:] - wide[:, :2]) / 2) ** 2 @ (linear**2).T)
        return np.concatenate([centre - half, centre + half], axis=1)
    corners = placement.to_input(boxes.reshape(-1, 2, 2))  # (N, corner, xy)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def touches(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """(N,) bool: whether any part of these boxes, original frame, may show; generous when rotated."""
    corners = placement.to_input(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])  # (N, 4, xy)
    low, high = corners.min(axis=1), corners.max(axis=1)
    return ((low < np.array(placement.size[::-1])) & (high > 0)).all(axis=1)


def _turned_bounds(
    pixels: np.ndarray, top: int, left: int, placement: Placement, total: int
) -> tuple[np.ndarray, float]:
    """Bounds of rotated pixels (h, w) that lie at (top, left) of the original.

    Along a row of pixels x and y of the input frame grow or fall steadily: the first and the last pixel of each row
    that the content shows are all that is needed.
    """
    forth = np.linalg.inv(placement.to_original[:, :2])
    rows, shown = max(1, _STRIP_PIXELS // pixels.shape[1]), 0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for start in range(0, len(pixels), rows):
        strip = pixels[start : start + rows]
        y = top + start + np.arange(len(strip)) + 0.5
        first, stop = _shown_columns(y, left, strip.shape[1], placement)
        column = np.arange(strip.shape[1])
        seen = strip & (column >= first[:, None]) & (column < stop[:, None])
        used = np.flatnonzero(seen.any(axis=1))
        if not len(used):
            continue
        shown += int(np.count_nonzero(seen))
        ends = np.stack([seen[used].argmax(axis=1), strip.shape[1] - 1 - seen[used, ::-1].argmax(axis=1)])  # (2, rows)
        points = placement.to_input(np.stack([left + ends + 0.5, np.broadcast_to(y[used], ends.shape)], axis=-1))
        low, high = np.minimum(low, points.min(axis=(0, 1))), np.maximum(high, points.max(axis=(0, 1)))
    if not shown:
        return np.zeros(4), 0.0
    half = 0.5 * np.abs(forth).sum(axis=1)  # of one rotated pixel
    return np.concatenate([low - half, high + half]), shown / total


def _shown_columns(y: np.ndarray, left: int, width: int, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Rows with centres y (R,): from which column (R,), counted from `left`, up to which their centres are shown."""
    forth = np.linalg.inv(placement.to_original[:, :2])
    shift = -forth @ placement.to_original[:, 2]
    first, stop = np.full(len(y), -np.inf), np.full(len(y), np.inf)
    for axis, limit in ((0, placement.size[1]), (1, placement.size[0])):
        slope = forth[axis, 0] if abs(forth[axis, 0]) > 1e-12 else 1e-12  # parallel: all of a row or nothing
        rest = forth[axis, 1] * y + shift[axis]
        ends = np.sort(np.stack([-rest / slope, (limit - rest) / slope]), axis=0)
        first, stop = np.maximum(first, ends[0]), np.minimum(stop, ends[1])
    columns = np.ceil(np.clip(np.stack([first, stop]) - left - 0.5, -1, width + 1)).astype(np.int64)
    return columns[0], columns[1]


def _ring_bounds(rings: Sequence[np.ndarray], window: tuple[int, int, int, int]) -> tuple[np.ndarray, float]:
    """Box (4,) around what the window (y0, x0, y1, x1) shows of the rings, and the part of the area it shows."""
    y0, x0, y1, x1 = window
    total, shown, points = 0.0, 0.0, []
    for ring in rings:
        clipped = np.asarray(ring, np.float64)
        total += _ring_area(clipped)
        for axis, limit, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
            clipped = _clip_ring(clipped, axis, limit, sign)
        shown += _ring_area(clipped)
        points.append(clipped)
    corners = np.concatenate([*points, np.zeros((0, 2))])
    if shown <= 0 or len(corners) == 0:
        return np.zeros(4), 0.0
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]), min(shown / total, 1.0) if total > 0 else 1.0


def _clip_ring(ring: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """Sutherland-Hodgman: the part of ring (P, 2) where `sign * (coordinate - limit) >= 0`."""
    if len(ring) == 0:
        return ring
    following = np.roll(ring, -1, axis=0)
    side, side_next = sign * (ring[:, axis] - limit), sign * (following[:, axis] - limit)
    crosses = (side >= 0) != (side_next >= 0)
    fraction = side / np.where(crosses, side - side_next, 1.0)
    crossing = ring + fraction[:, None] * (following - ring)
    both = np.stack([ring, crossing], axis=1)  # (P, 2, 2): each point, then where its edge crosses the line
    return both[np.stack([side >= 0, crosses], axis=1)]


def _ring_area(ring: np.ndarray) -> float:
    if len(ring) < 3:
        return 0.0
    x, y = (ring - ring[0]).T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
