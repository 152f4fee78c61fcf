"""Pascal VOC's AP at IoU 0.5: each result asks for the object that it overlaps most, be it found already or not.

Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010. Boxes are continuous here; the development kit
counts pixels, with 1 added to each side, so that boxes of a few pixels can differ.
"""

from __future__ import annotations

import numpy as np

from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Pairs
from maskrcnn.evaluation.precision import NOT_DEFINED, mean_defined

IOU = 0.5


def voc_numbers(truth: Items, found: Items, pairs: Pairs, classes: int) -> dict[str, float]:
    """`ap50`: mean over the classes of the area under the curve (VOC 2010 on); `ap50_11`: at 11 recalls (VOC 2007).

    Crowds stand for VOC's difficult objects: they need not be found, and a result on one counts as nothing.
    """
    right, ignored = _decide(truth, found, pairs)
    objects = np.bincount(truth.labels[~truth.crowd], minlength=classes)
    areas, elevens = np.full(classes, NOT_DEFINED), np.full(classes, NOT_DEFINED)
    order = np.lexsort((-found.scores, found.labels))
    for label in np.flatnonzero(objects).tolist():
        rows = order[(found.labels[order] == label) & ~ignored[order]]
        hits = np.cumsum(right[rows])
        recall = hits / objects[label]
        precision = hits / np.arange(1, len(rows) + 1)
        areas[label], elevens[label] = area_under(recall, precision), at_eleven(recall, precision)
    return {"ap50": mean_defined(areas), "ap50_11": mean_defined(elevens)}


def area_under(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the curve (P,) after each precision is raised to the best at a higher recall."""
    recall = np.concatenate([[0.0], recall])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * best).sum())


def at_eleven(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean of the best precision at recalls of at least 0, 0.1 ... 1."""
    best = [precision[recall >= level / 10].max(initial=0.0) for level in range(11)]
    return float(np.mean(best))


def _decide(truth: Items, found: Items, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """(right, ignored), each (D,) bool."""
    pairs = pairs.take((found.labels[pairs.found] == truth.labels[pairs.truth]) & (pairs.iou >= IOU))
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.found))
    results, objects = pairs.found[order], pairs.truth[order]
    best = np.concatenate([[True], results[1:] != results[:-1]]) if len(results) else np.zeros(0, bool)
    results, objects = results[best], objects[best]
    right, ignored = np.zeros(len(found), bool), np.zeros(len(found), bool)
    crowd = truth.crowd[objects]
    ignored[results[crowd]] = True
    results, objects = results[~crowd], objects[~crowd]
    by_score = np.lexsort((results, -found.scores[results]))
    _, first = np.unique(objects[by_score], return_index=True)
    right[results[by_score[first]]] = True
    return right, ignored
