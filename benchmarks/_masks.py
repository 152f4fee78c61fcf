"""Predicted masks to pixels and to RLE, without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _timing import Row, compare
from pycocotools import mask as pycoco
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskrcnn.instances import Instances
from maskrcnn.ops.masks import roi_masks_to_rle


def run(device: torch.device, repeat: int, count: int = 100, size: tuple[int, int] = (1080, 1920)) -> list[Row]:
    """`count` masks of 28 x 28 in boxes of 20 to 600 pixels. torchvision's start on the device, ours on the CPU, where
    `Predictor` hands them over."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 1, 7, 7, generator=generator) + 0.5
    probabilities = F.interpolate(coarse, size=28, mode="bicubic").mul(3).sigmoid()
    side = torch.rand(count, 2, generator=generator).pow(2) * 580 + 20
    corner = torch.rand(count, 2, generator=generator) * (torch.tensor([size[1], size[0]]) - side)
    boxes = torch.cat([corner, corner + side], dim=1)
    roi_masks, roi_boxes = probabilities[:, 0].numpy(), boxes.numpy()
    their_probabilities, their_boxes = probabilities.to(device), boxes.to(device)

    def our_rle() -> list[dict[str, Any]]:
        return roi_masks_to_rle(roi_masks, roi_boxes, size, paste="torchvision")

    def our_masks() -> np.ndarray:
        labels = np.zeros(count, np.int64)
        scores = labels.astype(np.float32)
        return Instances(roi_boxes, scores, labels, ("object",), size, roi_masks, paste="torchvision").masks

    def their_masks() -> np.ndarray:
        pasted = paste_masks_in_image(their_probabilities, their_boxes, size)
        return (pasted[:, 0] >= 0.5).cpu().numpy()

    def their_rle() -> list[dict[str, Any]]:
        return [pycoco.encode(np.asfortranarray(m, dtype=np.uint8)) for m in their_masks()]

    ours, theirs = our_rle(), their_rle()
    worst = min(float(pycoco.iou([a], [b], [False])[0, 0]) for a, b in zip(ours, theirs, strict=True))
    if worst < 0.99:
        raise RuntimeError(f"a mask differs from torchvision's: IoU {worst:.3f}")
    group = f"{count} masks on {size[1]} x {size[0]}"
    return [
        compare(group, "to pixels", our_masks, their_masks, repeat=repeat, device=device),
        compare(group, "to RLE", our_rle, their_rle, repeat=repeat, device=device),
    ]
