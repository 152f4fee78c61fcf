"""One thin model of each family, and an image with its truth."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.structures import Polygons, Record
from tests.model.tiny import POINTS, tiny_config, tiny_model

CLASSES = ("square", "circle", "triangle")
C4 = {
    "model.fpn": None,
    "model.backbone.stride": 16,
    "model.rpn.anchors.sizes": ((16.0, 32.0, 64.0),),
    "model.box.fully_connected": 0,
    "model.box.pooler.resolution": 14,
    "model.mask.convolutions": 0,
}
TENSORFLOW = {
    "model.rpn.score": "softmax",
    "model.rpn.clip_after_nms": True,
    "model.rpn.pre_nms_test": None,
    "model.rpn.pre_nms_train": None,
    "model.rpn.anchors.border": "drop",
    "model.rpn.low_quality_rule": "first",
    "model.box.pooler.kind": "crop_and_resize",
    "model.box.pooler.max_pool": (2, 2),
    "model.box.clip_after_nms": True,
    "model.box.detections_per_class": 20,
    "model.box.candidates_per_image": None,
    "model.mask.resize": 7,
    "model.mask.upsamplings": 0,
    "model.mask.predictor_kernel": 3,
    "model.mask.paste": "tensorflow",
    "model.mask.soft_targets": True,
    "data.interpolation": "tensorflow",
}
MATTERPORT = {
    "model.inclusive": True,
    "model.rpn.pool": "image",
    "model.box.classes_per_box": "best",
    "model.box.pooler.kind": "crop_and_resize",
    "model.box.pooler.levels": "round",
    "model.mask.pooler.kind": "crop_and_resize",
    "model.mask.paste": "matterport",
    "data.pad_place": "centre",
    "data.pad_value": "black",
    "data.resize": "square",
    "data.max_size": 128,
}
FAMILIES: dict[str, dict] = {
    "pyramid": {},
    "c4": C4,
    "tensorflow": C4 | TENSORFLOW,
    "matterport": MATTERPORT,
    "cascade": {
        "model.box.class_agnostic": True,
        "model.box.cascade": ((0.6, (20.0, 20.0, 10.0, 10.0)), (0.7, (30.0, 30.0, 15.0, 15.0))),
        "model.mask.each_stage": True,
    },
    "boxes alone": {"model.mask": None},
    "keypoints": {"model.keypoint": {"convolutions": 1, "channels": 16}},
}


@cache
def model_of(family: str) -> MaskRCNN:
    changes = FAMILIES[family]
    return tiny_model(**changes)


def photo() -> np.ndarray:
    """(90, 120, 3): a red square, a green one and a blue one on noise."""
    pixels = np.random.default_rng(0).integers(0, 60, (90, 120, 3)).astype(np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(BOXES.astype(int).tolist()):
        pixels[y0:y1, x0:x1] = 0
        pixels[y0:y1, x0:x1, number] = 230
    return pixels


BOXES = np.array([(8, 10, 48, 50), (60, 20, 110, 45), (70, 55, 100, 85)], np.float32)


def record(*, masks: bool = True, points: bool = True, path: str = "photo.png") -> Record:
    """The truth of `photo`, which the record itself makes."""
    rings = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64) for x0, y0, x1, y1 in BOXES]
    x0, y0, x1, y1 = BOXES.T
    middles = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, np.full(3, 2.0)], axis=1)
    return Record(
        path=Path(path),
        image_id=1,
        height=90,
        width=120,
        boxes=BOXES,
        labels=np.arange(3),
        masks=tuple(Polygons((ring,)) for ring in rings) if masks else (),
        crowd=np.zeros(3, bool),
        areas=((x1 - x0) * (y1 - y0)).astype(np.float32),
        annotation_ids=np.arange(3),
        keypoints=np.repeat(middles[:, None], len(POINTS.names), axis=1).astype(np.float32) if points else None,
        make=photo,
    )


__all__ = ["BOXES", "CLASSES", "FAMILIES", "model_of", "photo", "record", "tiny_config"]
