"""What several views of one image found -> its objects, each once. Original frame of the whole image in and out.

A view is a tile, or the whole image made smaller. An object that an inner border of a tile cuts is there in pieces;
one in an overlap is there several times. What belongs together is decided by the pixels that masks share, as runs of
their RLE: memory follows the outlines of the objects, never the image.

The answer depends on what was found, not on the order in which it was added: pieces are first put in an order of their
own, by score and then by everything else they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from maskrcnn.data.windows import Window
from maskrcnn.instances import Instances
from maskrcnn.ops.masks import roi_masks_to_rle
from maskrcnn.ops.rle import rle_area
from maskrcnn.ops.rle_runs import (
    area_within,
    box_runs,
    overlap_area,
    place_runs,
    rle_runs,
    runs_area,
    runs_to_rle,
    union_runs,
)

SAME = 0.5
"""Two are one object from this part of their pixels on: of their union where both are whole, of the smaller where they
are pieces."""
SLIVER = 0.9
"""A piece that lies in another one by this part belongs to it, and must not tie it to a neighbour."""
SHARE = 0.25
"""Two pieces are one object only where both tiles look and they share this part of what the larger one has there: of a
neighbour that touches, a piece often has a thin edge by mistake."""
JOINED = 0.7
"""Pieces stand for an object of the whole image's view from this IoU with it on; below, they have left parts out."""

_MOST_PIXELS = 1 << 22  # of a box in which a mask is made pixel by pixel
_KEPT = 1024  # masks kept as runs


