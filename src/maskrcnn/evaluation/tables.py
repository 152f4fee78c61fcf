"""COCO's 12 numbers from our own matching: for overlaps that the COCO library does not know, and parts of the images.

Equal to pycocotools' on the same overlaps; `coco.py` is faster where it has the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Pairs, match
from maskrcnn.evaluation.precision import NOT_DEFINED, Ranking, mean_defined, rank_results

AREAS = {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
"""COCO's area ranges in square pixels, both ends included, as pycocotools has them."""


def coco_numbers(
    truth: Items, found: Items, pairs: Pairs, classes: int, limits: Sequence[int] = (1, 10, 100)
) -> dict[str, float]:
    """`ap`, `ap50`, `ap75`, AP by size, `ar_K` of each limit, AR by size: as `coco.NUMBERS`."""
    kept, pairs = limited(found, pairs, limits[-1])
    precision: dict[str, float] = {}
    recall: dict[str, float] = {}
    for name, (low, high) in AREAS.items():
        outside = truth.crowd | (truth.areas < low) | (truth.areas > high)
        matches = match(truth, kept, pairs, ignored=outside)
        small = (kept.areas < low) | (kept.areas > high)
        ignored = matches.ignored | ((matches.truth_of < 0) & small)
        ranking = rank_results(truth, kept, matches.right, ignored, classes, ~outside)
        table = ranking.average_precision()
        precision[f"ap{name}"] = mean_defined(table)
        if not name:
            precision |= {"ap50": mean_defined(table[0]), "ap75": mean_defined(table[5])}
            recall |= {f"ar_{limit}": mean_defined(_recall(ranking, kept, limit)) for limit in limits}
        else:
            recall[f"ar{name}"] = mean_defined(_recall(ranking, kept, limits[-1]))
    order = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
    return {name: precision[name] for name in order} | recall


def limited(found: Items, pairs: Pairs, most: int) -> tuple[Items, Pairs]:
    """The `most` best results of each image and class, and the pairs of those."""
    keep = found.ranks() < most
    if keep.all():
        return found, pairs
    place = np.cumsum(keep) - 1
    left = pairs.take(keep[pairs.found])
    return found.take(keep), Pairs(place[left.found], left.truth, left.iou)


COUNTS = {"1": (1, 1), "2-5": (2, 5), "6-20": (6, 20), "more": (21, 1 << 62)}
"""Objects in an image: from, to."""


def of_count(objects: np.ndarray, name: str) -> np.ndarray:
    """(I,) int64: 1 for the images with so many objects, else 0."""
    low, high = COUNTS[name]
    return ((objects >= low) & (objects <= high)).astype(np.int64)


def _recall(ranking: Ranking, found: Items, limit: int) -> np.ndarray:
    """(T, C) recall with the `limit` best results of each image and class; -1 for a class without objects."""
    counted = found.ranks()[ranking.order] < limit
    objects = ranking.objects()
    hits = np.stack([np.bincount(ranking.labels[right & counted], minlength=len(objects)) for right in ranking.right])
    return np.where(objects > 0, hits / np.maximum(objects, 1), NOT_DEFINED)
