"""The messages of a `pipeline.config` that concern Faster and Mask R-CNN: fields, types, defaults, and what is done
about each that has no counterpart here. From the API's `protos/` and builders.
"""

from __future__ import annotations

from typing import Any

from maskrcnn.pipeline.messages_model import MODEL_MESSAGES
from maskrcnn.pipeline.messages_run import RUN_MESSAGES
from maskrcnn.pipeline.schema import Field, Schema, flag, many, part, real, whole

FLIPPED = "the data's own keypoint names say which points swap"
STEP = "an augmentation without a counterpart"
VALUES = "only the probability is followed: a window is 50 to 100 % of each side"

PIPELINE: dict[str, dict[str, Field]] = {
    "Pipeline": {
        "model": part("DetectionModel"),
        "train_config": part("TrainConfig"),
        "train_input_reader": part("InputReader"),
        "eval_config": part("EvalConfig"),
        "eval_input_reader": many("InputReader"),
        "graph_rewriter": part("any", "quantisation is done by `maskrcnn export --precision int8`"),
    },
}
RATIO = {"min_delta": real(0.8), "max_delta": real(1.25)}
FLIP = {"keypoint_flip_permutation": many("int", FLIPPED), "probability": real(0.5)}
CROP = {
    "min_object_covered": real(1.0, VALUES),
    "min_aspect_ratio": real(0.75, VALUES),
    "max_aspect_ratio": real(1.33, VALUES),
    "min_area": real(0.1, VALUES),
    "max_area": real(1.0, VALUES),
    "overlap_thresh": real(0.3, VALUES),
    "clip_boxes": flag(True, VALUES),
    "random_coef": real(),
}
MAPPED: dict[str, dict[str, Field]] = {
    "random_horizontal_flip": FLIP,
    "random_vertical_flip": FLIP,
    "random_adjust_brightness": {"max_delta": real(0.2)},
    "random_adjust_contrast": RATIO,
    "random_adjust_saturation": RATIO,
    "random_adjust_hue": {"max_delta": real(0.02)},
    "random_distort_color": {"color_ordering": whole(0, "all four are drawn, in our order")},
    "random_crop_image": CROP,
    "random_jpeg_quality": {
        "random_coef": real(),
        "min_jpeg_quality": whole(0, "the quality is drawn from 30 to 95"),
        "max_jpeg_quality": whole(100, "the quality is drawn from 30 to 95"),
    },
}
"""Augmentations with a counterpart in `DataConfig`, and their fields."""
ALONE = [
    "normalize_image",
    "random_pixel_value_scale",
    "random_image_scale",
    "random_rgb_to_gray",
    "random_jitter_boxes",
    "random_pad_image",
    "random_crop_pad_image",
    "random_crop_to_aspect_ratio",
    "random_black_patches",
    "random_resize_method",
    "scale_boxes_to_pixel_coordinates",
    "resize_image",
    "subtract_channel_mean",
    "ssd_random_crop",
    "ssd_random_crop_pad",
    "ssd_random_crop_fixed_aspect_ratio",
    "ssd_random_crop_pad_fixed_aspect_ratio",
    "random_rotation90",
    "rgb_to_gray",
    "convert_class_logits_to_softmax",
    "random_absolute_pad_image",
    "random_self_concat_image",
    "autoaugment_image",
    "drop_label_probabilistically",
    "remap_labels",
    "random_downscale_to_target_pixels",
    "random_patch_gaussian",
    "random_square_crop_by_scale",
    "random_scale_crop_and_pad_to_square",
    "adjust_gamma",
]
NEAREST = {
    "random_black_patches": "data.cutout is the nearest",
    "random_rotation90": "data.rotation is the nearest, data.vertical_flip for half a turn",
    "random_scale_crop_and_pad_to_square": "data.scale_jitter is the nearest",
    "random_square_crop_by_scale": "data.scale_jitter is the nearest",
    "random_image_scale": "the resizer undoes it; data.scale_jitter changes the size for good",
    "random_patch_gaussian": "data.noise is the nearest",
    "random_self_concat_image": "data.mosaic is the nearest",
}


def _schema() -> Schema:
    messages: dict[str, Any] = {**PIPELINE, **MODEL_MESSAGES, **RUN_MESSAGES}
    messages["RpnHyperparams"] = MODEL_MESSAGES["Hyperparams"] | {  # the API sets ReLU6 there whatever the file says
        "activation": Field("Activation", "RELU_6")
    }
    messages["FcHyperparams"] = MODEL_MESSAGES["Hyperparams"] | {  # the two predictors have no activation
        "activation": Field("Activation", "RELU")
    }
    messages |= {f"Augmentation.{name}": fields for name, fields in MAPPED.items()}
    messages["Augmentation"] = {name: part(f"Augmentation.{name}") for name in MAPPED} | {
        name: part("any", f"{STEP}; {NEAREST[name]}" if name in NEAREST else STEP) for name in ALONE
    }
    words = {
        "ResizeType": ("BILINEAR", "NEAREST_NEIGHBOR", "BICUBIC", "AREA"),
        "Activation": ("NONE", "RELU", "RELU_6", "SWISH"),
        "ScoreConverter": ("IDENTITY", "SIGMOID", "SOFTMAX"),
        "CheckpointVersion": ("UNKNOWN", "V1", "V2"),
        "InstanceMaskType": ("DEFAULT", "NUMERICAL_MASKS", "PNG_MASKS"),
        "InputType": ("INPUT_DEFAULT", "TF_EXAMPLE", "TF_SEQUENCE_EXAMPLE"),
    }
    enums = {name: {word: number for number, word in enumerate(known)} for name, known in words.items()}
    enums["Op"] = {"CONV": 1, "FC": 2}
    choices = "DetectionModel ImageResizer AnchorGenerator Regularizer BoxPredictor LearningRate ClassificationLoss"
    return Schema(messages, enums, frozenset(["Augmentation", "Optimizer", *choices.split()]))


SCHEMA = _schema()
