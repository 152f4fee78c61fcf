"""torchvision's detectors: its networks in our fields."""

from __future__ import annotations

from typing import Any

from maskrcnn.config import BackboneConfig, Config, KeypointHeadConfig, ModelConfig, PoolerConfig

# What its MobileNet builders choose that no shape of a tensor tells: two maps of stride 32, each with all sizes.
MOBILENET: dict[str, Any] = {
    "model.rpn.anchors.sizes": ((32.0, 64.0, 128.0, 256.0, 512.0),) * 3,
    "model.rpn.score_threshold": 0.05,
}
MOBILENET_320: dict[str, Any] = {
    "data.min_size": 320,
    "data.max_size": 640,
    "model.rpn.pre_nms_test": 150,
    "model.rpn.post_nms_test": 150,
}


def torchvision_v1(trunk: str = "resnet50", *, masks: bool = True, keypoints: bool = False, **others: Any) -> Config:
    """The conventions of its `maskrcnn_resnet50_fpn`, `fasterrcnn_resnet50_fpn` and `keypointrcnn_resnet50_fpn`.

    Args:
        trunk: `BackboneConfig.name`.
        masks, keypoints: which heads there are.
        others: further dotted fields.
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
    return Config(model=ModelConfig(backbone=BackboneConfig(name=trunk))).replace(**(fields | others))


def torchvision_mobilenet(*, small: bool = False) -> Config:
    """`fasterrcnn_mobilenet_v3_large_fpn`, or, `small`, `fasterrcnn_mobilenet_v3_large_320_fpn`."""
    fields: dict[str, Any] = {**MOBILENET, "model.backbone.maps": (13, 16), **(MOBILENET_320 if small else {})}
    return torchvision_v1("mobilenet_v3_large", masks=False, **fields)


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
