"""Polygons that cross themselves or lie outside, and boxes that do not fit theirs. No file is opened, nothing is drawn.

Works on the columns in pieces, so that millions of points cost seconds and little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskrcnn.data.check.problem import DROP_OBJECT, Places, Problem
from maskrcnn.table import Table
from maskrcnn.table.change import mask_places
from maskrcnn.table.pack import POLYGONS

MOST_POINTS = 2000  # of a ring that is tested for crossing: the test compares all pairs of sides
BEYOND = 2.0  # pixels that an outline may stick out of the image: tools differ by half a pixel or one
LEAST_IOU = 0.5  # of a box and the bounds of its mask
PIECE = 1 << 20  # points looked at in one go
PAIRS = 1 << 20  # pairs of sides compared in one go: 8 MB an array


@dataclass(frozen=True, slots=True)
class _Outlines:
    """Polygons of a table: `objects` (M,) counted through the table; `rings` (M, 2) first and last + 1, of which
    `points` (R, 2) tells the same in the table's points."""

    objects: np.ndarray
    rings: np.ndarray
    points: np.ndarray


def check_outlines(table: Table, places: Places) -> Iterator[Problem]:
    """Problems of all polygons; objects with other masks, or images whose masks and boxes do not pair up, have none."""
    skipped, all_boxes, crowd = 0, table.boxes, table.crowd
    for outlines in _pieces(table):
        bounds = _bounds(table, outlines)
        yield from _outside(table, outlines, bounds, places)
        boxes = all_boxes[outlines.objects]
        for at in np.flatnonzero(disagrees(boxes, bounds) & ~crowd[outlines.objects]).tolist():
            yield disagreement(boxes[at], bounds[at], **places.object(int(outlines.objects[at])))
        sides = outlines.points[:, 1] - outlines.points[:, 0]
        skipped += int((sides > MOST_POINTS).sum())
        owner = np.repeat(np.arange(len(outlines.objects)), np.diff(outlines.rings)[:, 0])
        for at, (x, y) in _first_crossings(table, outlines, owner):
            message = f"near ({x:.1f}, {y:.1f}); what is enclosed twice counts as outside; draw it again"
            where = places.object(int(outlines.objects[at]))
            yield Problem("outline crosses itself", message, severity="warning", **where)
    if skipped:
        message = f"{skipped} have more than {MOST_POINTS} points and were not tested for crossing themselves"
        yield Problem("long outlines", message, severity="warning")


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) IoU of (N, 4) boxes pair by pair; 0 where both have no area."""
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
        both = np.prod(np.maximum(sides, 0), axis=1, dtype=np.float64)
        union = _area(boxes) + _area(others) - both
        return both / np.where(union > 0, union, 1)


def disagrees(boxes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(N,) bool: which boxes (N, 4) do not fit their masks, which span `bounds` (N, 4). Boxes without an area, which
    are reported as such, do."""
    return (box_iou(boxes, bounds) < LEAST_IOU) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def disagreement(box: np.ndarray, bounds: np.ndarray, **where: object) -> Problem:
    """A box that does not fit its mask; both (4,)."""
    message = f"box {rounded(box)} but the mask spans {rounded(bounds)}; boxes='masks' takes boxes from masks"
    return Problem("box and mask disagree", message, severity="warning", **where)  # type: ignore[arg-type]


def rounded(box: np.ndarray) -> list[float]:
    """For messages."""
    return [round(value, 1) for value in np.asarray(box, np.float64).tolist()]


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1, dtype=np.float64)


# ---------------------------------------------------------------- from the columns


