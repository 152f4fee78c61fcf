"""Every knob, once: frozen dataclasses with a default, its unit and its reason. No torch here.

`presets.preset(name)` returns a full `Config`; `config.replace(**{"model.rpn.nms_iou": 0.6})` returns a changed copy. A
checkpoint stores `config.to_dict()`.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

from maskrcnn.config.data import DataConfig
from maskrcnn.config.model import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    FPNConfig,
    KeypointHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolerConfig,
    RPNConfig,
)
from maskrcnn.config.train import TrainConfig
from maskrcnn.errors import ConfigError
from maskrcnn.fields import build, replace_field, to_plain

__all__ = [
    "AnchorConfig",
    "BackboneConfig",
    "BoxHeadConfig",
    "Config",
    "DataConfig",
    "FPNConfig",
    "KeypointHeadConfig",
    "MaskHeadConfig",
    "ModelConfig",
    "PoolerConfig",
    "RPNConfig",
    "TrainConfig",
    "check",
]


@dataclass(frozen=True)
class Config:
    """Everything a run needs apart from data and classes."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Network."""
    data: DataConfig = field(default_factory=DataConfig)
    """Input."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Schedule."""

    def __post_init__(self) -> None:
        check(self)

    def replace(self, **changes: Any) -> Config:
        """A copy with dotted fields changed: `config.replace(**{"train.batch_size": 4})`.

        A whole part may be given too (`model=...`). Raises `ConfigError` for an unknown name, with the nearest known.
        """
        # A stand-in without cross-field checks: they look at the result, not at each change.
        draft = _Draft(self.model, self.data, self.train)
        for name, value in changes.items():
            draft = replace_field(draft, name.split("."), value, name)
        return Config(draft.model, draft.data, draft.train)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return to_plain(dataclasses.asdict(self))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Config:
        """The inverse of `to_dict`. Raises `ConfigError` for unknown names and wrong types."""
        return build(Config, data, "")


@dataclass(frozen=True)
class _Draft:
    model: ModelConfig
    data: DataConfig
    train: TrainConfig


# ---------------------------------------------------------------- checks


def check(config: Config) -> None:
    """Cross-field checks. Raises `ConfigError` naming the field and the remedy."""
    rpn, data, train = config.model.rpn, config.data, config.train
    rules = [
        (0 <= rpn.background_iou <= rpn.foreground_iou <= 1, "model.rpn.background_iou",
         f"{rpn.background_iou} must lie between 0 and model.rpn.foreground_iou = {rpn.foreground_iou}"),
        (len({len(s) for s in rpn.anchors.sizes}) == 1, "model.rpn.anchors.sizes",
         "needs the same number of sizes on each level, because the RPN is shared by the levels"),
        (len(config.model.image_mean) == len(config.model.image_std), "model.image_std",
         f"has {len(config.model.image_std)} channels but model.image_mean {len(config.model.image_mean)}"),
        (all(std > 0 for std in config.model.image_std), "model.image_std", "must be positive"),
        (data.min_size > 0 and (data.resize == "fixed" or data.min_size <= data.max_size), "data.min_size",
         f"{data.min_size} must be positive and at most data.max_size = {data.max_size}"),
        (data.max_size > 0, "data.max_size", f"{data.max_size} must be positive"),
        (data.size_buckets > 0 and data.count_buckets > 0, "data.size_buckets", "buckets must be at least 1"),
        (data.size_buckets * data.count_buckets <= 8, "data.size_buckets",
         f"{data.size_buckets} x data.count_buckets {data.count_buckets} must be at most 8 shapes in a run"),
        (0 < data.scale_jitter[0] <= data.scale_jitter[1], "data.scale_jitter",
         f"{data.scale_jitter} must be (low, high) with 0 < low <= high"),
        (train.batch_size > 0 and train.accumulate > 0, "train.batch_size", "must be positive"),
        (train.batch_size % max(train.accumulate, 1) == 0, "train.accumulate",
         f"{train.accumulate} must divide train.batch_size = {train.batch_size}"),
        (train.learning_rate > 0, "train.learning_rate", f"{train.learning_rate} must be positive"),
        (0 <= train.ema_decay < 1, "train.ema_decay", f"{train.ema_decay} must lie in [0, 1)"),
        ((train.steps or 1) > 0 and train.epochs > 0, "train.epochs", "must be positive"),
        *_arrangement_rules(config.model, data),
        *_head_rules(config.model),
        *_schedule_rules(train),
        *_augmentation_rules(data),
    ]  # fmt: skip
    for good, name, message in rules:
        if not good:
            raise ConfigError(message, field=name)


