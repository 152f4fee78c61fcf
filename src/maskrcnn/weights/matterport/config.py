"""A `Config` of Matterport's Mask_RCNN <-> our config.

Theirs is a Python class. From a file it is read without running it (classes, literals, sums); a class or an object of
your own program, a dict or a JSON file of the attributes are taken too. What changes the network and is not built here
is refused; attributes of our own that have no effect are ignored, as there.
"""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.weights.expressions import Unread, is_number
from maskrcnn.weights.matterport.config_class import read_class

# Their defaults (mrcnn 2.1), those that say something here.
DEFAULTS: dict[str, Any] = {
    "BACKBONE": "resnet101",
    "COMPUTE_BACKBONE_SHAPE": None,
    "BACKBONE_STRIDES": [4, 8, 16, 32, 64],
    "FPN_CLASSIF_FC_LAYERS_SIZE": 1024,
    "TOP_DOWN_PYRAMID_SIZE": 256,
    "NUM_CLASSES": 1,
    "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
    "RPN_ANCHOR_RATIOS": [0.5, 1, 2],
    "RPN_ANCHOR_STRIDE": 1,
    "RPN_NMS_THRESHOLD": 0.7,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
    "PRE_NMS_LIMIT": 6000,
    "POST_NMS_ROIS_TRAINING": 2000,
    "POST_NMS_ROIS_INFERENCE": 1000,
    "USE_MINI_MASK": True,
    "MINI_MASK_SHAPE": (56, 56),
    "IMAGE_RESIZE_MODE": "square",
    "IMAGE_MIN_DIM": 800,
    "IMAGE_MAX_DIM": 1024,
    "IMAGE_MIN_SCALE": 0,
    "IMAGE_CHANNEL_COUNT": 3,
    "MEAN_PIXEL": [123.7, 116.8, 103.9],
    "TRAIN_ROIS_PER_IMAGE": 200,
    "ROI_POSITIVE_RATIO": 0.33,
    "POOL_SIZE": 7,
    "MASK_POOL_SIZE": 14,
    "MASK_SHAPE": [28, 28],
    "USE_RPN_ROIS": True,
    "RPN_BBOX_STD_DEV": [0.1, 0.1, 0.2, 0.2],
    "BBOX_STD_DEV": [0.1, 0.1, 0.2, 0.2],
    "DETECTION_MAX_INSTANCES": 100,
    "DETECTION_MIN_CONFIDENCE": 0.7,
    "DETECTION_NMS_THRESHOLD": 0.3,
    "LEARNING_RATE": 0.001,
    "LEARNING_MOMENTUM": 0.9,
    "LOSS_WEIGHTS": {},
    "TRAIN_BN": False,
    "GRADIENT_CLIP_NORM": 5.0,
    "GPU_COUNT": 1,
    "IMAGES_PER_GPU": 2,
}
# Those that say nothing here, and those of version 2.0.
OTHERS = (
    "NAME", "STEPS_PER_EPOCH", "VALIDATION_STEPS", "WEIGHT_DECAY", "MAX_GT_INSTANCES", "BATCH_SIZE", "IMAGE_SHAPE",
    "IMAGE_META_SIZE", "BACKBONE_SHAPES", "IMAGE_PADDING",
)  # fmt: skip
NEAR = 0.9  # how like a known name a user's own must be to be taken for a mistake
# What is so in every network there and an option here.
FIXED: dict[str, Any] = {
    "model.backbone.stride_in_1x1": True,
    "model.backbone.stem_pool": "same",
    "model.fpn.norm": "none",
    "model.rpn.convolutions": 1,
    "model.rpn.channels": 512,
    "model.rpn.limit_log_scale": False,
    "model.rpn.pool": "image",
    "model.rpn.min_size": 0.0,
    "model.box.pooler.kind": "crop_and_resize",
    "model.box.pooler.levels": "round",
    "model.box.fully_connected": 2,
    "model.box.convolutions": 0,
    "model.box.classes_per_box": "best",
    "model.box.limit_log_scale": False,
    "model.box.candidates_per_image": None,
    "model.box.class_agnostic": False,
    "model.mask.pooler.kind": "crop_and_resize",
    "model.mask.pooler.levels": "round",
    "model.mask.convolutions": 4,
    "model.mask.channels": 256,
    "model.mask.upsamplings": 1,
    "model.mask.class_agnostic": False,
    "model.mask.paste": "matterport",
    "model.mask.threshold": 0.5,
    "model.inclusive": True,
    "model.image_std": (1.0, 1.0, 1.0),
    "data.resize": "grow",
    "data.interpolation": "skimage",
    "data.size_rounding": "even",
    "data.pad_place": "centre",
    "data.pad_value": "black",
    "data.pad_multiple": 64,
}
# The same, of what training does: not needed to write a model back.
TRAINED: dict[str, Any] = {
    "model.backbone.norm_eps": 1e-3,
    "model.backbone.frozen_stages": 0,
    "model.rpn.score": "softmax",
    "model.rpn.smooth_l1_beta": 1.0,
    "model.box.smooth_l1_beta": 1.0,
    "model.box.add_truth": False,
    "train.optimizer": "sgd",
    "train.schedule": "constant",
    "train.warmup_steps": 0,
    "train.weight_decay": 0.0,  # theirs is divided by the number of weights of each tensor: 1e-10 and less
}
LOSSES = {
    "rpn_class_loss": "model.rpn.score_loss_weight",
    "rpn_bbox_loss": "model.rpn.box_loss_weight",
    "mrcnn_class_loss": "model.box.class_loss_weight",
    "mrcnn_bbox_loss": "model.box.box_loss_weight",
    "mrcnn_mask_loss": "model.mask.loss_weight",
}


