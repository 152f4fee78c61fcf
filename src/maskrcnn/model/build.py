"""Config in, modules out: the one place that knows both."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from maskrcnn.config import DataConfig, ModelConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.anchors import Anchors
from maskrcnn.model.backbones import build_backbone, build_stage_two, fold_norms, set_input_channels
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.fpn import FPN
from maskrcnn.model.keypoint_head import KeypointHead
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.roi_features import crop_side, levels_read
from maskrcnn.model.rpn import RPN
from maskrcnn.structures import KeypointSchema


def build_model(
    config: ModelConfig,
    *,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    data: DataConfig | None = None,
    keypoints: KeypointSchema | None = None,
    seed: int = 0,
) -> MaskRCNN:
    """A network with random weights that depend on `seed` alone.

    It takes images of as many channels as `config.image_mean` has numbers.

    Args:
        config: the network.
        classes: class names, index = label.
        category_ids: external id of each class; None: 1..C.
        data: the preprocessing that goes with it; None: the default.
        keypoints: what the keypoint head finds; without that head, the names alone are kept.
        seed: of the initial weights.

    Raises:
        ConfigError: no classes, or two classes of one name; means and deviations of different numbers of channels;
            crops too small for the trunk's second stage; a keypoint head without keypoints.
    """
    if not classes:
        raise ConfigError("no classes: the data set has no annotated object", field="classes")
    twice = sorted(name for name, times in Counter(classes).items() if times > 1)
    if twice:
        raise ConfigError(f"class {twice[0]!r} is there twice; rename one of them in the data set", field="classes")
    _check_channels(config, data)
    if config.keypoint is not None and keypoints is None:
        message = "finds keypoints, but none are named; take data with keypoints, or set it to null"
        raise ConfigError(message, field="model.keypoint")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(config.backbone)
        set_input_channels(backbone, len(config.image_mean))
        fpn, stage_two, side = None, None, None
        strides: tuple[int, ...] = (4, 8, 16, 32, 64)
        if config.fpn is not None:
            if len(backbone.channels) == 1 and config.backbone.maps is None:
                message = f"{config.backbone.name} gives one map, a pyramid needs four; set model.fpn null, or another"
                raise ConfigError(message, field="model.backbone.name")
            _check_strides(backbone.strides, config)
            strides = (*backbone.strides, 2 * backbone.strides[-1])
            fpn = FPN(backbone.channels, config.fpn.channels, config.fpn.norm)
            rpn_channels = head_channels = config.fpn.channels
        else:
            assert config.backbone.stride is not None
            strides = (config.backbone.stride,)
            rpn_channels = head_channels = backbone.channels[0]
            if config.backbone.output == "c4":
                stage_two = build_stage_two(config.backbone)
                head_channels = stage_two.channels
                side = _side_after(stage_two, rpn_channels, crop_side(config.box.pooler))
        anchors = Anchors(
            config.rpn.anchors.sizes,
            config.rpn.anchors.ratios,
            rounded=config.rpn.anchors.rounded,
            grid_stride=config.rpn.anchors.stride == "grid",
            strides=strides,
        )
        return MaskRCNN(
            backbone=backbone,
            fpn=fpn,
            stage_two=stage_two,
            anchors=anchors,
            rpn=RPN(rpn_channels, anchors.per_cell, config.rpn),
            box_head=BoxHead(head_channels, len(classes), config.box),
            mask_head=MaskHead(head_channels, len(classes), config.mask, side) if config.mask else None,
            keypoint_head=_keypoint_head(head_channels, config, keypoints),
            mean=config.image_mean,
            std=config.image_std,
            config=config,
            data=data or DataConfig(),
            classes=tuple(classes),
            category_ids=tuple(category_ids or range(1, len(classes) + 1)),
            keypoints=keypoints,
        )


def _keypoint_head(channels: int, config: ModelConfig, keypoints: KeypointSchema | None) -> KeypointHead | None:
    if config.keypoint is None or keypoints is None:
        return None
    return KeypointHead(channels, len(keypoints.names), config.keypoint)


def _side_after(stage_two: nn.Module, channels: int, side: int) -> int:
    """Cells per side of what it makes of a crop: asked of a copy without numbers. Raises `ConfigError`."""
    blank, crop = copy.deepcopy(stage_two).to("meta").eval(), torch.empty(1, channels, side, side, device="meta")
    try:
        with torch.no_grad():
            return int(blank(crop).shape[2])
    except RuntimeError as error:
        message = f"gives crops of {side} cells a side, too few for the second stage of the trunk; raise it"
        raise ConfigError(message, field="model.box.pooler.resolution") from error


def _check_strides(strides: tuple[int, ...], config: ModelConfig) -> None:
    """Boxes can be read from the levels of a pyramid. Raises `ConfigError`."""
    read = strides[: levels_read(strides)]
    if read != tuple(strides[0] << level for level in range(len(read))):
        message = f"maps of stride {', '.join(map(str, strides))}: each must have twice the stride of the one before"
        raise ConfigError(f"{message}; choose others", field="model.backbone.maps")
    heads = (config.box, config.mask, config.keypoint)
    if strides != (4, 8, 16, 32) and any(head and head.pooler.kind == "crop_and_resize" for head in heads):
        message = "crop_and_resize reads maps of stride 4, 8, 16, 32; leave it null, or take roi_align"
        raise ConfigError(message, field="model.backbone.maps")


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
