"""LVIS's numbers: classes that nobody looked for in an image do not count there. Gupta et al., LVIS, CVPR 2019.

A result of a class that is neither among the image's objects nor among those known to be absent is left out; where the
objects of a class are not all annotated, a result that finds none of them counts as nothing. Equal to the package lvis
0.5.3, also in this: where results have boxes, their size in masks is that of the box.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from maskrcnn.dataset import Federated
from maskrcnn.errors import DataError
from maskrcnn.evaluation.coco import GroundTruth, results_table

MOST = 300
"""Detections an image that LVIS counts."""
_NAMES = {
    "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl",
    "ap_rare": "APr", "ap_common": "APc", "ap_frequent": "APf", "ar_300": "AR@300", "ar_small": "ARs@300",
    "ar_medium": "ARm@300", "ar_large": "ARl@300",
}  # fmt: skip
LVIS_NUMBERS = tuple(_NAMES)
"""LVIS's 13 numbers, in the order of its own summary."""


def lvis_numbers(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], image_ids: Sequence[int], *, masks: bool
) -> dict[str, dict[str, float]]:
    """ "box" and, with `masks`, "mask" -> the numbers of `LVIS_NUMBERS`.

    Raises:
        DataError: the data does not say which classes were looked for.
    """
    federated = truth.federated
    if federated is None:
        raise DataError(
            "LVIS's numbers need LVIS's own annotations, whose images list neg_category_ids and whose categories have "
            "a frequency; leave lvis out for other data",
            path=truth.name or None,
        )
    coco = _with_lists(truth, federated)
    kinds = {"box": "bbox", **({"mask": "segm"} if masks and truth.has_masks else {})}
    rles = [result["segmentation"] for result in results] if "mask" in kinds else None
    found = coco.load_res(results_table(truth, results), segmentation=rles).cap_detections_per_image(MOST)
    numbers = {}
    for name, kind in kinds.items():
        evaluation = COCOeval(coco, found, kind, lvis_style=True)
        evaluation.params.img_ids = sorted(truth.numbers(image_ids))
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.run()
        given = evaluation.get_results()
        numbers[name] = {ours: float(given[theirs]) for ours, theirs in _NAMES.items()}
    return numbers


def _with_lists(truth: GroundTruth, federated: Federated) -> COCO:
    """The truth once more, with LVIS's lists at images and classes; numbers of `truth.coco`."""
    items, table = truth.items, truth.table
    images = [
        {
            "id": number,
            "height": height,
            "width": width,
            "neg_category_ids": [label + 1 for label in federated.negative.get(image_id, ())],
            "not_exhaustive_category_ids": [label + 1 for label in federated.not_exhaustive.get(image_id, ())],
        }
        for image_id, number, (height, width) in zip(
            truth.image_ids, truth.numbers(truth.image_ids), table.sizes.tolist(), strict=True
        )
    ]
    categories = [
        {"id": label + 1, "name": name, "frequency": letter}
        for label, (name, letter) in enumerate(zip(truth.classes.values(), federated.frequency, strict=True))
    ]
    masks = truth.segmentations
    return COCO.from_arrays(
        images,
        categories,
        items.images + 1,
        items.labels + 1,
        items.boxes,
        area=items.areas,
        iscrowd=np.zeros(len(items), bool),  # LVIS has none
        segmentation=None if masks is None else [masks[i] for i in items.source.tolist()],
    )