def _pieces(table: Table) -> Iterator[_Outlines]:
    columns = table.columns
    masks, objects = mask_places(table)
    is_polygon = columns["mask_kind"][masks] == POLYGONS
    objects, at = objects[is_polygon], columns["mask_at"][masks[is_polygon]]
    first, stop = (columns["ring_points"][columns["polygon_rings"][at + step]] for step in (0, 1))
    seen = np.cumsum(stop - first)
    cuts = np.flatnonzero(np.diff(seen // PIECE)) + 1
    for some, piece in zip(np.split(objects, cuts), np.split(at, cuts), strict=True):
        rings = np.stack([columns["polygon_rings"][piece], columns["polygon_rings"][piece + 1]], axis=1)
        ring = _ranges(rings)
        points = np.stack([columns["ring_points"][ring], columns["ring_points"][ring + 1]], axis=1)
        yield _Outlines(some, rings, points)


def _ranges(ends: np.ndarray) -> np.ndarray:
    """All numbers from first to last of each of (N, 2), one after the other."""
    lengths = ends[:, 1] - ends[:, 0]
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(ends[:, 0] - before, lengths)


def _bounds(table: Table, outlines: _Outlines) -> np.ndarray:
    """(M, 4) float64; NaN for an outline without points."""
    points = table.columns["points"][_ranges(outlines.points)]
    rings = np.diff(outlines.rings)[:, 0]
    owner = np.repeat(np.arange(len(rings)), rings)
    lengths = np.bincount(owner, outlines.points[:, 1] - outlines.points[:, 0], len(rings)).astype(np.int64)
    bounds = np.full((len(rings), 4), np.nan)
    filled = np.flatnonzero(lengths)
    if len(filled):
        starts = (np.cumsum(lengths) - lengths)[filled]
        bounds[filled, :2] = np.minimum.reduceat(points, starts)
        bounds[filled, 2:] = np.maximum.reduceat(points, starts)
    return bounds


def _outside(table: Table, outlines: _Outlines, bounds: np.ndarray, places: Places) -> Iterator[Problem]:
    sizes = table.sizes[table.image_of[outlines.objects]]
    width, height = sizes[:, 1], sizes[:, 0]
    gone = (bounds[:, 0] >= width) | (bounds[:, 1] >= height) | (bounds[:, 2:] <= 0).any(axis=1)
    out = np.stack([-bounds[:, 0], -bounds[:, 1], bounds[:, 2] - width, bounds[:, 3] - height], axis=1).max(axis=1)
    for at in np.flatnonzero(gone | (out > BEYOND)).tolist():
        where = places.object(int(outlines.objects[at]))
        spans = f"spans {rounded(bounds[at])} in {width[at]}x{height[at]}"
        if gone[at]:
            yield Problem("outline outside the image", f"{spans}; draw it again", repair=DROP_OBJECT, **where)
        else:
            message = f"{spans}; what lies outside is not used"
            yield Problem("outline reaches outside", message, severity="warning", **where)


# ---------------------------------------------------------------- crossing


def _first_crossings(table: Table, outlines: _Outlines, owner: np.ndarray) -> Iterator[tuple[int, list[float]]]:
    """(position in outlines, [x, y]) of each outline that has a ring which crosses itself, in order."""
    lengths = outlines.points[:, 1] - outlines.points[:, 0]
    chosen = np.flatnonzero((lengths > 3) & (lengths <= MOST_POINTS))  # a triangle cannot cross itself
    chosen = chosen[np.argsort(lengths[chosen], kind="stable")]
    found: dict[int, list[float]] = {}
    start = 0
    while start < len(chosen):
        # Rings of like length together, padded to the longest: its square is what a ring costs.
        stop = start + max(1, PAIRS // int(lengths[chosen[start]]) ** 2)
        group = chosen[start:stop]
        group = group[lengths[group] <= max(lengths[group[0]] * 1.25, 8)]
        for ring, point in zip(*_crossings(_padded(table, outlines.points[group])), strict=True):
            found.setdefault(int(owner[group[ring]]), point)
        start += len(group)
    yield from sorted(found.items())


def _padded(table: Table, ends: np.ndarray) -> np.ndarray:
    """(R, P, 2) float64: rings of like length, the last point repeated."""
    lengths = ends[:, 1] - ends[:, 0]
    step = np.minimum(np.arange(lengths.max(initial=1)), lengths[:, None] - 1)
    return np.asarray(table.columns["points"][ends[:, :1] + step], np.float64)


def _crossings(rings: np.ndarray) -> tuple[list[int], list[list[float]]]:
    """Rings (R, P, 2) -> which of them cross themselves, and a point near the first crossing of each.

    Two sides cross where the ends of each lie on different sides of the other. Touching is no crossing: holes are cut
    into outlines that way.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        centred = rings - rings.mean(axis=1, keepdims=True)
        along = np.roll(centred, -1, axis=1) - centred  # (R, P, 2)
        offset = along[..., 1] * centred[..., 0] - along[..., 0] * centred[..., 1]
        # turn[i, j]: on which side of side i point j lies; a product of matrices, because that is fast
        lines = np.stack([-along[..., 1], along[..., 0], offset], axis=2)
        points = np.concatenate([centred, np.ones((*centred.shape[:2], 1))], axis=2)
        turn = lines @ points.transpose(0, 2, 1)  # (R, P, P)
        least = 1e-9 * np.square(np.abs(centred).max(axis=(1, 2)))[:, None, None]
        left, right = turn > least, turn < -least
        parted = (left & np.roll(right, -1, axis=2)) | (right & np.roll(left, -1, axis=2))
    crossing = parted & parted.transpose(0, 2, 1)
    which = np.flatnonzero(crossing.any(axis=(1, 2)))
    sides = crossing[which].any(axis=2).argmax(axis=1)
    return which.tolist(), rings[which, sides].tolist()
