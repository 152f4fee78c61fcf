"""Our model -> a state dict for torchvision's own detectors."""

from __future__ import annotations

import re
import warnings
from functools import reduce

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones.features import HALVING
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets.torchvision import torchvision_v1

NAMES: tuple[tuple[str, str], ...] = (
    (r"fpn\.lateral\.(.*)", r"backbone.fpn.inner_blocks.\1"),
    (r"fpn\.output\.(.*)", r"backbone.fpn.layer_blocks.\1"),
    (r"rpn\.convolutions\.(\d)\.(.*)", r"rpn.head.conv.\1.0.\2"),
    (r"rpn\.objectness\.(.*)", r"rpn.head.cls_logits.\1"),
    (r"rpn\.deltas\.(.*)", r"rpn.head.bbox_pred.\1"),
    (r"box_head\.convolutions\.(.*)", r"roi_heads.box_head.\1"),
    (r"box_head\.class_logits\.(.*)", r"roi_heads.box_predictor.cls_score.\1"),
    (r"box_head\.box_deltas\.(.*)", r"roi_heads.box_predictor.bbox_pred.\1"),
    (r"mask_head\.logits\.(.*)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
    (r"mask_head\.layers\.(\d+)\.([01]\..*)", r"roi_heads.mask_head.\1.\2"),
    (r"mask_head\.layers\.\d+\.(weight|bias)", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (r"keypoint_head\.logits\.(.*)", r"roi_heads.keypoint_predictor.kps_score_lowres.\1"),
)
# What torchvision does in one way alone: a model that does it otherwise gives other detections there.
CONVENTIONS = (
    "model.rpn.anchors.rounded", "model.rpn.anchors.stride", "model.box.pooler.aligned", "model.box.pooler.levels",
    "model.mask.pooler.aligned", "model.mask.paste", "model.rpn.box_weights", "model.rpn.limit_shrinking",
    "data.interpolation",
)  # fmt: skip


def to_torchvision(model: MaskRCNN) -> dict[str, Tensor]:
    """The state dict of `maskrcnn_resnet50_fpn(num_classes=C + 1)`, its v2, or the Mask, Faster or Keypoint R-CNN
    that has the same layers.

    Row 0 is the background; its box and mask rows, which torchvision never reads, are zeros. Image size, mean,
    thresholds and names are arguments of torchvision's builders.

    Raises:
        WeightsError: an arrangement that torchvision does not have.
    """
    if found := _obstacle(model):
        raise WeightsError(f"torchvision's detectors have no {found}; keep our own form")
    own = {name: value for name, value in model.state_dict().items() if name not in ("mean", "std")}
    state = {_renamed(name, model): value.detach().cpu().clone() for name, value in own.items()}
    for kind in ("weight", "bias"):
        name = f"roi_heads.box_predictor.cls_score.{kind}"
        state[name] = torch.cat([state[name][-1:], state[name][:-1]])
        _prepend(state, f"roi_heads.box_predictor.bbox_pred.{kind}", 4)
        _prepend(state, f"roi_heads.mask_predictor.mask_fcn_logits.{kind}", 1)
    if others := _others(model):
        warnings.warn(
            f"torchvision will not do as this model does in {', '.join(others)}: its detections will differ a little",
            stacklevel=2,
        )
    return state


def _obstacle(model: MaskRCNN) -> str:
    config = model.config
    mask, keypoint = config.mask, config.keypoint
    rules = (
        (not _theirs(config.backbone.name), f"trunk {config.backbone.name} with these names"),
        (config.fpn is None and config.backbone.name not in HALVING, "arrangement of this kind without a pyramid"),
        (config.backbone.stride_in_1x1, "ResNet that halves its map in the first 1x1 convolution"),
        (config.backbone.stem_pool != "symmetric", "stem pooling of this kind"),
        (config.backbone.norm == "gn" or (config.fpn is not None and config.fpn.norm == "gn"), "group norm"),
        (bool(config.box.cascade), "cascade"),
        (config.box.class_agnostic or (mask is not None and mask.class_agnostic), "predictors for all classes at once"),
        (config.rpn.score != "sigmoid" or config.inclusive, "RPN of this kind"),
        (config.box.pooler.kind != "roi_align", "crop and resize"),
        (mask is not None and (mask.upsamplings != 1 or mask.predictor_kernel != 1), "mask head of this kind"),
        (keypoint is not None and mask is not None, "detector with masks and keypoints"),
        (config.box.convolutions == 0 and config.box.fully_connected != 2, "box head of this kind"),
    )
    return next((what for found, what in rules if found), "")


def _theirs(trunk: str) -> bool:
    return trunk in HALVING or (trunk.startswith(("resnet", "resnext", "wide_resnet")) and "_v1_" not in trunk)


def _others(model: MaskRCNN) -> list[str]:
    usual = torchvision_v1(masks=model.config.mask is not None)
    own = type(usual)(model=model.config, data=model.data)
    names = [name for name in CONVENTIONS if model.config.mask is not None or not name.startswith("model.mask")]
    return [n for n in names if reduce(getattr, n.split("."), own) != reduce(getattr, n.split("."), usual)]


def _trunk(name: str, model: MaskRCNN) -> str:
    """`name` is ours behind `backbone.`. Without a pyramid the blocks lie in the backbone itself, or, where
    mobilenet_backbone puts a 1x1 convolution behind them, in its part 0."""
    name = name.removeprefix("features.")
    if model.config.fpn is not None:
        return f"backbone.body.{name}"
    if model.config.backbone.projection is None:
        return f"backbone.{name}"
    return name.replace("projection.", "backbone.1.") if name.startswith("projection.") else f"backbone.0.{name}"


def _renamed(name: str, model: MaskRCNN) -> str:
    if name.startswith("backbone."):
        return _trunk(name.removeprefix("backbone."), model)
    if found := re.fullmatch(r"box_head\.fully_connected\.(\d)\.(\w+)", name):
        convolutions, index = model.config.box.convolutions, int(found[1])
        place = f"{convolutions + 1 + 2 * index}" if convolutions else f"fc{6 + index}"
        return f"roi_heads.box_head.{place}.{found[2]}"
    if found := re.fullmatch(r"keypoint_head\.convolutions\.(\d)\.(\w+)", name):
        return f"roi_heads.keypoint_head.{2 * int(found[1])}.{found[2]}"
    for pattern, replacement in NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise WeightsError(f"tensor {name!r} has no counterpart in torchvision; keep our own form")


def _prepend(state: dict[str, Tensor], name: str, rows: int) -> None:
    """Rows for the background."""
    if name in state:
        value = state[name]
        state[name] = torch.cat([value.new_zeros(rows, *value.shape[1:]), value])
