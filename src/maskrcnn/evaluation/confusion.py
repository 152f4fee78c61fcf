"""Which class is taken for which: the confusion matrix with background, at one IoU and one score threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Pairs, match


@dataclass(frozen=True)
class Confusion:
    """Counts of true class (row) against found class (column); the last of each is background.

    A row's last number is objects that nobody found, a column's last results where nothing is.

    Attributes:
        names: of the classes, then "background".
        counts: (C + 1, C + 1).
        iou, score: results overlap an object by at least `iou`, and have at least `score`.
    """

    names: list[str]
    counts: list[list[int]]
    iou: float
    score: float


def confusion_matrix(
    truth: Items, found: Items, pairs: Pairs, names: list[str], *, iou: float, score: float
) -> Confusion:
    """The matrix.

    An object belongs first to the best-scored result of its own class, as in AP; what is left is matched without regard
    to class. So a second result of another class on an object that is found counts as background, not as confusion.
    Results on crowds of their class do not count.
    """
    classes = len(names)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    sure = found.scores >= score
    own = match(truth, found, pairs.take(sure[pairs.found]), np.array([iou]))
    first, ignored = own.truth_of[0], own.ignored[0]
    right = (first >= 0) & ~ignored
    np.add.at(counts, (truth.labels[first[right]], found.labels[right]), 1)
    taken = truth.crowd.copy()
    taken[first[right]] = True
    left = sure & ~right & ~ignored
    rest = pairs.take(left[pairs.found] & ~taken[pairs.truth])
    second = _match_any(truth, found, rest, iou)
    wrong = left & (second >= 0)
    np.add.at(counts, (truth.labels[second[wrong]], found.labels[wrong]), 1)
    np.add.at(counts[classes], found.labels[left & (second < 0)], 1)
    taken[second[wrong]] = True
    np.add.at(counts[:, classes], truth.labels[~taken], 1)
    return Confusion([*names, "background"], counts.tolist(), iou, score)


def _match_any(truth: Items, found: Items, pairs: Pairs, iou: float) -> np.ndarray:
    """(D,) the object that each result is matched with when all are of one class; -1: none."""
    alike = replace(truth, labels=np.zeros_like(truth.labels))
    return match(alike, replace(found, labels=np.zeros_like(found.labels)), pairs, np.array([iou])).truth_of[0]
