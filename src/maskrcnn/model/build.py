"""Config in, modules out: the one place that knows both."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from maskrcnn.config import DataConfig, ModelConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.anchors import Anchors
from maskrcnn.model.backbones import build_backbone, fold_norms, set_input_channels
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.fpn import FPN
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.rpn import RPN


def build_model(
    config: ModelConfig,
    *,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    data: DataConfig | None = None,
    seed: int = 0,
) -> MaskRCNN:
    """A network with random weights that depend on `seed` alone.

    It takes images of as many channels as `config.image_mean` has numbers.

    Args:
        config: the network.
        classes: class names, index = label.
        category_ids: external id of each class; None: 1..C.
        data: the preprocessing that goes with it; None: the default.
        seed: of the initial weights.

    Raises:
        ConfigError: no classes, or two classes of one name; means and deviations of different numbers of channels.
    """
    if not classes:
        raise ConfigError("no classes: the data set has no annotated object", field="classes")
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if twice:
        raise ConfigError(f"class {twice[0]!r} is there twice; rename one of them in the data set", field="classes")
    _check_channels(config, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config.backbone)
        set_input_channels(backbone, len(config.image_mean))
        channels = config.fpn.channels
        anchors = Anchors(
            config.rpn.anchors.sizes,
            config.rpn.anchors.ratios,
            rounded=config.rpn.anchors.rounded,
            grid_stride=config.rpn.anchors.stride == "grid",
        )
        return MaskRCNN(
            backbone=backbone,
            fpn=FPN(backbone.channels, channels, config.fpn.norm),
            anchors=anchors,
            rpn=RPN(channels, anchors.per_cell, config.rpn),
            box_head=BoxHead(channels, len(classes), config.box),
            mask_head=MaskHead(channels, len(classes), config.mask) if config.mask else None,
            mean=config.image_mean,
            std=config.image_std,
            config=config,
            data=data or DataConfig(),
            classes=tuple(classes),
            category_ids=tuple(category_ids or range(1, len(classes) + 1)),
        )


def _check_channels(config: ModelConfig, data: DataConfig | None) -> None:
    mean, std = len(config.image_mean), len(config.image_std)
    if mean != std or not mean:
        message = f"{std} numbers, but model.image_mean has {mean}; give one a channel in both"
        raise ConfigError(message, field="model.image_std")
    if mean != 3 and (data is None or data.pixels == "rgb8"):
        message = f"{mean} numbers, but 8-bit RGB has 3 channels; give 3, or set data.pixels raw"
        raise ConfigError(message, field="model.image_mean")


def fused_copy(model: MaskRCNN) -> MaskRCNN:
    """A copy for prediction: norms folded into convolutions, NHWC memory, no gradients; same results."""
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    fold_norms(fused)
    return fused.to(memory_format=torch.channels_last)
