"""A thin model and a small batch, for tests."""

from __future__ import annotations

from dataclasses import replace

import torch

from maskrcnn.config import Config
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets import preset
from maskrcnn.structures import KeypointSchema, Targets, empty_targets

POINTS = KeypointSchema(("top", "left", "middle"))


def tiny_config(**changes: object) -> Config:
    """ResNet-18 with frozen norms, 32 channels, few proposals."""
    return preset("shapes").replace(
        **{
            "model.backbone.norm": "frozen_bn",
            "model.fpn.channels": 32,
            "model.fpn.norm": "none",
            "model.mask.norm": "none",
            "model.mask.channels": 16,
            "model.box.fully_connected_channels": 32,
            "model.rpn.pre_nms_train": 200,
            "model.rpn.post_nms_train": 100,
            "model.rpn.pre_nms_test": 100,
            "model.rpn.post_nms_test": 60,
            "model.box.detections_per_image": 40,
            "model.box.samples_per_image": 32,
            "model.box.score_threshold": 0.4,
            **changes,
        }
    )


def tiny_model(**changes: object) -> MaskRCNN:
    """Random weights, louder predictors: about half of the detection slots are filled."""
    config = tiny_config(**changes)
    points = POINTS if config.model.keypoint is not None else None
    names = ["square", "circle", "triangle"]
    model = build_model(config.model, classes=names, data=config.data, keypoints=points).eval()
    with torch.no_grad():
        for head in model.box_heads:
            head.class_logits.weight.mul_(30)
            head.box_deltas.weight.mul_(30)
        model.rpn.objectness.weight.mul_(30)
        model.rpn.deltas.weight.mul_(10)
        for masks in model.mask_heads:
            masks.logits.weight.mul_(300)
    return model


def batch(count: int = 2, side: int = 96, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 3, side, side) uint8 with content sizes that differ, zeros outside."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    sizes = torch.tensor([[side - 16 * (i % 3), side - 8 * (i % 2)] for i in range(count)])
    for image, (height, width) in zip(images, sizes.tolist(), strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images, sizes


def truth(count: int = 2, objects: int = 8, real: int = 3, seed: int = 0) -> Targets:
    """`real` objects an image, padded to `objects`; masks are the left half of their box."""
    generator = torch.Generator().manual_seed(seed)
    targets = empty_targets(count, objects, 112, torch.arange(count) + 1)
    corner = torch.rand(count, real, 2, generator=generator) * 40
    targets.boxes[:, :real] = torch.cat(
        [corner, corner + 12 + torch.rand(count, real, 2, generator=generator) * 20], -1
    )
    targets.labels[:, :real] = torch.randint(0, 3, (count, real), generator=generator)
    targets.masks[:, :real, :, :56] = 255
    targets.valid[:, :real] = True
    return targets


def pointed(targets: Targets) -> Targets:
    """Three keypoints an object: on its top, on its left, in its middle, which every second object does not label."""
    x0, y0, x1, y1 = targets.boxes.unbind(-1)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    seen = targets.valid.float() * 2
    middle = seen * (torch.arange(seen.shape[1]) % 2)
    rows = [torch.stack(point, -1) for point in ((x, y0, seen), (x0, y, seen), (x, y, middle))]
    return replace(targets, keypoints=torch.stack(rows, dim=2))
