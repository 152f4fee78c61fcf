"""Our `Config` -> `pipeline.config`: an existing file edited, or the API's form filled in.

Whatever is written is read again: what does not come back the same cannot be said in a pipeline.config, and is refused.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.pipeline import augment, schedule
from maskrcnn.pipeline.edit import load_masks, message_at, put, set_paths
from maskrcnn.pipeline.model import EXTRACTORS, PREDICTOR, RCNN, SIMPLE
from maskrcnn.pipeline.read import Pipeline, from_message
from maskrcnn.pipeline.values import number, value
from maskrcnn.text_proto import Message, parse
from maskrcnn.text_proto import write as to_text

FORM = """
model {
  faster_rcnn {
    number_of_stages: 2
    num_classes: 1
    image_resizer { keep_aspect_ratio_resizer { min_dimension: 800 max_dimension: 1365 } }
    feature_extractor { type: "faster_rcnn_inception_v2" first_stage_features_stride: 16 }
    first_stage_anchor_generator {
      grid_anchor_generator {
        scales: [0.25, 0.5, 1.0, 2.0] aspect_ratios: [0.5, 1.0, 2.0] height_stride: 16 width_stride: 16
      }
    }
    first_stage_box_predictor_conv_hyperparams {
      op: CONV
      regularizer { l2_regularizer { weight: 0.0 } }
      initializer { truncated_normal_initializer { stddev: 0.01 } }
    }
    initial_crop_size: 14
    maxpool_kernel_size: 2
    maxpool_stride: 2
    second_stage_box_predictor { mask_rcnn_box_predictor { fc_hyperparams {
      op: FC
      regularizer { l2_regularizer { weight: 0.0 } }
      initializer { variance_scaling_initializer { factor: 1.0 uniform: true mode: FAN_AVG } }
    } } }
    second_stage_post_processing { batch_non_max_suppression { } score_converter: SOFTMAX }
  }
}
train_config { batch_size: 1 }
train_input_reader { label_map_path: "" tf_record_input_reader { input_path: "" } }
eval_config { metrics_set: "coco_detection_metrics" }
eval_input_reader { label_map_path: "" shuffle: false num_epochs: 1 tf_record_input_reader { input_path: "" } }
"""
CONV = """
op: CONV
regularizer { l2_regularizer { weight: 0.0 } }
initializer { truncated_normal_initializer { stddev: 0.01 } }
"""
"""Settings of the mask head's layers in the published configs."""
HEADS = (
    RCNN + "first_stage_box_predictor_conv_hyperparams",
    PREDICTOR + "fc_hyperparams",
    PREDICTOR + "conv_hyperparams",
)


def pipeline_text(
    config: Config,
    *,
    classes: int | None = None,
    base: Pipeline | None = None,
    train: tuple[str, ...] = (),
    val: tuple[str, ...] = (),
    label_map: str = "",
    checkpoint: str = "",
) -> str:
    """The text of a pipeline.config that `read_pipeline` reads to the same config.

    Args:
        config: what to write.
        classes: number of classes; None: that of `base`.
        base: the file to edit: its comments and what has no counterpart here stay. None fills in the API's form.
        train, val, label_map, checkpoint: paths; empty ones stay as they are.

    Raises:
        ConfigError: a field with a value that the API cannot express.
    """
    _check_expressible(config)
    config = _explicit(config)
    message = copy.deepcopy(base.message) if base else parse(FORM)
    path = base.path if base else Path("pipeline.config")
    if classes is not None:
        put(message, RCNN + "num_classes", value(classes))
    set_paths(message, train=train, val=val, label_map=label_map, checkpoint=checkpoint)
    changed = set(differences(from_message(message, path).config, config)) if base else {None}
    _edit(message, config, changed)
    written = from_message(message, path).config
    for name in differences(written, config):
        there, here = (_at(c, name) for c in (written, config))
        raise ConfigError(
            f"{here!r} cannot be said in a pipeline.config, which would be read as {there!r}; write YAML", field=name
        )
    return to_text(message)