def _arrangement_rules(model: ModelConfig, data: DataConfig) -> list[tuple[bool, str, str]]:
    """What goes with a pyramid, and what without."""
    levels, box, backbone = len(model.rpn.anchors.sizes), model.box, model.backbone
    heads = (("box", box), ("mask", model.mask), ("keypoint", model.keypoint))
    poolers = [(f"model.{name}.pooler", head.pooler) for name, head in heads if head is not None]
    unpooled = [(pooler.max_pool == (1, 1), f"{name}.max_pool",
                 f"{pooler.max_pool} is for networks without a pyramid whose trunk ends at c4; set it to (1, 1)")
                for name, pooler in poolers]  # fmt: skip
    maps = backbone.maps
    if model.fpn is not None:
        return [
            (maps is None or (maps != () and min(maps) >= 0 and sorted(set(maps)) == list(maps)), "model.backbone.maps",
             f"{maps} must be numbers from 0 on that ascend, at least one; or null"),
            (backbone.projection is None, "model.backbone.projection",
             f"{backbone.projection} is for networks without a pyramid; leave it null, or set model.fpn null"),
            (levels == (5 if maps is None else len(maps) + 1), "model.rpn.anchors.sizes",
             f"has {levels} levels; give one tuple for each of P2, P3, P4, P5, P6" if maps is None else
             f"has {levels} levels; give one tuple for each of model.backbone.maps, and one more"),
            (backbone.stride is None, "model.backbone.stride",
             f"{backbone.stride} is for networks without a pyramid; leave it null, or set model.fpn null"),
            (backbone.output == "c4", "model.backbone.output",
             f"{backbone.output} is for networks without a pyramid; leave it c4, or set model.fpn null"),
            (model.fpn.norm != "gn" or model.fpn.channels % 32 == 0, "model.fpn.channels",
             f"{model.fpn.channels} must be a multiple of 32 for the 32 groups of model.fpn.norm gn"),
            (data.pad_multiple % 32 == 0 and data.pad_multiple > 0, "data.pad_multiple",
             f"{data.pad_multiple} must be a multiple of 32, the stride of P5"),
            *unpooled,
        ]  # fmt: skip
    one_map = [
        (levels == 1, "model.rpn.anchors.sizes",
         f"has {levels} levels; without a pyramid (model.fpn null) there is one"),
        (backbone.stride in (8, 16, 32) and (backbone.stride != 32 or backbone.output == "c5"), "model.backbone.stride",
         f"{backbone.stride} must be 8 or 16 without a pyramid (model.fpn null), or 32 with model.backbone.output c5"),
        (maps is None or (len(maps) == 1 and maps[0] >= 0), "model.backbone.maps",
         f"{maps} must be one block without a pyramid (model.fpn null), or null"),
        (backbone.projection is None or (backbone.projection > 0 and backbone.output == "c5"),
         "model.backbone.projection", f"{backbone.projection} must be positive, with model.backbone.output c5"),
        (data.pad_multiple > 0, "data.pad_multiple", f"{data.pad_multiple} must be positive"),
        *((pooler.levels == "floor", f"{name}.levels",
           f"{pooler.levels} chooses between the maps of a pyramid; without one (model.fpn null) leave it floor")
          for name, pooler in poolers),
    ]  # fmt: skip
    if backbone.output == "c5":
        return [*one_map, *unpooled]
    return [
        *one_map,
        (box.convolutions == 0 and box.fully_connected == 0, "model.box.fully_connected",
         "must be 0, and model.box.convolutions too: without a pyramid the trunk's last stage takes their place"),
        (min(box.pooler.max_pool) > 0 and box.pooler.max_pool[0] <= box.pooler.resolution, "model.box.pooler.max_pool",
         f"{box.pooler.max_pool} must be (kernel, stride), at least 1, the kernel at most "
         f"model.box.pooler.resolution = {box.pooler.resolution}"),
    ]  # fmt: skip


