"""`model.faster_rcnn` -> fields of `ModelConfig` and `DataConfig`: trunk, anchors, proposals, heads, resizer.

What the API does without saying so (box coder, order of NMS and clipping, losses) is in the presets of its configs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from maskrcnn.fields import nearest
from maskrcnn.pipeline.schema import View

RCNN = "model.faster_rcnn."
NMS = RCNN + "second_stage_post_processing.batch_non_max_suppression."
PREDICTOR = RCNN + "second_stage_box_predictor.mask_rcnn_box_predictor."
SIMPLE = {
    "model.rpn.channels": RCNN + "first_stage_box_predictor_depth",
    "model.rpn.kernel": RCNN + "first_stage_box_predictor_kernel_size",
    "model.rpn.dilation": RCNN + "first_stage_atrous_rate",
    "model.rpn.samples_per_image": RCNN + "first_stage_minibatch_size",
    "model.rpn.positive_fraction": RCNN + "first_stage_positive_balance_fraction",
    "model.rpn.nms_iou": RCNN + "first_stage_nms_iou_threshold",
    "model.rpn.box_loss_weight": RCNN + "first_stage_localization_loss_weight",
    "model.rpn.score_loss_weight": RCNN + "first_stage_objectness_loss_weight",
    "model.box.pooler.resolution": RCNN + "initial_crop_size",
    "model.box.samples_per_image": RCNN + "second_stage_batch_size",
    "model.box.positive_fraction": RCNN + "second_stage_balance_fraction",
    "model.box.box_loss_weight": RCNN + "second_stage_localization_loss_weight",
    "model.box.class_loss_weight": RCNN + "second_stage_classification_loss_weight",
    "model.box.class_agnostic": PREDICTOR + "share_box_across_classes",
    "model.box.score_threshold": NMS + "score_threshold",
    "model.box.nms_iou": NMS + "iou_threshold",
    "model.box.detections_per_class": NMS + "max_detections_per_class",
    "model.box.detections_per_image": NMS + "max_total_detections",
    "model.mask.loss_weight": RCNN + "second_stage_mask_prediction_loss_weight",
    "model.mask.class_agnostic": PREDICTOR + "masks_are_class_agnostic",
    "train.batch_size": "train_config.batch_size",
    "train.clip_norm": "train_config.gradient_clipping_by_norm",
}
"""Fields that mean the same there and here."""


class Extractor(NamedTuple):
    """A trunk: its name here, its strides, the channels of its second stage, and how the crops are pooled for it."""

    trunk: str
    strides: tuple[int, ...]
    channels: int
    crop: tuple[int, int, int] = (14, 2, 2)
    """initial_crop_size, maxpool_kernel_size, maxpool_stride of the published configs."""
    padding: str = "valid"
    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    std: tuple[float, ...] = (127.5, 127.5, 127.5)
    eps: float = 1e-3


def _resnet(trunk: str) -> Extractor:
    return Extractor(trunk, (8, 16), 2048, mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0), eps=1e-5)


EXTRACTORS = {
    "faster_rcnn_inception_v2": Extractor("inception_v2", (16,), 1024),
    "faster_rcnn_resnet50": _resnet("resnet_v1_50"),
    "faster_rcnn_resnet101": _resnet("resnet_v1_101"),
    "faster_rcnn_resnet152": _resnet("resnet_v1_152"),
    "faster_rcnn_inception_resnet_v2": Extractor("inception_resnet_v2", (8, 16), 1536, (17, 1, 1)),
    "faster_rcnn_inception_resnet_v2_keras": Extractor("inception_resnet_v2", (8, 16), 1536, (17, 1, 1), "same"),
}
"""`feature_extractor.type` and what it is here."""


def at(view: View, dotted: str) -> tuple[View, str]:
    """The message that holds a field, and the field's own name."""
    *parents, leaf = dotted.split(".")
    for parent in parents:
        view = view.part(parent)
    return view, leaf


def number_of_classes(rcnn: View) -> int:
    """`num_classes`, which must be there."""
    classes = rcnn.get("num_classes")
    if classes < 1:
        raise rcnn.error("num_classes", f"must be at least 1, it is {classes}: the classes of the label map")
    return int(classes)


def extractor_of(rcnn: View) -> Extractor:
    """The trunk. Raises `ConfigError` with the known ones."""
    view = rcnn.part("feature_extractor")
    name = view.get("type")
    if name not in EXTRACTORS:
        known = ", ".join(EXTRACTORS)
        raise view.error(
            "type", f"{name!r} is not a feature extractor known here{nearest(name, EXTRACTORS)}; known: {known}"
        )
    return EXTRACTORS[name]


def has_masks(rcnn: View) -> bool:
    """Whether it predicts masks: a third stage, and a head that makes it."""
    head = rcnn.part("second_stage_box_predictor").part("mask_rcnn_box_predictor")
    return bool(rcnn.get("number_of_stages") == 3 and head.get("predict_instance_masks"))