def _check_expressible(config: Config) -> None:
    """The differences that are better told than found."""
    if config.model.fpn is not None:
        raise ConfigError("the API's Mask R-CNN has no pyramid; write YAML instead", field="model.fpn")
    known = sorted({extractor.trunk for extractor in EXTRACTORS.values()})
    if config.model.backbone.name not in known:
        message = f"{config.model.backbone.name!r} is not in the API; it has {', '.join(known)}"
        raise ConfigError(message, field="model.backbone.name")
    train = config.train
    if train.learning_rate_batch != train.batch_size:
        raise ConfigError(
            f"is {train.learning_rate_batch}, but the API does not scale rates to the batch; set it to "
            f"train.batch_size = {train.batch_size}, and the rates to what they should be",
            field="train.learning_rate_batch",
        )
    if train.schedule == "step":
        raise ConfigError("'step' falls at parts of the run; the API counts steps: use manual", field="train.schedule")
    for name in SIMPLE:
        if (config.model.mask or not name.startswith("model.mask.")) and _at(config, name) is None:
            raise ConfigError("null cannot be said in a pipeline.config; give a number", field=name)
    if config.model.rpn.post_nms_train != config.model.rpn.post_nms_test:
        message = f"{config.model.rpn.post_nms_train} must be model.rpn.post_nms_test: the API has one number"
        raise ConfigError(message, field="model.rpn.post_nms_train")


def _explicit(config: Config) -> Config:
    """The default of the optimiser's epsilon as the number that it is; none where the optimiser has none."""
    defaults = {"adam": 1e-8, "rmsprop": 1.0}
    given = config.train.optimizer_eps
    eps = defaults.get(config.train.optimizer)
    return config.replace(**{"train.optimizer_eps": given if eps and given is not None else eps})


def differences(one: Config, other: Config) -> list[str]:
    """Dotted names of the fields that differ by more than rounding; a part that only one has counts as one field."""
    return list(_differences(one.to_dict(), other.to_dict(), ""))


