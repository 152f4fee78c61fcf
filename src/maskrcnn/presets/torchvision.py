"""torchvision's detectors: its networks in our fields."""

from __future__ import annotations

from typing import Any

from maskrcnn.config import BackboneConfig, Config, KeypointHeadConfig, ModelConfig, PoolerConfig


def torchvision_v1(trunk: str = "resnet50", *, masks: bool = True, keypoints: bool = False) -> Config:
    """The conventions of its `maskrcnn_resnet50_fpn`, `fasterrcnn_resnet50_fpn` and `keypointrcnn_resnet50_fpn`.

    Args:
        trunk: `BackboneConfig.name`.
        masks, keypoints: which heads there are.
    """
    fields: dict[str, Any] = {
        "model.rpn.anchors.rounded": True,
        "model.rpn.anchors.stride": "grid",
        "model.rpn.post_nms_train": 2000,
        "model.box.pooler.aligned": False,
        "data.interpolation": "bilinear",
        "data.size_rounding": "floor",
    }
    if masks:
        fields |= {"model.mask.pooler.aligned": False, "model.mask.paste": "torchvision"}
    else:
        fields["model.mask"] = None
    if keypoints:
        pooler = PoolerConfig(resolution=14, aligned=False)
        fields["model.keypoint"] = KeypointHeadConfig(pooler=pooler, score="logit")
    return Config(model=ModelConfig(backbone=BackboneConfig(name=trunk))).replace(**fields)


def torchvision_v2(trunk: str = "resnet50", *, masks: bool = True) -> Config:
    """`maskrcnn_resnet50_fpn_v2` and `fasterrcnn_resnet50_fpn_v2`: batch norm, two RPN convolutions, 4conv1fc."""
    fields: dict[str, Any] = {
        "model.backbone.norm": "bn",
        "model.fpn.norm": "bn",
        "model.rpn.convolutions": 2,
        "model.box.convolutions": 4,
        "model.box.fully_connected": 1,
        "model.box.norm": "bn",
    }
    if masks:
        fields["model.mask.norm"] = "bn"
    return torchvision_v1(trunk, masks=masks).replace(**fields)
