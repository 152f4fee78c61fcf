"""Non-maximum suppression of fixed shape: boxes in, a keep mask of the same length out.

The work sits behind a custom operator, so that a graph sees one node with a static shape whatever happens inside.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


@torch.library.custom_op("maskrcnn::nms_keep", mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS within each group of each image.

    Args:
        boxes: (B, N, 4) float32.
        scores: (B, N), any order.
        groups: (B, N) int64; boxes of different groups (levels, classes) do not suppress each other.
        valid: (B, N) bool; the others are neither kept nor do they suppress.
        iou_threshold: a box overlapping a better one of its group by more than this goes.

    Returns:
        (B, N) bool.
    """
    keep = torch.zeros_like(valid)
    for image in range(len(boxes)):
        candidates = valid[image].nonzero()[:, 0]  # the operator is opaque: on a GPU this waits for the device
        kept = batched_nms(
            boxes[image, candidates].float(),
            scores[image, candidates].float(),
            groups[image, candidates],
            iou_threshold,
        )
        keep[image, candidates[kept]] = True
    return keep


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)