def read_attributes(source: Any) -> dict[str, Any]:
    """Every attribute that a Config sets, name -> value; what is more than data in a file is `Unread`.

    Args:
        source: `config.py`, or `config.py:NAME` where it holds several; a JSON file; a dict; a class or an object.

    Raises:
        ConfigError: nothing there, no Config in it, or a name in a dict or JSON file that no Config has.
    """
    if isinstance(source, Mapping):
        return _known({str(name): value for name, value in source.items()}, "config")
    if not isinstance(source, (str, Path)):
        names = [name for name in dir(source) if name.isupper()]
        if not names:
            raise ConfigError(
                f"{type(source).__name__} has none of the attributes of a Matterport Config", field="config"
            )
        return _told({name: getattr(source, name) for name in names}, type(source).__name__)
    if str(source).endswith(".json"):
        return _known(_json(Path(source)), str(source))
    if not re.search(r"\.py(:\w+)?$", str(source)):
        raise ConfigError(
            f"{source}: is no Config of Matterport's Mask_RCNN, whose weights these are; give the .py file with its "
            "class, or a .json of its attributes"
        )
    return _told(read_class(source), str(source))


def _known(values: dict[str, Any], where: str) -> dict[str, Any]:
    """A table holds attributes alone: raises `ConfigError` for a name that no Config has."""
    known = (*DEFAULTS, *OTHERS)
    if unknown := next((name for name in values if name not in known), None):
        raise ConfigError(
            f"{unknown}: no attribute of Matterport's Config{nearest(unknown, known) or '; leave it out'}", field=where
        )
    return values


def _told(values: dict[str, Any], where: str) -> dict[str, Any]:
    """A class may have attributes of its own; one that is nearly a known name is warned of."""
    known = (*DEFAULTS, *OTHERS)
    for name in values:
        near = difflib.get_close_matches(name, known, 1, NEAR) if name.isupper() and name not in known else []
        if near:
            warnings.warn(f"{where}: {name}: has no effect, did you mean {near[0]!r}?", stacklevel=4)
    return values


