"""torchvision's model, the same as ours, and the pictures and objects that both get."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TheirMaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn import MaskRCNN
from maskrcnn.structures import Targets
from maskrcnn.weights.torchvision import from_torchvision

CLASSES = 90  # COCO's, without the background
LOGIT_SPREAD = 3.0
# Random weights say nothing; wider predictors find things.
GAINS = {
    "bbox_predictor.weight": 3,
    "rpn.head.cls_logits.weight": 10,
    "rpn.head.bbox_pred.weight": 10,
    "mask_fcn_logits.weight": 10,
    "bn3.weight": 0.5,
}


@dataclass(frozen=True)
class Pair:
    """The same network twice, on one device, in eval mode."""

    ours: MaskRCNN
    theirs: TheirMaskRCNN


def build_pair(min_size: int, max_size: int, image: Tensor, device: torch.device, seed: int = 0) -> Pair:
    """torchvision's `maskrcnn_resnet50_fpn` as it fine-tunes (stem, first stage and norms frozen), and our copy.

    `image` (3, H, W) uint8 is the picture on which they find 100 objects.
    """
    torch.manual_seed(seed)
    trunk = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d)
    theirs = TheirMaskRCNN(_resnet_fpn_extractor(trunk, 3), CLASSES + 1, min_size=min_size, max_size=max_size)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            for ending, gain in GAINS.items():
                if name.endswith(ending):
                    value.mul_(gain)
    calibrate(theirs.eval(), image)
    ours = from_torchvision(theirs).eval()
    ours.data = replace(ours.data, min_size=min_size, max_size=max_size)
    return Pair(ours.to(device), theirs.to(device))


@torch.inference_mode()
def calibrate(model: TheirMaskRCNN, image: Tensor) -> None:
    """Make this picture give the full 100 detections of many classes, as a busy photograph does, and little more.

    Random layers answer much the same everywhere, so the common part is taken out of the class logits and the rest
    is widened; then the background is made just so likely that enough is left after NMS.
    """
    images, _ = model.transform([image.float() / 255])
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    heads = model.roi_heads
    predictor = heads.box_predictor.cls_score
    hidden = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
    logits = predictor(hidden) - predictor.bias
    gain = LOGIT_SPREAD / (logits - logits.mean(dim=0)).std()
    predictor.weight.mul_(gain)
    predictor.bias.copy_(-gain * logits.mean(dim=0))
    most, heads.detections_per_img = heads.detections_per_img, 10 * heads.detections_per_img
    start = predictor.bias[0].clone()
    for background in np.arange(10, -10, -0.25):
        predictor.bias[0] = start + float(background)
        boxes, _, _ = heads.postprocess_detections(*heads.box_predictor(hidden), proposals, images.image_sizes)
        if len(boxes[0]) >= 1.3 * most:  # a margin for what rounding moves below the threshold
            heads.detections_per_img = most
            return
    raise RuntimeError(f"random weights give {len(boxes[0])} detections, not {most}; use a larger picture")


def picture(height: int, width: int, seed: int = 2) -> Tensor:
    """(3, H, W) uint8: smooth colour blobs."""
    noise = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(noise, size=(height, width), mode="bicubic")[0].clamp(0, 1) * 255).round().to(torch.uint8)


def objects(batch: int, count: int, side: int, crop: int, seed: int = 3) -> tuple[Targets, list[dict[str, Tensor]]]:
    """`count` ellipses an image of `side` x `side`: our padded targets, masks of `crop` cells; and torchvision's."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(batch, count, 2, generator=generator) * side * 0.6
    extent = (torch.rand(batch, count, 2, generator=generator) * 0.3 + 0.08) * side
    boxes = torch.cat([start, start + extent], dim=-1)
    labels = torch.randint(0, CLASSES, (batch, count), generator=generator)
    inside = ellipse(torch.tensor([[0.0, 0.0, crop, crop]]), crop)  # every ellipse is this one within its box
    full = [ellipse(b, side).to(torch.uint8) for b in boxes]
    ours = Targets(
        boxes=boxes,
        labels=labels,
        masks=(inside * 255).to(torch.uint8).expand(batch, count, crop, crop).contiguous(),
        valid=torch.ones(batch, count, dtype=torch.bool),
        crowd=torch.zeros(batch, count, dtype=torch.bool),
        keys=torch.arange(batch),
    )
    theirs = [{"boxes": b, "labels": k + 1, "masks": m} for b, k, m in zip(boxes, labels, full, strict=True)]
    return ours, theirs


def ellipse(boxes: Tensor, side: int) -> Tensor:
    """(N, 4) -> (N, side, side) bool: the ellipse that fills each box."""
    grid = torch.arange(side) + 0.5
    center, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x = (grid - center[:, :1]) / radius[:, :1]  # (N, side)
    y = (grid - center[:, 1:]) / radius[:, 1:]
    return x[:, None, :] ** 2 + y[:, :, None] ** 2 <= 1


def to_device(targets: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    return [{name: value.to(device) for name, value in t.items()} for t in targets]
