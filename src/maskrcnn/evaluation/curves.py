"""Precision, recall and F1 of each class over the score threshold, and the threshold where F1 is best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskrcnn.evaluation.precision import NOT_DEFINED, RECALLS, Ranking

SCORES = np.linspace(0.0, 1.0, 101)
"""Score thresholds at which F1 is given."""


@dataclass(frozen=True)
class Curve:
    """One class, or all of them together, at one IoU.

    Attributes:
        name: of the class; "all" counts the objects of all classes alike.
        objects, results: how many.
        ap: average precision; of "all" the mean over the classes. -1 without objects.
        precision: (101,) the best precision at recall 0, 0.01 ... 1 or more.
        scores: (101,) the score threshold that reaches this recall; 0 where none does.
        f1, precision_at, recall_at: (101,) at the score thresholds 0, 0.01 ... 1.
        best_score: the score threshold with the best F1; 0 where nothing is right.
        best_f1, best_precision, best_recall: there.
    """

    name: str
    objects: int
    results: int
    ap: float
    precision: list[float]
    scores: list[float]
    f1: list[float]
    precision_at: list[float]
    recall_at: list[float]
    best_score: float
    best_f1: float
    best_precision: float
    best_recall: float


def class_curves(ranking: Ranking, names: list[str], level: int = 0) -> tuple[Curve, list[Curve]]:
    """The curve of all classes together, and one for each class, at IoU threshold `level` of the ranking."""
    objects, starts = ranking.objects(), ranking.starts
    ap = ranking.average_precision()[level]
    right, counted = ranking.right[level], ~ranking.ignored[level]
    curves = []
    for label, name in enumerate(names):
        rows = np.arange(starts[label], starts[label + 1])
        rows = rows[counted[rows]]
        curves.append(_curve(name, ranking.scores[rows], right[rows], int(objects[label]), float(ap[label])))
    rows = np.flatnonzero(counted)
    rows = rows[np.argsort(-ranking.scores[rows], kind="stable")]
    defined = ap[ap > NOT_DEFINED]
    mean = float(defined.mean()) if len(defined) else NOT_DEFINED
    return _curve("all", ranking.scores[rows], right[rows], int(objects.sum()), mean), curves


def _curve(name: str, scores: np.ndarray, right: np.ndarray, objects: int, ap: float) -> Curve:
    """`scores` fall; `right` says of each result whether it finds an object."""
    hits = np.cumsum(right)
    recall = hits / max(objects, 1)
    precision = hits / np.arange(1, len(hits) + 1)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS)
    reached = places < len(recall)
    at_recall = np.where(reached, np.append(best_after, 0.0)[places], 0.0)
    needed = np.where(reached, np.append(scores, 0.0)[places], 0.0)
    kept = np.searchsorted(-scores, -SCORES, side="right")  # results with at least this score
    precision_at = np.where(kept > 0, np.append(precision, 0.0)[kept - 1], 0.0)
    recall_at = np.where(kept > 0, np.append(recall, 0.0)[kept - 1], 0.0)
    f1 = 2 * hits / np.maximum(np.arange(1, len(hits) + 1) + objects, 1)
    # Results with equal scores are kept or left together.
    whole = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, bool)
    best = int(np.argmax(np.where(whole, f1, -1.0))) if len(f1) and hits[-1] else -1
    return Curve(
        name,
        objects,
        len(scores),
        ap,
        _rounded(at_recall),
        _rounded(needed),
        _rounded(_f1(precision_at, recall_at)),
        _rounded(precision_at),
        _rounded(recall_at),
        float(scores[best]) if best >= 0 else 0.0,
        float(f1[best]) if best >= 0 else 0.0,
        float(precision[best]) if best >= 0 else 0.0,
        float(recall[best]) if best >= 0 else 0.0,
    )


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def _rounded(values: np.ndarray) -> list[float]:
    """For a page and a file, five digits will do."""
    return np.round(values, 5).tolist()