@dataclass(frozen=True, eq=False)
class _Pieces:
    """N findings of all views. Whole image's frame.

    Attributes:
        boxes: (N, 4) float32.
        scores: (N,) float32.
        labels: (N,) int64.
        windows: (N, 4) int64: top, left, bottom, right of the view.
        coarse: (N,) bool: found in the whole image made smaller.
        cut: (N,) bool: reaches an inner border of its view.
        areas: (N,) int64 pixels.
        rle: N, or None for a model without masks.
        keypoints: (N, K, 3) float32, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    windows: np.ndarray
    coarse: np.ndarray
    cut: np.ndarray
    areas: np.ndarray
    rle: list[dict] | None
    keypoints: np.ndarray | None

    def __len__(self) -> int:
        return len(self.boxes)


class Merger:
    """Takes what each view found, one after the other, and gives the objects of the image."""

    def __init__(self, size: tuple[int, int], *, margin: float = 2.0) -> None:
        """Args:
        size: (height, width) of the whole image.
        margin: a box that comes closer to an inner border of its view than these pixels is cut by it.
        """
        self.size, self.margin = size, margin
        self._template: Instances | None = None
        self._tiles: set[Window] = set()
        self._rows: list[tuple] = []  # one a finding: sortable but for its last entry, the keypoints

    def add(self, found: Instances, window: Window, factor: int = 1) -> None:
        """Put in what one view found.

        Args:
            found: boxes and masks in the view's own pixels.
            window: where the view lies; all of the image for one that was made smaller.
            factor: how many of the image's pixels are one of the view's, along each side.
        """
        self._template = found
        coarse = window == (0, 0, *self.size)
        if not coarse:
            self._tiles.add(window)
        corner = np.array([window[1], window[0]] * 2, np.float32)
        limit = np.array([self.size[1], self.size[0]] * 2, np.float32)
        boxes = np.minimum(found.boxes * np.float32(factor) + corner, limit)
        rles = self._rle(found, boxes, window, factor) if found.has_masks else None
        cut = self._cut(boxes, window)
        for index in range(len(found)):
            counts = rles[index]["counts"] if rles is not None else b""
            row = (-float(found.scores[index]), int(found.labels[index]), *boxes[index].tolist(), window, counts)
            points = None if found.keypoints is None else _moved(found.keypoints[index], factor, corner)
            self._rows.append((row, coarse, bool(cut[index]), points))

    def _cut(self, boxes: np.ndarray, window: Window) -> np.ndarray:
        """(N,) bool."""
        top, left, bottom, right = window
        height, width = self.size
        return (
            ((top > 0) & (boxes[:, 1] < top + self.margin))
            | ((left > 0) & (boxes[:, 0] < left + self.margin))
            | ((bottom < height) & (boxes[:, 3] > bottom - self.margin))
            | ((right < width) & (boxes[:, 2] > right - self.margin))
        )

    def _held(self, box: np.ndarray) -> bool:
        """Whether a tile shows all of an object of up to half of its side: then it sees it better than a view of the
        whole image does."""
        side = float((box[2:] - box[:2]).max())
        for window in self._tiles:
            top, left, bottom, right = window
            if side > min(bottom - top, right - left) / 2:
                continue
            inside = left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
            if inside and not self._cut(box[None], window)[0]:
                return True
        return False

    def _rle(self, found: Instances, boxes: np.ndarray, window: Window, factor: int) -> list[dict]:
        """Masks of the whole image, each made inside its box, or in the smaller view where that box is very large."""
        if factor == 1 and found.roi_masks is not None:
            options = {"corner": window[:2], "frame": self.size}
            return roi_masks_to_rle(
                found.roi_masks, found.boxes, found.size, found.mask_threshold, found.paste, **options
            )
        if found.roi_masks is None:
            return [self._placed(rle, factor, window[:2]) for rle in found.rle]
        rles = []
        for index, area in enumerate(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).tolist()):
            one = found[index]
            if area > _MOST_PIXELS:
                rles.append(self._placed(one.rle[0], factor, window[:2]))
            else:
                roi, placed = found.roi_masks[index : index + 1], boxes[index : index + 1]
                rles += roi_masks_to_rle(roi, placed, self.size, found.mask_threshold, found.paste)
        return rles

    def _placed(self, rle: dict, factor: int, corner: tuple[int, int]) -> dict:
        runs = place_runs(rle_runs(rle), rle["size"][0], self.size, factor=factor, corner=corner)
        return runs_to_rle(runs, self.size)

    def instances(self) -> Instances:
        """The objects of the image, scores descending, with RLE of the whole image and no roi masks.

        Raises:
            ValueError: no view was added.
        """
        if self._template is None:
            raise ValueError("nothing was added; add what each tile found first")
        pieces = self._sorted(self._template)
        groups = _grouped(pieces, self.size)
        return _answer(pieces, groups, self._template, self.size)

    def _sorted(self, template: Instances) -> _Pieces:
        rows = [row for row in self._rows if not row[1] or not self._held(np.array(row[0][2:6], np.float32))]
        rows.sort(key=lambda row: row[:3])
        keys = [row[0] for row in rows]
        boxes = np.array([key[2:6] for key in keys], np.float32).reshape(-1, 4)
        rle = [{"size": list(self.size), "counts": key[7]} for key in keys] if template.has_masks else None
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).astype(np.float64)
        return _Pieces(
            boxes=boxes,
            scores=np.array([-key[0] for key in keys], np.float32),
            labels=np.array([key[1] for key in keys], np.int64),
            windows=np.array([key[6] for key in keys], np.int64).reshape(-1, 4),
            coarse=np.array([row[1] for row in rows], bool),
            cut=np.array([row[2] for row in rows], bool),
            areas=np.array([rle_area(one) for one in rle], np.int64) if rle is not None else sides.prod(axis=1),
            rle=rle,
            keypoints=None if template.keypoints is None else _stacked([row[3] for row in rows], template.keypoints),
        )


# ---------------------------------------------------------------- which findings are one object


def _grouped(pieces: _Pieces, size: tuple[int, int]) -> list[list[int]]:
    """Indices of the findings of each object that stays."""
    shape = _shapes(pieces, size)
    areas = pieces.areas.astype(np.float64)
    areas = np.array([area or runs_area(shape(i)) for i, area in enumerate(areas.tolist())], np.float64)
    first, second = _pairs(pieces)
    shared = np.array([overlap_area(shape(a), shape(b)) for a, b in zip(first, second, strict=True)], np.float64)
    met = shared > 0
    first, second, shared = first[met], second[met], shared[met]
    alive = np.ones(len(pieces), bool)
    tiles = ~pieces.coarse[first] & ~pieces.coarse[second]
    whole = ~pieces.cut

    # 1. A whole object that two tiles saw: the better score stays.
    both = tiles & whole[first] & whole[second]
    same = both & (shared >= SAME * (areas[first] + areas[second] - shared))
    for a, b in zip(first[same].tolist(), second[same].tolist(), strict=True):  # in the order of `first`
        if alive[a]:
            alive[b] = False

    # 2. Pieces of an object that another tile saw whole.
    for a, b in ((first, second), (second, first)):
        under = tiles & whole[a] & alive[a] & ~whole[b] & (shared >= SAME * areas[b])
        alive[b[under]] = False

    # 3. Slivers of an object of which another tile saw more go to that one, and to no other.
    cut = tiles & ~whole[first] & ~whole[second] & alive[first] & alive[second]
    owner = list(range(len(pieces)))
    sliver = _slivers(first[cut], second[cut], shared[cut], areas, owner)

    # 4. Pieces that agree where both tiles look are one object.
    for pair in np.flatnonzero(cut & ~sliver[first] & ~sliver[second]).tolist():
        a, b = int(first[pair]), int(second[pair])
        seen = _common(pieces.windows[a], pieces.windows[b])
        least, most = sorted(area_within(shape(index), seen, size[0]) for index in (a, b))
        if least and shared[pair] >= max(SAME * least, SHARE * most):
            _unite(owner, a, b)
    groups: dict[int, list[int]] = {}
    for index in np.flatnonzero(alive & ~pieces.coarse).tolist():
        groups.setdefault(_root(owner, index), []).append(index)

    # 5. What the whole image shows and no tile saw as well as that.
    near = [(b, a) if pieces.coarse[a] else (a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    meeting: dict[int, set[int]] = {}
    for tile, coarse in near:
        if pieces.coarse[coarse] and alive[tile]:
            meeting.setdefault(coarse, set()).add(_root(owner, tile))
    return _with_coarse(pieces, groups, meeting, shape)


def _slivers(
    first: np.ndarray, second: np.ndarray, shared: np.ndarray, areas: np.ndarray, owner: list[int]
) -> np.ndarray:
    """(N,) bool: which findings lie in a larger one; each is given to the one that it shares most with.

    Of two that are equally large the later is the smaller, so that nobody owns itself.
    """
    smaller = np.where(areas[first] < areas[second], first, second)
    larger = first + second - smaller
    inside = np.flatnonzero(shared >= SLIVER * areas[smaller])
    order = np.lexsort((larger[inside], -shared[inside], smaller[inside]))
    smaller, larger = smaller[inside][order], larger[inside][order]
    found = np.zeros(len(areas), bool)
    for small, large in zip(smaller.tolist(), larger.tolist(), strict=True):
        if not found[small]:
            found[small] = True
            _unite(owner, small, large)
    return found


def _with_coarse(
    pieces: _Pieces, groups: dict[int, list[int]], meeting: dict[int, set[int]], shape: Callable[[int], np.ndarray]
) -> list[list[int]]:
    """The groups that stay, and the findings of the whole image's view that no group stands for."""
    gone: set[int] = set()
    added = []
    for coarse in np.flatnonzero(pieces.coarse).tolist():
        ours = shape(coarse)
        measured = []
        for group in sorted(meeting.get(coarse, ())):
            runs = union_runs([shape(index) for index in groups[group]])
            shared, area = overlap_area(ours, runs), runs_area(runs)
            pieced = bool(pieces.cut[groups[group]].any())
            iou = shared / max(runs_area(ours) + area - shared, 1)
            measured.append((group, pieced, iou, shared / max(area, 1)))
        if any(iou >= (JOINED if pieced else SAME) for _, pieced, iou, _ in measured):
            continue
        added.append([coarse])
        gone |= {group for group, pieced, _, part in measured if pieced and part >= SAME}
    return [members for group, members in groups.items() if group not in gone] + added


