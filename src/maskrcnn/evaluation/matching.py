"""Which result finds which object: overlaps first, then COCO's greedy matching of all images and classes at once.

Only pairs that overlap are kept, so memory grows with the objects and not with objects times results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from hotcoco import primitives

from maskrcnn.evaluation.items import Items, place_in_group

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's IoU thresholds; the same floats as pycocotools'."""
FLOOR = 0.1
"""Pairs below this IoU are of no use to anybody: TIDE takes less for background."""

MOST_AT_ONCE = 1 << 22
"""Overlaps in memory at a time, of an image with very many results."""

Kind = Literal["box", "mask"]
Overlap = Callable[[slice, slice], np.ndarray]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Results and objects of one image that overlap; ordered by result, then by object.

    Attributes:
        found: (P,) int64, place in the results.
        truth: (P,) int64, place in the truth.
        iou: (P,) float64; with a crowd the part of the result that lies in it.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray

    def take(self, keep: np.ndarray) -> Pairs:
        """Those where `keep` (P,) bool is true."""
        return Pairs(self.found[keep], self.truth[keep], self.iou[keep])


def find_pairs(truth: Items, found: Items, kind: Kind, *, floor: float = FLOOR) -> Pairs:
    """Pairs of at least `floor` IoU, of any two classes."""
    images = int(max(truth.images.max(initial=-1), found.images.max(initial=-1))) + 1
    places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    true_spans, found_spans = truth.spans(images), found.spans(images)
    for image in np.flatnonzero((np.diff(true_spans) > 0) & (np.diff(found_spans) > 0)).tolist():
        theirs = slice(int(true_spans[image]), int(true_spans[image + 1]))
        step = max(1, MOST_AT_ONCE // (theirs.stop - theirs.start))
        for start in range(int(found_spans[image]), int(found_spans[image + 1]), step):
            ours = slice(start, min(start + step, int(found_spans[image + 1])))
            iou = _overlaps(truth, found, kind, theirs, ours)
            rows, columns = np.nonzero(iou >= floor)
            places.append((rows + ours.start, columns + theirs.start, iou[rows, columns]))
    if not places:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    results, objects, ious = zip(*places, strict=True)
    return Pairs(np.concatenate(results), np.concatenate(objects), np.concatenate(ious))


def _overlaps(truth: Items, found: Items, kind: Kind, theirs: slice, ours: slice) -> np.ndarray:
    """(D, G) IoU of the results and objects of one image."""
    crowd = truth.crowd[theirs]
    if kind == "box":
        return primitives.bbox_iou(found.boxes[ours], truth.boxes[theirs], crowd)
    if truth.rles is None or found.rles is None:
        raise ValueError("masks are matched where truth and results have them")
    return primitives.mask_iou(found.rles[ours], truth.rles[theirs], crowd)


@dataclass(frozen=True, eq=False)
class Matches:
    """What matching decided, for T thresholds.

    Attributes:
        truth_of: (T, D) int64, place of the object that each result finds; -1: none.
        ignored: (T, D) bool; results that count neither as right nor as wrong.
    """

    truth_of: np.ndarray
    ignored: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(T, D) bool: true positives."""
        return (self.truth_of >= 0) & ~self.ignored


def match(
    truth: Items,
    found: Items,
    pairs: Pairs,
    thresholds: np.ndarray = THRESHOLDS,
    *,
    ignored: np.ndarray | None = None,
    ties: Literal["first", "last"] = "last",
) -> Matches:
    """COCO's matching: by falling score, each result takes the free object of its class that it overlaps most.

    An ignored object is taken only when there is no other; a crowd by any number of results. The same answer as
    pycocotools' loops, but the first results of all images and classes are matched together, then the second ones ...

    Args:
        truth: G objects.
        found: D results, of each image by falling score.
        pairs: what overlaps.
        thresholds: (T,) the least IoU.
        ignored: (G,) bool, objects that need not be found; None: the crowds.
        ties: which of two objects with equal IoU is taken; pycocotools: the last, tidecv: the first.
    """
    ignored = truth.crowd if ignored is None else ignored
    matches = Matches(
        np.full((len(thresholds), len(found)), -1, np.int64), np.zeros((len(thresholds), len(found)), bool)
    )
    pairs = pairs.take((found.labels[pairs.found] == truth.labels[pairs.truth]) & (pairs.iou >= thresholds.min()))
    if not len(pairs.iou):
        return matches
    candidates = np.unique(pairs.found)
    classes = int(found.labels.max()) + 1
    rank = np.zeros(len(found), np.int64)
    rank[candidates] = place_in_group(found.images[candidates] * classes + found.labels[candidates])
    tie = pairs.truth if ties == "first" else -pairs.truth
    # by turn, then result; of each result the best object first
    order = np.lexsort((tie, -pairs.iou, ignored[pairs.truth], pairs.found, rank[pairs.found]))
    found_at, truth_at, iou = pairs.found[order], pairs.truth[order], pairs.iou[order]
    turns = np.searchsorted(rank[found_at], np.arange(rank.max() + 2))
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]  # as pycocotools
    taken = np.zeros((len(thresholds), len(truth)), bool)
    for start, end in zip(turns[:-1].tolist(), turns[1:].tolist(), strict=True):
        objects, results = truth_at[start:end], found_at[start:end]
        free = (iou[start:end] >= least) & (~taken[:, objects] | truth.crowd[objects])
        starts = np.flatnonzero(np.concatenate([[True], results[1:] != results[:-1]]))
        first = np.minimum.reduceat(np.where(free, np.arange(end - start), end), starts, axis=1)  # (T, results)
        level, column = np.nonzero(first < end)
        chosen, result = objects[first[level, column]], results[starts[column]]
        matches.truth_of[level, result] = chosen
        matches.ignored[level, result] = ignored[chosen]
        taken[level, chosen] = True
    return matches
