"""Trunks: an image in, four maps of stride 4, 8, 16, 32 out."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones.channels import first_convolution, inflate, set_input_channels
from maskrcnn.model.backbones.efficientnet_lite import EfficientNetLite0
from maskrcnn.model.backbones.mobilenet_v2 import MobileNetV2
from maskrcnn.model.backbones.norms import fold_norms
from maskrcnn.model.backbones.pretrained import load_backbone, preprocessing
from maskrcnn.model.backbones.resnet import ResNet, Trunk

__all__ = [
    "BACKBONES",
    "build_backbone",
    "first_convolution",
    "fold_norms",
    "inflate",
    "load_backbone",
    "preprocessing",
    "set_input_channels",
]

BACKBONES: dict[str, Callable[[BackboneConfig], Trunk]] = {
    "resnet18": ResNet,
    "resnet34": ResNet,
    "resnet50": ResNet,
    "resnet101": ResNet,
    "resnet152": ResNet,
    "resnext50_32x4d": ResNet,
    "resnext101_32x8d": ResNet,
    "resnext101_64x4d": ResNet,
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
}


def build_backbone(config: BackboneConfig) -> Trunk:
    """A trunk with random weights; `.channels` are those of its four maps. Raises `ConfigError` for an unknown name."""
    if config.name not in BACKBONES:
        close = difflib.get_close_matches(config.name, BACKBONES, 1, 0.4)
        hint = f", did you mean {close[0]!r}?" if close else ""
        message = f"unknown trunk {config.name!r}{hint}; known: {', '.join(BACKBONES)}"
        raise ConfigError(message, field="model.backbone.name")
    return BACKBONES[config.name](config)
