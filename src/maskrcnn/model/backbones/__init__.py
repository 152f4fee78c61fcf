"""Trunks: an image in, maps out, usually of stride 4, 8, 16, 32; or one, and a second stage for each RoI's crop."""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.model.backbones.channels import first_convolution, inflate, set_input_channels
from maskrcnn.model.backbones.convnext import ConvNeXt
from maskrcnn.model.backbones.efficientnet_lite import EfficientNetLite0
from maskrcnn.model.backbones.features import HALVING, Features
from maskrcnn.model.backbones.inception_resnet_v2 import InceptionResNetV2, InceptionResNetV2StageTwo
from maskrcnn.model.backbones.inception_v2 import InceptionV2, InceptionV2StageTwo
from maskrcnn.model.backbones.norms import fold_norms
from maskrcnn.model.backbones.pretrained import load_backbone, preprocessing
from maskrcnn.model.backbones.resnet import ResNet, ResNetStageTwo
from maskrcnn.model.backbones.resnet_v1 import ResNetV1, ResNetV1StageTwo
from maskrcnn.model.backbones.swin import Swin
from maskrcnn.model.backbones.trunk import StageTwo, Trunk

__all__ = [
    "BACKBONES",
    "STAGES_TWO",
    "StageTwo",
    "Trunk",
    "build_backbone",
    "build_stage_two",
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
    "resnext101_32x4d": ResNet,
    "resnext101_32x8d": ResNet,
    "resnext101_64x4d": ResNet,
    "wide_resnet50_2": ResNet,
    "wide_resnet101_2": ResNet,
    "swin_t": Swin,
    "swin_s": Swin,
    "swin_b": Swin,
    "convnext_tiny": ConvNeXt,
    "convnext_small": ConvNeXt,
    "convnext_base": ConvNeXt,
    **dict.fromkeys(HALVING, Features),
    "efficientnet_lite0": EfficientNetLite0,
    "resnet_v1_50": ResNetV1,
    "resnet_v1_101": ResNetV1,
    "resnet_v1_152": ResNetV1,
    "inception_v2": InceptionV2,
    "inception_resnet_v2": InceptionResNetV2,
}
# Which trunks have a choice, where these are not ResNets alone.
KINDS = {
    "output": "resnet, mobilenet and efficientnet_b",
    "maps": "resnet, mobilenet and efficientnet_b",
    "projection": "mobilenet and efficientnet_b",
}
# Trunks of networks without a pyramid: these give one map, and their last stage runs on the crop of each RoI. A ResNet
# can also serve a pyramid, or give the map of its last stage.
STAGES_TWO: dict[str, Callable[[BackboneConfig], StageTwo]] = {
    **{name: ResNetStageTwo for name, trunk in BACKBONES.items() if trunk is ResNet},
    "resnet_v1_50": ResNetV1StageTwo,
    "resnet_v1_101": ResNetV1StageTwo,
    "resnet_v1_152": ResNetV1StageTwo,
    "inception_v2": InceptionV2StageTwo,
    "inception_resnet_v2": InceptionResNetV2StageTwo,
}


def build_backbone(config: BackboneConfig) -> Trunk:
    """A trunk with random weights; `.channels` are those of its maps.

    Raises:
        ConfigError: an unknown name; a choice that this trunk does not have.
    """
    if config.name not in BACKBONES:
        raise ConfigError(
            f"unknown trunk {config.name!r}{nearest(config.name, BACKBONES)}; known: {', '.join(BACKBONES)}",
            field="model.backbone.name",
        )
    trunk = BACKBONES[config.name]
    if trunk is not ResNet:
        _refuse(config, stride_in_1x1=False, stem_pool="symmetric", norm=config.norm if config.norm != "gn" else None)
    if trunk not in (ResNet, Features):
        _refuse(config, output="c4", maps=None)
    if trunk is not Features:
        _refuse(config, projection=None)
    return trunk(config)


def _refuse(config: BackboneConfig, **usual: object) -> None:
    """A choice that only other trunks have. Raises `ConfigError`."""
    for name, value in usual.items():
        if (given := getattr(config, name)) != value:
            kind = KINDS.get(name, "resnet and resnext")
            raise ConfigError(
                f"{given!r} is for {kind}, not {config.name}; leave it out", field=f"model.backbone.{name}"
            )


def build_stage_two(config: BackboneConfig) -> StageTwo:
    """The last stage of a trunk, with random weights. Raises `ConfigError` for a trunk that has none."""
    if config.name not in STAGES_TWO:
        raise ConfigError(
            f"{config.name!r} has no second stage, which a model without a pyramid needs; "
            f"set model.fpn, or one of {', '.join(STAGES_TWO)}",
            field="model.backbone.name",
        )
    return STAGES_TWO[config.name](config)
