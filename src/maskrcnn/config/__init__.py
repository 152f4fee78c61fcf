"""Every knob, once: frozen dataclasses with a default, its unit and its reason. No torch here.

`presets.preset(name)` returns a full `Config`; `config.replace(**{"model.rpn.nms_iou": 0.6})` returns a changed copy. A
checkpoint stores `config.to_dict()`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from maskrcnn.config.data import DataConfig
from maskrcnn.config.model import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    FPNConfig,
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
        (len(rpn.anchors.sizes) == 5, "model.rpn.anchors.sizes",
         f"has {len(rpn.anchors.sizes)} levels; give one tuple for each of P2, P3, P4, P5, P6"),
        (len({len(s) for s in rpn.anchors.sizes}) == 1, "model.rpn.anchors.sizes",
         "needs the same number of sizes on each level, because the RPN is shared by the levels"),
        (len(config.model.image_mean) == len(config.model.image_std), "model.image_std",
         f"has {len(config.model.image_std)} channels but model.image_mean {len(config.model.image_mean)}"),
        (all(std > 0 for std in config.model.image_std), "model.image_std", "must be positive"),
        (0 < data.min_size <= data.max_size, "data.min_size",
         f"{data.min_size} must be positive and at most data.max_size = {data.max_size}"),
        (data.pad_multiple % 32 == 0 and data.pad_multiple > 0, "data.pad_multiple",
         f"{data.pad_multiple} must be a multiple of 32, the stride of P5"),
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
        *_augmentation_rules(data),
    ]  # fmt: skip
    for good, name, message in rules:
        if not good:
            raise ConfigError(message, field=name)


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