def _differences(one: dict[str, Any], other: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, here in one.items():
        there = other[key]
        if isinstance(here, dict) and isinstance(there, dict):
            yield from _differences(here, there, f"{prefix}{key}.")
        elif not _same(here, there):
            yield prefix + key


def _same(one: Any, other: Any) -> bool:
    """Equal, numbers up to rounding: a quotient that is written as a product may lose its last bit."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


def _at(config: Config, name: str) -> Any:
    return reduce(getattr, name.split("."), config)


# ---------------------------------------------------------------- one group of fields after the other


def _edit(message: Message, config: Config, changed: set[str] | set[None]) -> None:
    """Write what changed; {None} stands for everything."""

    def touched(*names: str) -> bool:
        return changed == {None} or any(str(name).startswith(names) for name in changed)

    model, data, train = config.model, config.data, config.train
    masks = model.mask is not None
    for ours, theirs in SIMPLE.items():
        if touched(ours) and (masks or not ours.startswith("model.mask.")):
            put(message, theirs, value(_at(config, ours)))
    if touched("model.backbone."):
        _write_trunk(message, config)
    if touched("model.rpn.anchors."):
        _write_anchors(message, config)
    if touched("model.rpn.post_nms_"):
        put(message, RCNN + "first_stage_max_proposals", value(model.rpn.post_nms_test))
    if touched("model.box.pooler.max_pool"):
        put(message, RCNN + "maxpool_kernel_size", value(model.box.pooler.max_pool[0]))
        put(message, RCNN + "maxpool_stride", value(model.box.pooler.max_pool[1]))
    if touched("model.box.dropout"):
        keep = number(1 - model.box.dropout, lambda keep: round(1 - keep, 12), model.box.dropout)
        put(message, PREDICTOR + "use_dropout", value(bool(model.box.dropout)))
        put(message, PREDICTOR + "dropout_keep_probability", value(keep))
    if touched("model.mask"):
        _write_mask(message, config, "model.mask" in changed or changed == {None})
    if touched("data.resize", "data.min_size", "data.max_size"):
        _write_resizer(message, config)
    if touched(*augment.NONE):
        augment.write_augmentation(data, message.part("train_config"))
    if touched("train.optimizer", "train.momentum", "train.ema_decay", "train.rms_decay", "train.schedule",
               "train.learning_rate", *schedule.PLAIN):  # fmt: skip
        schedule.write_optimizer(train, message.part("train_config"))
    if touched("train.steps"):
        put(message, "train_config.num_steps", value(train.steps or 0))
    if touched("train.precision") and (changed != {None} or train.precision == "bf16"):
        put(message, "train_config.use_bfloat16", value(train.precision == "bf16"))
    if touched("train.weight_decay"):
        _write_decay(message, train.weight_decay, masks)
    if touched("train.monitor"):
        sets = {"box": ["detection"], "mask": ["mask"], "auto": ["detection", "mask"]}[train.monitor]
        names = [f"coco_{name}_metrics" for name in sets if masks or name == "detection"]
        put(message, "eval_config.metrics_set", *map(value, names))


def _write_trunk(message: Message, config: Config) -> None:
    backbone = config.model.backbone
    for name, extractor in EXTRACTORS.items():
        if (extractor.trunk, extractor.padding) == (backbone.name, backbone.stage_two_padding):
            put(message, RCNN + "feature_extractor.type", value(name))
    put(message, RCNN + "feature_extractor.first_stage_features_stride", value(backbone.stride or 16))
    put(message, RCNN + "feature_extractor.batch_norm_trainable", value(backbone.norm == "bn"))
    grid = RCNN + "first_stage_anchor_generator.grid_anchor_generator."
    put(message, grid + "height_stride", value(backbone.stride or 16))
    put(message, grid + "width_stride", value(backbone.stride or 16))


def _write_anchors(message: Message, config: Config) -> None:
    anchors, grid = config.model.rpn.anchors, RCNN + "first_stage_anchor_generator.grid_anchor_generator."
    put(message, grid + "height")
    put(message, grid + "width")
    scales = [number(side / 256, lambda scale: scale * 256.0, side) for side in anchors.sizes[0]]
    ratios = [number(1 / ratio, lambda there: 1.0 / there, ratio) for ratio in anchors.ratios]
    put(message, grid + "scales", *map(value, scales))
    put(message, grid + "aspect_ratios", *map(value, ratios))
    put(message, RCNN + "clip_anchors_to_image", value(anchors.border == "clip"))


def _write_mask(message: Message, config: Config, whole: bool) -> None:
    mask = config.model.mask
    if whole:
        put(message, RCNN + "number_of_stages", value(3 if mask else 2))
        put(message, PREDICTOR + "predict_instance_masks", value(mask is not None))
    if mask is None:
        return
    if whole:
        if message_at(message, PREDICTOR + "conv_hyperparams") is None:
            put(message, PREDICTOR + "conv_hyperparams", parse(CONV))
        load_masks(message, "PNG_MASKS")
        put(message, RCNN + "second_stage_mask_prediction_loss_weight", value(mask.loss_weight))
        put(message, PREDICTOR + "masks_are_class_agnostic", value(mask.class_agnostic))
    put(message, PREDICTOR + "mask_height", value(mask.resize or 0))
    put(message, PREDICTOR + "mask_width", value(mask.resize or 0))
    put(message, PREDICTOR + "mask_prediction_num_conv_layers", value(mask.convolutions + 1))
    put(message, PREDICTOR + "mask_prediction_conv_depth", value(mask.channels))


def _write_resizer(message: Message, config: Config) -> None:
    data = config.data
    resizer = message.part("model").part("faster_rcnn").part("image_resizer")
    fixed = data.resize == "fixed"
    name, other = "fixed_shape_resizer", "keep_aspect_ratio_resizer"
    if not fixed:
        name, other = other, name
    resizer.put(other)
    body = resizer.part(name)
    body.put("height" if fixed else "min_dimension", value(data.min_size))
    body.put("width" if fixed else "max_dimension", value(data.max_size))


def _write_decay(message: Message, decay: float, masks: bool) -> None:
    for name in HEADS[: 3 if masks else 2]:
        put(message, name + ".regularizer.l2_regularizer.weight", value(decay))
    put(message, "train_config.add_regularization_loss")