def _pairs(pieces: _Pieces) -> tuple[np.ndarray, np.ndarray]:
    """(first, second), (P,) int64 each, first < second, ascending: of one class, of two views, boxes that overlap."""
    boxes = pieces.boxes
    order = np.argsort(boxes[:, 0], kind="stable")
    left, until = boxes[order, 0], boxes[order, 2]
    ends = np.searchsorted(left, until, side="left")
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for place, index in enumerate(order.tolist()):
        others = order[place + 1 : max(int(ends[place]), place + 1)]
        near = (boxes[others, 1] < boxes[index, 3]) & (boxes[others, 3] > boxes[index, 1])
        near &= pieces.labels[others] == pieces.labels[index]
        others = others[near]
        others = others[(pieces.windows[others] != pieces.windows[index]).any(axis=1)]
        firsts.append(np.minimum(others, index))
        seconds.append(np.maximum(others, index))
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    order = np.lexsort((second, first))
    return first[order], second[order]


def _shapes(pieces: _Pieces, size: tuple[int, int]) -> Callable[[int], np.ndarray]:
    """Index -> runs of the mask; of the box where there is no pixel of a mask."""

    @lru_cache(maxsize=_KEPT)
    def shape(index: int) -> np.ndarray:
        runs = rle_runs(pieces.rle[index]) if pieces.rle is not None else None
        return runs if runs is not None and len(runs) else box_runs(pieces.boxes[index].tolist(), size)

    return shape


