"""Whether a score of 0.8 means that 8 in 10 results are right: reliability bins and the expected calibration error.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017: ECE is the mean over the results of the distance
between a bin's mean score and its part of right results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskrcnn.evaluation.precision import Ranking

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Results with scores from `low` (included) to `high`: how many, their mean score, the part that is right."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """Scores against truth, at one IoU.

    Attributes:
        bins: ten, of equal width.
        ece: expected calibration error, 0..1; 0 is perfect.
        per_class: class name -> ECE, of classes with results.
    """

    bins: list[Bin]
    ece: float
    per_class: dict[str, float]


def calibration(ranking: Ranking, names: list[str], level: int = 0) -> Calibration:
    """Reliability of the scores at IoU threshold `level` of the ranking; results in crowds do not count."""
    counted = ~ranking.ignored[level]
    scores, right, labels = ranking.scores[counted], ranking.right[level][counted], ranking.labels[counted]
    per_class = {}
    for label in np.unique(labels).tolist():
        of_class = labels == label
        per_class[names[label]] = _ece(_bins(scores[of_class], right[of_class]))
    bins = _bins(scores, right)
    return Calibration(bins, _ece(bins), per_class)


def _bins(scores: np.ndarray, right: np.ndarray) -> list[Bin]:
    place = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    total = np.maximum(counts, 1)
    score = np.bincount(place, scores, minlength=BINS) / total
    part = np.bincount(place, right, minlength=BINS) / total
    edges = (np.arange(BINS + 1) / BINS).tolist()
    columns = (edges[:-1], edges[1:], counts.tolist(), score.tolist(), part.tolist())
    return [Bin(*row) for row in zip(*columns, strict=True)]


def _ece(bins: list[Bin]) -> float:
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.score - one.right) for one in bins) / total if total else 0.0
