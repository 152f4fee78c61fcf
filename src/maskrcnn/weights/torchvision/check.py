"""What names and shapes do not tell: that a torchvision model computes what ours does with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskrcnn.errors import WeightsError
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.roi_features import levels_read

SIDES = (96, 128)  # pixels of the input that both see


@torch.no_grad()
def check_same(detector: Any, model: MaskRCNN) -> None:
    """Their trunk and pyramid give our maps, and their poolers read what ours read.

    Args:
        detector: `torchvision.models.detection.FasterRCNN` or one of its heirs.
        model: ours, with its weights.

    Raises:
        WeightsError: something else.
    """
    x = torch.rand(1, len(model.config.image_mean), *SIDES, generator=torch.Generator().manual_seed(0)) * 4 - 2
    named = _maps(copy.deepcopy(detector.backbone).cpu().float().eval(), x)
    maps = model.backbone(x)
    ours = maps if model.fpn is None else model.fpn(maps)
    theirs = list(named.values())
    shapes = [[tuple(one.shape) for one in maps] for maps in (theirs, ours)]
    if shapes[0] != shapes[1] or not all(_close(*pair) for pair in zip(theirs, ours, strict=True)):
        raise WeightsError(
            f"its {type(detector.backbone).__name__} gives other maps than ours with the same weights: an activation, "
            "a stride or an extra level was changed; only torchvision's own trunks and FeaturePyramidNetwork with "
            "LastLevelMaxPool can be read"
        )
    strides, heads = model.anchors.strides, detector.roi_heads
    _check_pooler("box", heads.box_roi_pool, list(named), strides)
    if heads.has_mask():
        _check_pooler("mask", heads.mask_roi_pool, list(named), strides)
    if heads.has_keypoint():
        _check_pooler("keypoint", heads.keypoint_roi_pool, list(named), strides)


def _maps(backbone: nn.Module, x: Tensor) -> dict[str, Tensor]:
    maps = backbone(x)
    return {"0": maps} if isinstance(maps, Tensor) else dict(maps)


def _close(theirs: Tensor, ours: Tensor) -> bool:
    """Random weights may overflow: what is not finite in theirs proves nothing."""
    most = theirs.abs().max()
    return not torch.isfinite(most) or bool((theirs - ours).abs().max() <= 1e-3 * most)


def _check_pooler(head: str, pooler: Any, names: list[str], strides: Sequence[int]) -> None:
    if (pooler.canonical_scale, pooler.canonical_level) != (224, 4):
        raise WeightsError(
            f"its {head} pooler has canonical_scale {pooler.canonical_scale} and canonical_level "
            f"{pooler.canonical_level}; 224 and 4 are needed"
        )
    read = [index for index, name in enumerate(names) if name in pooler.featmap_names]
    ours = levels_read(strides[:-1] or strides)
    if read[:ours] != list(range(ours)) or strides[read[-1]] != strides[ours - 1]:
        raise WeightsError(
            f"its {head} pooler reads the maps {', '.join(pooler.featmap_names)} of {', '.join(names)}; all but the "
            "last level, four at most, are needed"
        )