def to_config(attributes: Mapping[str, Any], where: str = "Config", *, trunk: str | None = None) -> Config:
    """Our config from a Config's attributes; those that it leaves out have Matterport's defaults.

    Args:
        attributes: of `read_attributes`.
        where: for messages.
        trunk: of the weights, where the Config leaves BACKBONE out.

    Raises:
        ConfigError: a wrong value, or a network that is not built here.
    """
    view = _View({**DEFAULTS, **({"BACKBONE": trunk} if trunk else {}), **attributes}, where)
    _check(view)
    detections = view.whole("DETECTION_MAX_INSTANCES")
    batch = view.whole("GPU_COUNT") * view.whole("IMAGES_PER_GPU")
    ratios, scales = view.numbers("RPN_ANCHOR_RATIOS"), view.numbers("RPN_ANCHOR_SCALES", 5)
    norm = "frozen_statistics" if view.get("TRAIN_BN") is False else "bn"
    fields: dict[str, Any] = {
        **FIXED,
        **TRAINED,
        "model.backbone.name": view.get("BACKBONE"),
        "model.backbone.norm": norm,
        "model.mask.norm": norm,
        "model.fpn.channels": view.whole("TOP_DOWN_PYRAMID_SIZE"),
        "model.rpn.anchors.sizes": tuple((scale,) for scale in scales),
        "model.rpn.anchors.ratios": tuple(1.0 / ratio for ratio in ratios),  # theirs are width / height
        "model.rpn.box_weights": view.box_weights("RPN_BBOX_STD_DEV"),
        "model.rpn.nms_iou": view.number("RPN_NMS_THRESHOLD"),
        "model.rpn.samples_per_image": view.whole("RPN_TRAIN_ANCHORS_PER_IMAGE"),
        "model.rpn.pre_nms_train": view.whole("PRE_NMS_LIMIT"),
        "model.rpn.pre_nms_test": view.whole("PRE_NMS_LIMIT"),
        "model.rpn.post_nms_train": view.whole("POST_NMS_ROIS_TRAINING"),
        "model.rpn.post_nms_test": view.whole("POST_NMS_ROIS_INFERENCE"),
        "model.box.pooler.resolution": view.whole("POOL_SIZE"),
        "model.box.fully_connected_channels": view.whole("FPN_CLASSIF_FC_LAYERS_SIZE"),
        "model.box.samples_per_image": view.whole("TRAIN_ROIS_PER_IMAGE"),
        "model.box.positive_fraction": view.number("ROI_POSITIVE_RATIO"),
        "model.box.box_weights": view.box_weights("BBOX_STD_DEV"),
        "model.box.score_threshold": view.number("DETECTION_MIN_CONFIDENCE", none=0.0),
        "model.box.nms_iou": view.number("DETECTION_NMS_THRESHOLD"),
        "model.box.detections_per_image": detections,
        "model.box.detections_per_class": detections,
        "model.mask.pooler.resolution": view.whole("MASK_POOL_SIZE"),
        "model.image_mean": view.numbers("MEAN_PIXEL", 3),
        "data.min_size": view.whole("IMAGE_MIN_DIM"),
        "data.max_size": view.whole("IMAGE_MAX_DIM"),
        "train.learning_rate": view.number("LEARNING_RATE"),
        "train.learning_rate_batch": batch,
        "train.batch_size": batch,
        "train.momentum": view.number("LEARNING_MOMENTUM"),
        "train.clip_norm": view.number("GRADIENT_CLIP_NORM"),
    }
    mini = view.numbers("MINI_MASK_SHAPE", 2)
    if view.get("USE_MINI_MASK") and mini[0] == mini[1]:
        fields["data.mask_size"] = int(mini[0])
    losses = view.get("LOSS_WEIGHTS")
    if not isinstance(losses, Mapping):
        raise view.error("LOSS_WEIGHTS", f"{losses!r:.60} is no dict")
    weights = _View(losses, f"{where}: LOSS_WEIGHTS")
    fields |= {LOSSES[name]: weights.number(name) for name in losses if name in LOSSES}
    return Config().replace(**fields)


def to_attributes(config: Config, classes: int) -> dict[str, Any]:
    """The attributes of a Config that gives this network: the inverse of `to_config`, for prediction."""
    model, data = config.model, config.data
    assert model.mask is not None
    assert model.fpn is not None
    mask = model.mask.pooler.resolution
    return {
        "BACKBONE": model.backbone.name,
        "NUM_CLASSES": classes + 1,
        "TOP_DOWN_PYRAMID_SIZE": model.fpn.channels,
        "FPN_CLASSIF_FC_LAYERS_SIZE": model.box.fully_connected_channels,
        "RPN_ANCHOR_SCALES": tuple(_short(sizes[0]) for sizes in model.rpn.anchors.sizes),
        "RPN_ANCHOR_RATIOS": [_short(1.0 / ratio) for ratio in model.rpn.anchors.ratios],
        "RPN_NMS_THRESHOLD": model.rpn.nms_iou,
        "RPN_BBOX_STD_DEV": _stds(model.rpn.box_weights),
        "PRE_NMS_LIMIT": model.rpn.pre_nms_test,
        "POST_NMS_ROIS_INFERENCE": model.rpn.post_nms_test,
        "POOL_SIZE": model.box.pooler.resolution,
        "MASK_POOL_SIZE": mask,
        "MASK_SHAPE": [2 * mask, 2 * mask],
        "BBOX_STD_DEV": _stds(model.box.box_weights),
        "DETECTION_MIN_CONFIDENCE": model.box.score_threshold,
        "DETECTION_NMS_THRESHOLD": model.box.nms_iou,
        "DETECTION_MAX_INSTANCES": model.box.detections_per_image or 100,
        "IMAGE_MIN_DIM": data.min_size,
        "IMAGE_MAX_DIM": data.max_size,
        "MEAN_PIXEL": [_short(value) for value in model.image_mean],
    }


