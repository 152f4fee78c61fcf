"""TIDE: why results are wrong, and how much AP each kind of error costs. Bolya et al., ECCV 2020.

Every result that finds nothing, and every object that nobody finds, belongs to one kind of error, at IoU 0.5 with
background below 0.1. An error's cost (`dAP`) is the AP that would be gained were errors of that kind alone put right.
Numbers equal tidecv 1.0.1, in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maskrcnn.evaluation.items import Items, place_in_group
from maskrcnn.evaluation.matching import Pairs, match
from maskrcnn.evaluation.precision import rank_results

ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
"""Wrong class; right class, badly placed; both; the object was found already; nothing there; object not found."""
IOU, BACKGROUND = 0.5, 0.1
MOST = 100
"""Results of an image, of all classes together, that tidecv looks at."""
_RECALLS = np.arange(101) / 100  # tidecv divides; numpy's linspace, which COCO has, differs in the last bit


@dataclass(frozen=True, eq=False)
class Decided:
    """What became of every result and object at one IoU.

    Attributes:
        outcome: (D,) int64, index into `ERRORS`, -1: right, -2: ignored (in a crowd), -3: beyond the 100 of its image.
        object_of: (D,) int64, the object that the result found, or would have found but for its error; -1: none.
        kind: (D,) int64, index of the error that an ignored result would be, as tidecv counts those too; else as
            `outcome`.
        found: (G,) bool, objects that are found.
        missed: (G,) bool, objects that nothing was near enough to.
    """

    outcome: np.ndarray
    object_of: np.ndarray
    kind: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def decide(truth: Items, found: Items, pairs: Pairs, *, iou: float = IOU, background: float = BACKGROUND) -> Decided:
    """The outcome of every result and object.

    Args:
        truth: objects, of which crowds make results within them not count.
        found: results.
        pairs: overlaps of at least `background`, of any two classes.
        iou: least IoU of a right result.
        background: greatest IoU of a result where nothing is.
    """
    inside = place_in_group(found.images) < MOST
    pairs = pairs.take(inside[pairs.found])
    same = found.labels[pairs.found] == truth.labels[pairs.truth]
    crowd = truth.crowd[pairs.truth]
    real = pairs.take(~crowd)
    matches = match(truth, found, real, np.array([iou]), ties="first")
    object_of = matches.truth_of[0]
    right = object_of >= 0
    used = np.zeros(len(truth), bool)
    used[object_of[right]] = True
    passed = np.zeros(len(found), bool)
    passed[pairs.found[crowd & same & (pairs.iou > iou)]] = True
    passed &= ~right

    kind = np.full(len(found), ERRORS.index("Bkg"))
    same = same[~crowd]
    own = _Best(real, len(found), same)
    other = _Best(real, len(found), ~same)
    again = _Best(real, len(found), same & used[real.truth])
    anything = _Best(real, len(found), np.ones(len(same), bool))
    rules = [  # in tidecv's order; the first that holds
        ("Loc", (own.iou >= background) & (own.iou <= iou), own.truth),
        ("Cls", other.iou >= iou, other.truth),
        ("Dupe", again.iou >= iou, again.truth),
        ("Bkg", anything.iou <= background, None),
        ("Both", np.ones(len(found), bool), None),
    ]
    left = inside & ~right
    for name, holds, objects in rules:
        chosen = left & holds
        kind[chosen] = ERRORS.index(name)
        if objects is not None:
            object_of = np.where(chosen, objects, object_of)
        left &= ~holds
    kind[right], kind[~inside] = -1, -3
    outcome = np.where(passed, -2, kind)
    near = np.zeros(len(truth), bool)
    near[object_of[(kind == ERRORS.index("Loc")) | (kind == ERRORS.index("Cls"))]] = True
    return Decided(outcome, object_of, kind, used, ~truth.crowd & ~used & ~near)


class _Best:
    """Of each result the overlap with most IoU among the chosen pairs; the first of equal ones."""

    def __init__(self, pairs: Pairs, count: int, chosen: np.ndarray) -> None:
        self.iou, self.truth = np.zeros(count), np.full(count, -1, np.int64)
        pairs = pairs.take(chosen)
        order = np.lexsort((pairs.truth, -pairs.iou, pairs.found))
        results, first = np.unique(pairs.found[order], return_index=True)
        self.iou[results] = pairs.iou[order[first]]
        self.truth[results] = pairs.truth[order[first]]


def error_counts(decided: Decided) -> dict[str, int]:
    """How many errors of each kind there are, those of ignored results included, as tidecv counts."""
    counts = {name: int((decided.kind == number).sum()) for number, name in enumerate(ERRORS)}
    return counts | {"Miss": int(decided.missed.sum())}


def error_costs(truth: Items, found: Items, decided: Decided, classes: int) -> dict[str, float]:
    """ "ap", and the AP that each kind of error costs: those of `ERRORS`, then "FalsePos" and "FalseNeg".

    A class counts where it has an object or a result, with AP 0 where it has no object, as in tidecv.
    """
    right = decided.outcome == -1
    counted = decided.outcome >= -1
    objects = np.bincount(truth.labels[~truth.crowd], minlength=classes)
    base = _mean_ap(found, right, counted, objects)
    costs = {}
    for number, name in enumerate(ERRORS):
        fixed, now_right, now_counted, needed = found, right, counted, objects
        if name == "Miss":
            needed = objects - np.bincount(truth.labels[decided.missed], minlength=classes)
        else:
            of_kind = decided.kind == number
            mended = _mended(found, decided, of_kind) if name in ("Cls", "Loc") else np.zeros(len(found), bool)
            now_right, now_counted = right | mended, (counted & ~of_kind) | mended
            if name == "Cls":
                labels = np.where(mended, truth.labels[decided.object_of], found.labels) if len(truth) else found.labels
                fixed = replace(found, labels=labels)
        costs[name] = max(_mean_ap(fixed, now_right, now_counted, needed) - base, 0.0)
    sure = replace(found, scores=np.where(right, 1.0, 0.0))
    costs["FalsePos"] = _mean_ap(sure, right, counted, objects) - base
    lost = np.bincount(truth.labels[~truth.crowd & ~decided.found], minlength=classes)
    costs["FalseNeg"] = _mean_ap(found, right, counted, objects - lost) - base
    return {"ap": base} | costs


def _mended(found: Items, decided: Decided, of_kind: np.ndarray) -> np.ndarray:
    """(D,) bool: of the errors with an object that is not found, the best one of each object.

    "Best" over both kinds that can be mended, and the first of equal scores, as tidecv.
    """
    near = np.flatnonzero((decided.kind == ERRORS.index("Cls")) | (decided.kind == ERRORS.index("Loc")))
    near = near[~decided.found[decided.object_of[near]]]
    order = near[np.lexsort((near, -found.scores[near]))]
    _, first = np.unique(decided.object_of[order], return_index=True)
    best = np.zeros(len(found), bool)
    best[order[first]] = True
    return best & of_kind


def _mean_ap(found: Items, right: np.ndarray, counted: np.ndarray, objects: np.ndarray) -> float:
    """Mean AP over the classes with an object or a result; 0 where there is none at all."""
    classes = len(objects)
    kept = found.take(counted)
    ranking = rank_results(kept, kept, right[None, counted], np.zeros((1, len(kept)), bool), classes,
                           np.zeros(len(kept), bool))  # fmt: skip
    labels = np.repeat(np.arange(classes), np.maximum(objects, 0))
    ranking = replace(ranking, true_labels=labels, true_images=np.zeros(len(labels), np.int64))
    ap = ranking.average_precision(recalls=_RECALLS)[0]
    present = (objects > 0) | (np.bincount(kept.labels, minlength=classes) > 0)
    return float(np.maximum(ap, 0.0)[present].mean()) if present.any() else 0.0