def _head_rules(model: ModelConfig) -> list[tuple[bool, str, str]]:
    rpn, box, backbone = model.rpn, model.box, model.backbone
    rules = [
        (rpn.kernel > 0 and rpn.kernel % 2 == 1, "model.rpn.kernel", f"{rpn.kernel} must be odd"),
        (rpn.dilation > 0, "model.rpn.dilation", f"{rpn.dilation} must be at least 1"),
        (0 <= rpn.score_threshold < 1, "model.rpn.score_threshold", f"{rpn.score_threshold} must lie in [0, 1)"),
        (rpn.channels is None or rpn.channels > 0, "model.rpn.channels", f"{rpn.channels} must be positive"),
        *((count is None or count > 0, name, f"{count} must be positive, or null for all") for name, count in (
            ("model.rpn.pre_nms_train", rpn.pre_nms_train), ("model.rpn.pre_nms_test", rpn.pre_nms_test),
            ("model.box.candidates_per_image", box.candidates_per_image),
            ("model.box.detections_per_class", box.detections_per_class))),
        (0 <= box.dropout < 1, "model.box.dropout", f"{box.dropout} must lie in [0, 1)"),
        (box.norm != "gn" or box.convolution_channels % 32 == 0, "model.box.convolution_channels",
         f"{box.convolution_channels} must be a multiple of 32 for the 32 groups of model.box.norm gn"),
        (backbone.width > 0 and backbone.min_width > 0, "model.backbone.width",
         f"{backbone.width}, and model.backbone.min_width {backbone.min_width}, must be positive"),
        *_cascade_rules(model),
        *_crop_rules(model),
    ]  # fmt: skip
    if (mask := model.mask) is not None:
        rules += [
            (mask.predictor_kernel > 0 and mask.predictor_kernel % 2 == 1, "model.mask.predictor_kernel",
             f"{mask.predictor_kernel} must be odd"),
            (mask.resize is None or mask.resize > 1, "model.mask.resize", f"{mask.resize} must be at least 2"),
            (mask.predictor_kernel == 1 or mask.upsamplings == 0, "model.mask.predictor_kernel",
             f"{mask.predictor_kernel} needs model.mask.upsamplings 0; or set it to 1"),
            (mask.norm != "gn" or mask.channels % 32 == 0, "model.mask.channels",
             f"{mask.channels} must be a multiple of 32 for the 32 groups of model.mask.norm gn"),
        ]  # fmt: skip
    if (keypoint := model.keypoint) is not None:
        rules += [
            (keypoint.convolutions >= 0 and keypoint.channels > 0, "model.keypoint.channels",
             f"{keypoint.channels}, and model.keypoint.convolutions {keypoint.convolutions}, must be positive"),
            (model.fpn is not None or backbone.output == "c5", "model.keypoint",
             "reads a map of the whole image; without a pyramid set model.backbone.output c5, or model.keypoint null"),
        ]  # fmt: skip
    return rules


def _cascade_rules(model: ModelConfig) -> list[tuple[bool, str, str]]:
    box, stages = model.box, model.box.cascade
    return [
        (not stages or box.class_agnostic, "model.box.class_agnostic",
         "must be true with model.box.cascade: a head moves a box before its class is known"),
        (all(0 < iou <= 1 and min(weights) > 0 for iou, weights in stages), "model.box.cascade",
         f"{stages} must be (overlap, weights) pairs with 0 < overlap <= 1 and positive weights"),
        (bool(stages) or model.mask is None or not model.mask.each_stage, "model.mask.each_stage",
         "needs the stages of model.box.cascade, which is empty; set it false"),
    ]  # fmt: skip