def _check(view: _View) -> None:
    """What is not built here."""
    if view.get("BACKBONE") not in ("resnet50", "resnet101"):
        raise view.error("BACKBONE", f"{view.get('BACKBONE')!r:.60} is not built here; resnet50 and resnet101 are")
    if view.get("IMAGE_RESIZE_MODE") != "square":
        raise view.error(
            "IMAGE_RESIZE_MODE",
            f"{view.get('IMAGE_RESIZE_MODE')!r:.60} is not built here; set it to 'square' (the weights are the same)",
        )
    wanted = {
        "IMAGE_MIN_SCALE": (0, None, 0.0),
        "IMAGE_CHANNEL_COUNT": (3,),
        "RPN_ANCHOR_STRIDE": (1,),
        "COMPUTE_BACKBONE_SHAPE": (None,),
        "USE_RPN_ROIS": (True,),
    }
    for name, good in wanted.items():
        if view.get(name) not in good:
            raise view.error(name, f"{view.get(name)!r:.60} is not built here; set it to {good[0]}")
    if view.numbers("BACKBONE_STRIDES") != (4.0, 8.0, 16.0, 32.0, 64.0):
        raise view.error("BACKBONE_STRIDES", "must be [4, 8, 16, 32, 64], those of a ResNet")
    side = 2 * view.whole("MASK_POOL_SIZE")
    if view.numbers("MASK_SHAPE") != (side, side):
        raise view.error("MASK_SHAPE", f"{view.get('MASK_SHAPE')} must be {[side, side]}, twice MASK_POOL_SIZE")
    if view.whole("IMAGE_MAX_DIM") % 64:
        raise view.error("IMAGE_MAX_DIM", f"{view.whole('IMAGE_MAX_DIM')} must be a multiple of 64")
    if min(view.numbers("RPN_ANCHOR_RATIOS")) <= 0:
        raise view.error("RPN_ANCHOR_RATIOS", "must be positive")


class _View:
    """Attributes with checks that name them."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def get(self, name: str) -> Any:
        value = self.values[name]
        if isinstance(value, Unread):
            raise self.error(name, f"line {value.line} {value.why}; write the value itself")
        return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value

    def number(self, name: str, none: float | None = None) -> float:
        """`none`: what None stands for, where it may be."""
        value = none if (found := self.get(name)) is None else found
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, f"{value!r:.60} is no number")
        if not is_number(value):
            raise self.error(name, f"{value!r:.60} is no finite number")
        return float(value)

    def whole(self, name: str) -> int:
        value = self.number(name)
        if value != int(value) or value < 1:
            raise self.error(name, f"{value:g} is no whole number from 1 on")
        return int(value)

    def numbers(self, name: str, count: int | None = None) -> tuple[float, ...]:
        value = self.get(name)
        good = isinstance(value, (list, tuple)) and value and all(is_number(item) for item in value)
        if not good or (count is not None and len(value) != count):
            raise self.error(name, f"{value!r:.60} is no list of {count or 'some'} numbers")
        return tuple(float(item) for item in value)

    def box_weights(self, name: str) -> tuple[float, ...]:
        """Deviations of dy, dx, dh, dw -> weights of dx, dy, dw, dh."""
        stds = self.numbers(name, 4)
        if min(stds) <= 0:
            raise self.error(name, f"{stds} must be positive")
        return tuple(1.0 / stds[i] for i in (1, 0, 3, 2))

    def error(self, name: str, message: str) -> ConfigError:
        return ConfigError(f"{name}: {message}", field=self.where)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; give a table of attributes") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no table of attributes")
    return values


def _stds(weights: tuple[float, ...]) -> list[float]:
    return [_short(1.0 / weights[i]) for i in (1, 0, 3, 2)]


def _short(value: float) -> float | int:
    """Without digits that a division made, whole where it is."""
    value = float(f"{value:.12g}")
    return int(value) if value == int(value) else value
