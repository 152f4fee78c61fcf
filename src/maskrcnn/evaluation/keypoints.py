"""What COCO's numbers of keypoints need beside those of boxes and masks. Original frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn.dataset import Dataset

_ALL = slice(None)
KEYPOINT_NUMBERS: dict[str, tuple[str, int | slice, int, int]] = {
    "ap": ("precision", _ALL, 0, 0),
    "ap50": ("precision", 0, 0, 0),
    "ap75": ("precision", 5, 0, 0),
    "ap_medium": ("precision", _ALL, 1, 0),
    "ap_large": ("precision", _ALL, 2, 0),
    "ar_20": ("recall", _ALL, 0, 0),
    "ar50": ("recall", 0, 0, 0),
    "ar75": ("recall", 5, 0, 0),
    "ar_medium": ("recall", _ALL, 1, 0),
    "ar_large": ("recall", _ALL, 2, 0),
}
"""COCO's 10 numbers of keypoints, in pycocotools' order: table, OKS threshold index or all, area range index (all,
medium, large), detections an image index (there is one: 20)."""

_OTHER_SIGMA = 0.05  # as TensorFlow's Object Detection API takes where none is given
_SIGMAS = {
    "nose": 0.026,
    **dict.fromkeys(("left_eye", "right_eye"), 0.025),
    **dict.fromkeys(("left_ear", "right_ear"), 0.035),
    **dict.fromkeys(("left_shoulder", "right_shoulder"), 0.079),
    **dict.fromkeys(("left_elbow", "right_elbow"), 0.072),
    **dict.fromkeys(("left_wrist", "right_wrist"), 0.062),
    **dict.fromkeys(("left_hip", "right_hip"), 0.107),
    **dict.fromkeys(("left_knee", "right_knee"), 0.087),
    **dict.fromkeys(("left_ankle", "right_ankle"), 0.089),
}


def oks_sigmas(names: Sequence[str]) -> list[float]:
    """How exactly people place each keypoint, as a part of the object's size: COCO's for COCO's names, else 0.05.

    The object keypoint similarity (OKS) of a point at distance d is exp(-d^2 / (8 area sigma^2)).
    """
    return [_SIGMAS.get(name, _OTHER_SIGMA) for name in names]


def with_keypoints(dataset: Dataset) -> list[dict[str, Any]]:
    """For each annotation of `GroundTruth.coco`, by its number: its keypoints, and how many are labelled."""
    table = dataset.table
    given = table.columns["keypoints"][table.objects]
    points = np.zeros((len(given), len(dataset.keypoints.names) if dataset.keypoints else 0, 3))
    points[:, : given.shape[1]] = given  # without a labelled object the column is empty
    labelled = (points[..., 2] > 0).sum(axis=1).tolist()
    flat = points.reshape(len(points), -1).tolist()
    return [
        {"id": number, "keypoints": values, "num_keypoints": count}
        for number, (values, count) in enumerate(zip(flat, labelled, strict=True), start=1)
    ]


def shown_keypoints(numbers: Mapping[str, float], shown: Callable[[float], str]) -> list[str]:
    """Two lines for people: there is no small, and recall is at 20."""
    titles = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_medium": "medium", "ap_large": "large", "ar_20": "AR20"}
    head = "".join(f"{title:>8}" for title in titles.values())
    return ["          " + head, "keypoint  " + "".join(f"{shown(numbers[name]):>8}" for name in titles)]