def _crop_rules(model: ModelConfig) -> list[tuple[bool, str, str]]:
    """Matterport's conventions are defined for its crops alone."""
    heads = (("box", model.box), ("mask", model.mask), ("keypoint", model.keypoint))
    poolers = [(f"model.{name}.pooler", head.pooler) for name, head in heads if head is not None]
    crops = model.fpn is not None and all(pooler.kind == "crop_and_resize" for _, pooler in poolers)
    return [
        *((pooler.levels == "floor" or pooler.kind == "crop_and_resize", f"{name}.levels",
           f"{pooler.levels} needs {name}.kind crop_and_resize; or set it floor") for name, pooler in poolers),
        (crops or not model.inclusive, "model.inclusive",
         "needs a pyramid and crop_and_resize in the pooler of every head; or set it false"),
    ]  # fmt: skip


def _schedule_rules(train: TrainConfig) -> list[tuple[bool, str, str]]:
    starts = [step for step, _ in train.rates]
    rising = all(a < b for a, b in itertools.pairwise(starts))
    return [
        (train.schedule != "manual" or bool(train.rates), "train.rates",
         'is empty; give (first step, learning rate) pairs, or another train.schedule than "manual"'),
        (not train.rates or (starts[0] == 0 and rising), "train.rates",
         f"steps {starts} must start at 0 and rise"),
        (all(rate >= 0 for _, rate in train.rates), "train.rates", "learning rates must not be negative"),
        (train.decay_steps is None or train.decay_steps > 0, "train.decay_steps",
         f"{train.decay_steps} must be positive"),
        (0 <= train.rms_decay < 1, "train.rms_decay", f"{train.rms_decay} must lie in [0, 1)"),
        (train.optimizer_eps is None or train.optimizer_eps >= 0, "train.optimizer_eps",
         f"{train.optimizer_eps} must not be negative"),
        (0 <= train.momentum < 1, "train.momentum", f"{train.momentum} must lie in [0, 1)"),
        (train.clip_norm >= 0, "train.clip_norm", f"{train.clip_norm} must not be negative; 0 switches clipping off"),
        (0 < train.decay_factor <= 1, "train.decay_factor", f"{train.decay_factor} must lie in (0, 1]"),
        (train.hold_steps >= 0, "train.hold_steps", f"{train.hold_steps} must not be negative"),
        (train.end_rate >= 0, "train.end_rate", f"{train.end_rate} must not be negative"),
    ]  # fmt: skip


_COLOURS = ("brightness", "contrast", "saturation", "hue")
_PROBABILITIES = ("horizontal_flip", "vertical_flip", "crop", "blur", "jpeg", "cutout", "copy_paste", "mosaic")
_LARGEST = {"rotation": 180.0, "noise": 255.0, "hue": 0.5}


def _augmentation_rules(data: DataConfig) -> list[tuple[bool, str, str]]:
    """Ranges; and nothing that is made for 8-bit RGB where pixels are as in the file."""
    largest = dict.fromkeys(_PROBABILITIES, 1.0) | dict.fromkeys(_COLOURS, float("inf")) | _LARGEST
    rules = []
    for name, high in largest.items():
        value = getattr(data, name)
        wanted = "not be negative" if high == float("inf") else f"lie between 0 and {high:g}"
        rules.append((0 <= value <= high, f"data.{name}", f"{value} must {wanted}"))
    for name in (*_COLOURS, "jpeg"):
        message = f'{getattr(data, name)} needs 8-bit RGB; set it to 0, or data.pixels = "rgb8"'
        rules.append((data.pixels == "rgb8" or not getattr(data, name), f"data.{name}", message))
    return rules