def read_model(rcnn: View) -> dict[str, Any]:
    """Dotted fields of the model. Raises `ConfigError` for what cannot be built."""
    if (stages := rcnn.get("number_of_stages")) not in (2, 3):
        raise rcnn.error("number_of_stages", f"{stages} is not supported; 2 is Faster R-CNN, 3 adds masks")
    converter = rcnn.part("second_stage_post_processing")
    if (found := converter.get("score_converter")) != "SOFTMAX":
        raise converter.error("score_converter", f"is {found}; scores are softmax probabilities here, write SOFTMAX")
    for field in ("initial_crop_size", "maxpool_kernel_size", "maxpool_stride"):
        if rcnn.get(field) < 1:
            raise rcnn.error(field, f"must be at least 1, it is {rcnn.get(field)}")
    head = rcnn.part("second_stage_box_predictor").part("mask_rcnn_box_predictor")
    extractor, proposals = extractor_of(rcnn), rcnn.get("first_stage_max_proposals")
    features = rcnn.part("feature_extractor")
    return {
        "model.backbone.name": extractor.trunk,
        "model.backbone.stride": _stride(rcnn, extractor),
        "model.backbone.stage_two_padding": extractor.padding,
        "model.backbone.norm": "bn" if features.get("batch_norm_trainable") else "frozen_statistics",
        "model.backbone.norm_eps": extractor.eps,
        "model.image_mean": extractor.mean,
        "model.image_std": extractor.std,
        **_anchors(rcnn),
        "model.rpn.post_nms_train": proposals,
        "model.rpn.post_nms_test": proposals,
        "model.box.pooler.max_pool": (rcnn.get("maxpool_kernel_size"), rcnn.get("maxpool_stride")),
        "model.box.dropout": _dropout(head),
        **(_mask(rcnn, head, extractor) if has_masks(rcnn) else {"model.mask": None}),
    }


def _dropout(head: View) -> float:
    keep = head.get("dropout_keep_probability")
    if not 0 < keep <= 1:
        raise head.error("dropout_keep_probability", f"{keep} must lie in (0, 1]")
    return round(1.0 - keep, 12) if head.get("use_dropout") else 0.0


def _stride(rcnn: View, extractor: Extractor) -> int:
    view = rcnn.part("feature_extractor")
    stride = view.get("first_stage_features_stride")
    if stride not in extractor.strides:
        able = " or ".join(map(str, extractor.strides))
        raise view.error("first_stage_features_stride", f"{stride} is not possible with {view.get('type')}; {able} is")
    grid = rcnn.part("first_stage_anchor_generator").part("grid_anchor_generator")
    for field in ("height_stride", "width_stride"):
        if grid.get(field) != stride:
            raise grid.error(field, f"{grid.get(field)} must be first_stage_features_stride, which is {stride}")
    return int(stride)


def _anchors(rcnn: View) -> dict[str, Any]:
    """Sides and ratios. There h = s / sqrt(r) * height, w = s * sqrt(r) * width; here the ratio is h / w."""
    grid = rcnn.part("first_stage_anchor_generator").part("grid_anchor_generator")
    lists = {}
    for field in ("scales", "aspect_ratios"):
        lists[field] = grid.get(field)
        if not lists[field] or min(lists[field]) <= 0:
            raise grid.error(field, "must be a list of positive numbers, such as [0.5, 1.0, 2.0]")
    height, width = grid.get("height"), grid.get("width")
    for field in ("height", "width"):
        if grid.get(field) < 1:
            raise grid.error(field, f"{grid.get(field)} must be at least 1")
    base = float(height) if height == width else math.sqrt(height * width)
    return {
        "model.rpn.anchors.sizes": (tuple(scale * base for scale in lists["scales"]),),
        "model.rpn.anchors.ratios": tuple(height / width / ratio for ratio in lists["aspect_ratios"]),
        "model.rpn.anchors.border": "clip" if rcnn.get("clip_anchors_to_image") else "drop",
    }


def _mask(rcnn: View, head: View, extractor: Extractor) -> dict[str, Any]:
    side, layers, depth = (
        head.get(field) for field in ("mask_height", "mask_prediction_num_conv_layers", "mask_prediction_conv_depth")
    )
    if head.get("mask_width") != side:
        raise head.error("mask_width", f"{head.get('mask_width')} must be mask_height, which is {side}")
    if side < 2:
        raise head.error("mask_height", f"{side} must be at least 2")
    if layers < 1:
        raise head.error("mask_prediction_num_conv_layers", f"{layers} must be at least 1")
    if depth < 0:
        raise head.error("mask_prediction_conv_depth", f"{depth} must not be negative; 0 chooses")
    return {
        "model.mask.resize": side,
        "model.mask.convolutions": layers - 1,
        "model.mask.channels": depth or mask_depth(extractor.channels, number_of_classes(rcnn)),
    }


def mask_depth(channels: int, classes: int) -> int:
    """The automatic `mask_prediction_conv_depth` (0): between the two, on a logarithmic scale, as a power of two."""
    return int(2 ** round((2 * math.log2(channels) + 3 * math.log2(classes)) / 5))


def read_resizer(rcnn: View) -> dict[str, Any]:
    """Dotted fields of the data. Raises `ConfigError` without a resizer."""
    view = rcnn.part("image_resizer")
    if view.has("fixed_shape_resizer"):
        fixed = view.part("fixed_shape_resizer")
        kind, small, large = "fixed", fixed.get("height"), fixed.get("width")
    elif view.has("keep_aspect_ratio_resizer"):
        keep = view.part("keep_aspect_ratio_resizer")
        kind, small, large = "short", keep.get("min_dimension"), keep.get("max_dimension")
    else:
        raise rcnn.error("image_resizer", "must hold keep_aspect_ratio_resizer or fixed_shape_resizer")
    return {"data.resize": kind, "data.min_size": small, "data.max_size": large}
