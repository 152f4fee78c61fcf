"""Full configs by name. A preset is a function: no inheritance, no search path."""

from __future__ import annotations

from maskrcnn.config import (
    BackboneConfig,
    BoxHeadConfig,
    Config,
    DataConfig,
    FPNConfig,
    MaskHeadConfig,
    ModelConfig,
    RPNConfig,
    TrainConfig,
)
from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest


def _resnet(name: str) -> Config:
    return Config(model=ModelConfig(backbone=BackboneConfig(name=name)))


def _small(name: str, frozen_stages: int = 2) -> Config:
    """For a few hundred images and a CPU or a small GPU: light trunk, narrow heads, 512 px, AdamW, EMA."""
    return Config(
        model=ModelConfig(
            backbone=BackboneConfig(name=name, frozen_stages=frozen_stages),
            fpn=FPNConfig(channels=96),
            rpn=RPNConfig(pre_nms_train=1000, pre_nms_test=500, post_nms_train=500, post_nms_test=300),
            box=BoxHeadConfig(fully_connected_channels=512, samples_per_image=128),
            mask=MaskHeadConfig(channels=96),
        ),
        data=DataConfig(
            min_size=384,
            max_size=512,
            scale_jitter=(0.7, 1.4),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        ),
        train=TrainConfig(
            epochs=30,
            batch_size=4,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=100,
            clip_norm=1.0,
            ema_decay=0.998,
            evaluate_every=5,
        ),
    )


def _shapes() -> Config:
    """Matterport's train_shapes in minutes on two CPU cores, from random weights."""
    config = _small("resnet18", frozen_stages=0)
    return config.replace(
        **{
            "model.backbone.norm": "bn",
            "model.fpn.channels": 64,
            "model.fpn.norm": "bn",
            "model.rpn.anchors.sizes": ((16.0,), (32.0,), (64.0,), (96.0,), (128.0,)),
            "model.rpn.pre_nms_train": 400,
            "model.rpn.post_nms_train": 200,
            "model.rpn.post_nms_test": 100,
            "model.box.fully_connected_channels": 256,
            "model.box.samples_per_image": 64,
            "model.mask.channels": 64,
            "model.mask.norm": "bn",
            "data.min_size": 128,
            "data.max_size": 128,
            "data.scale_jitter": (1.0, 1.0),
            "data.vertical_flip": 0.5,
            "train.batch_size": 8,
            "train.epochs": 6.0,
        }
    )


def _torchvision() -> Config:
    """The conventions of torchvision's `maskrcnn_resnet50_fpn`, for its weights."""
    return _resnet("resnet50").replace(
        **{
            "model.rpn.anchors.rounded": True,
            "model.rpn.anchors.stride": "grid",
            "model.rpn.post_nms_train": 2000,
            "model.box.pooler.aligned": False,
            "model.mask.pooler.aligned": False,
            "model.mask.paste": "torchvision",
            "data.interpolation": "bilinear",
            "data.size_rounding": "floor",
        }
    )


PRESETS = {
    "r18-fpn": lambda: _resnet("resnet18"),
    "r34-fpn": lambda: _resnet("resnet34"),
    "r50-fpn": lambda: _resnet("resnet50"),
    "r101-fpn": lambda: _resnet("resnet101"),
    "r152-fpn": lambda: _resnet("resnet152"),
    "x50-fpn": lambda: _resnet("resnext50_32x4d"),
    "x101-fpn": lambda: _resnet("resnext101_32x8d"),
    "small": lambda: _small("mobilenet_v2"),
    "small-efficientnet": lambda: _small("efficientnet_lite0").replace(
        **{"model.image_mean": (127.0,) * 3, "model.image_std": (128.0,) * 3}
    ),
    "shapes": _shapes,
    "torchvision-r50-fpn": _torchvision,
}


def preset(name: str) -> Config:
    """A full config by name. Raises `ConfigError` listing the names."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, PRESETS)}; presets: {', '.join(PRESETS)}")
    return PRESETS[name]()