def _common(a: np.ndarray, b: np.ndarray) -> Window:
    top, left = np.maximum(a[:2], b[:2]).tolist()
    bottom, right = np.minimum(a[2:], b[2:]).tolist()
    return top, left, max(bottom, top), max(right, left)


def _root(owner: list[int], index: int) -> int:
    while owner[index] != index:
        owner[index] = owner[owner[index]]
        index = owner[index]
    return index


def _unite(owner: list[int], a: int, b: int) -> None:
    a, b = _root(owner, a), _root(owner, b)
    owner[max(a, b)] = min(a, b)


# ---------------------------------------------------------------- objects


def _answer(pieces: _Pieces, groups: list[list[int]], template: Instances, size: tuple[int, int]) -> Instances:
    """One instance a group: all of its pixels, the box around its boxes, its best score, of each keypoint the best."""
    groups = sorted(groups)  # by the best member: scores descend
    boxes = np.zeros((len(groups), 4), np.float32)
    rles: list[dict] | None = None if pieces.rle is None else []
    points = None if pieces.keypoints is None else np.zeros((len(groups), *pieces.keypoints.shape[1:]), np.float32)
    for row, members in enumerate(groups):
        boxes[row, :2] = pieces.boxes[members, :2].min(axis=0)
        boxes[row, 2:] = pieces.boxes[members, 2:].max(axis=0)
        if rles is not None and pieces.rle is not None:
            alone = len(members) == 1
            parts = [rle_runs(pieces.rle[index]) for index in members] if not alone else []
            rles.append(pieces.rle[members[0]] if alone else runs_to_rle(union_runs(parts), size))
        if points is not None and pieces.keypoints is not None:
            of_members = pieces.keypoints[members]  # (G, K, 3)
            points[row] = of_members[of_members[..., 2].argmax(axis=0), np.arange(of_members.shape[1])]
    best = np.array([members[0] for members in groups], np.int64)
    return replace(
        template,
        boxes=boxes,
        scores=pieces.scores[best],
        labels=pieces.labels[best],
        size=size,
        roi_masks=None,
        keypoints=points,
        _rle=rles,
    )


def _moved(points: np.ndarray, factor: int, corner: np.ndarray) -> np.ndarray:
    """Keypoints (K, 3) of a view -> of the whole image."""
    moved = points.copy()
    moved[:, :2] = moved[:, :2] * factor + corner[:2]
    return moved


def _stacked(points: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.stack(points) if points else np.zeros((0, *like.shape[1:]), np.float32)
