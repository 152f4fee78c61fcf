"""From matches to average precision: exact, for every class at once, and for images that count more than once.

Recall grows only at true positives, so those are the only points of a curve that matter. Weights of images make
subsets (0 or 1) and bootstrap samples (0, 1, 2 ...) cost no new matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from maskrcnn.evaluation.items import Items

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads off the precision."""
NOT_DEFINED = -1.0
"""AP of a class without objects, as in pycocotools."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Results by class, then by falling score; what was found at T thresholds.

    Attributes:
        order: (D,) int64, place in the results of each row here.
        labels, images: (D,) int64.
        scores: (D,) float64.
        right, ignored: (T, D) bool.
        true_labels, true_images: (G,) int64, of the objects that have to be found.
        classes: how many.
    """

    order: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    true_labels: np.ndarray
    true_images: np.ndarray
    classes: int

    @cached_property
    def starts(self) -> np.ndarray:
        """(C + 1,) int64: rows of class c lie from `starts[c]` to `starts[c + 1]`."""
        return np.searchsorted(self.labels, np.arange(self.classes + 1))

    def objects(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(C,) int64, objects of each class."""
        counted = None if weights is None else weights[self.true_images]
        return np.bincount(self.true_labels, counted, minlength=self.classes).astype(np.int64)

    def average_precision(self, weights: np.ndarray | None = None, recalls: np.ndarray = RECALLS) -> np.ndarray:
        """(T, C) float64 AP; -1 for a class without objects. `weights`: (I,) int64, how often each image counts."""
        counts = np.ones(len(self.images), np.int64) if weights is None else weights[self.images]
        before = np.concatenate([[0], np.cumsum(counts)])  # results, ignored ones too
        objects = self.objects(weights)
        needed = _least_hits(objects, recalls)
        return np.stack([self._at(level, counts, before, objects, needed) for level in self._levels])

    @cached_property
    def _levels(self) -> list[_Level]:
        """What does not depend on weights."""
        levels = []
        for right, ignored in zip(self.right, self.ignored, strict=True):
            at, passed = np.flatnonzero(right), np.flatnonzero(ignored)
            labels = self.labels[at]
            first = np.searchsorted(labels, np.arange(self.classes + 1))
            begin = self.starts[labels]
            gone = np.searchsorted(passed, at + 1), np.searchsorted(passed, begin)
            levels.append(_Level(at, labels, first, begin, passed, *gone))
        return levels

    def _at(
        self, level: _Level, counts: np.ndarray, before: np.ndarray, objects: np.ndarray, needed: np.ndarray
    ) -> np.ndarray:
        """(C,) AP at one threshold. `counts`: (D,) how often a result counts, `before` its sums; `needed`: (C, R)."""
        everything = before[level.at + 1] - before[level.begin]
        if len(level.passed):
            gone = np.concatenate([[0], np.cumsum(counts[level.passed])])
            everything -= gone[level.passed_at] - gone[level.passed_begin]
        hits = np.concatenate([[0], np.cumsum(counts[level.at])])
        true = hits[1:] - hits[level.first[level.labels]]  # (P,) true positives of the class so far
        precision = _falling(true / np.maximum(everything, 1), level.labels)
        # Whole numbers find the place in all classes at once, without a rounding error.
        step = int(hits[-1]) + int(objects.max(initial=0)) + 2
        wanted = needed + step * np.arange(self.classes)[:, None]  # (C, R)
        places = np.searchsorted(true + step * level.labels, wanted.ravel()).reshape(wanted.shape)
        reached = places < level.first[1:, None]
        values = np.where(reached, np.append(precision, 0.0)[places], 0.0).mean(axis=1)
        return np.where(objects > 0, values, NOT_DEFINED)


class _Level(NamedTuple):
    """One threshold: P true positives by class and score, and what is ignored.

    Attributes:
        at: (P,) their rows; `labels` their classes; `begin` the first row of the class.
        first: (C + 1,) the first of them of each class.
        passed: (Q,) rows that are ignored; how many lie before `at + 1` and before `begin`.
    """

    at: np.ndarray
    labels: np.ndarray
    first: np.ndarray
    begin: np.ndarray
    passed: np.ndarray
    passed_at: np.ndarray
    passed_begin: np.ndarray


def rank_results(
    truth: Items, found: Items, right: np.ndarray, ignored: np.ndarray, classes: int, need: np.ndarray
) -> Ranking:
    """Order results for curves.

    Args:
        truth: G objects.
        found: D results, of each image by falling score.
        right, ignored: (T, D) bool, see `Matches`.
        classes: how many there are.
        need: (G,) bool, the objects that have to be found.
    """
    order = np.lexsort((-found.scores, found.labels))
    return Ranking(
        order,
        found.labels[order],
        found.images[order],
        found.scores[order],
        right[:, order],
        ignored[:, order],
        truth.labels[need],
        truth.images[need],
        classes,
    )


def mean_defined(table: np.ndarray) -> float:
    """Mean of what is defined (> -1); -1 when nothing is."""
    defined = table[table > NOT_DEFINED]
    return float(defined.mean()) if defined.size else NOT_DEFINED


def _falling(precision: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(P,) the best precision at this or a higher recall, class by class."""
    backwards = labels.max(initial=0) - labels[::-1] if len(labels) else labels
    return (np.maximum.accumulate(precision[::-1] + 2.0 * backwards) - 2.0 * backwards)[::-1]


def _least_hits(objects: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """(C, R) int64: the fewest true positives that reach each recall, in the floats of `hits / objects >= recall`."""
    total = np.maximum(objects, 1)[:, None]
    hits = np.ceil(recalls * total).astype(np.int64)
    hits -= (hits > 0) & ((hits - 1) / total >= recalls)
    return hits + (hits / total < recalls)
