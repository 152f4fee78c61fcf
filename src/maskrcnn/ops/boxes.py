"""Boxes: float tensors (..., 4), `x0 y0 x1 y1`, continuous pixels. Pure functions, any batch shape, no sync."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# exp(MAX_LOG_SIZE) * 16 px = 1000 px: keeps exp finite when the regression is wild (Detectron).
MAX_LOG_SIZE = math.log(1000.0 / 16.0)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...): square pixels, 0 for an inverted box."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): square pixels in common."""
    a, b = a.unsqueeze(-2), b.unsqueeze(-3)  # (..., N, 1, 4), (..., 1, M, 4)
    width = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    height = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., N, 4), (..., M, 4) -> (..., N, M): intersection over union, 0 where both are empty."""
    common = intersection(a, b)
    union = area(a).unsqueeze(-1) + area(b).unsqueeze(-2) - common
    return common / union.clamp(min=1e-12)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 4) cut to each image's content: sizes (B, 2) is (height, width) from the corner, (B, 4) a box."""
    left, top, right, bottom = borders(sizes, boxes.dtype)
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(
        [x0.clamp(left, right), y0.clamp(top, bottom), x1.clamp(left, right), y1.clamp(top, bottom)], dim=-1
    )


def borders(sizes: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, y0, x1, y1, each (B, 1), of (height, width) (B, 2), whose corner is 0, or of boxes (B, 4)."""
    sizes = sizes.to(dtype)[:, None]  # (B, 1, 2) or (B, 1, 4)
    if sizes.shape[-1] == 2:
        height, width = sizes.unbind(-1)
        zero = torch.zeros_like(height)
        return zero, zero, width, height
    left, top, right, bottom = sizes.unbind(-1)
    return left, top, right, bottom


def encode(boxes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Deltas (..., 4) that move `references` onto `boxes` (R-CNN paper, appendix C), scaled by `weights`."""
    width, height = references[..., 2] - references[..., 0], references[..., 3] - references[..., 1]
    centre_x, centre_y = references[..., 0] + 0.5 * width, references[..., 1] + 0.5 * height
    goal_width, goal_height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    goal_x, goal_y = boxes[..., 0] + 0.5 * goal_width, boxes[..., 1] + 0.5 * goal_height
    # Padding rows have no area; the clamp keeps their (masked) deltas finite.
    width, height = width.clamp(min=1e-6), height.clamp(min=1e-6)
    return torch.stack(
        [
            weights[0] * (goal_x - centre_x) / width,
            weights[1] * (goal_y - centre_y) / height,
            weights[2] * torch.log((goal_width / width).clamp(min=1e-6)),
            weights[3] * torch.log((goal_height / height).clamp(min=1e-6)),
        ],
        dim=-1,
    )


def decode(
    deltas: Tensor,
    references: Tensor,
    weights: tuple[float, float, float, float],
    *,
    limited: bool = True,
    limited_below: bool = False,
) -> Tensor:
    """The inverse of `encode`: (..., 4) deltas on (..., 4) references -> (..., 4) boxes.

    `limited` bounds the growth by `MAX_LOG_SIZE`, `limited_below` the shrinking; without the first a wild regression
    makes infinite boxes.
    """
    width, height = references[..., 2] - references[..., 0], references[..., 3] - references[..., 1]
    centre_x, centre_y = references[..., 0] + 0.5 * width, references[..., 1] + 0.5 * height
    x = deltas[..., 0] / weights[0] * width + centre_x
    y = deltas[..., 1] / weights[1] * height + centre_y
    log_width, log_height = deltas[..., 2] / weights[2], deltas[..., 3] / weights[3]
    if limited:
        log_width, log_height = log_width.clamp(max=MAX_LOG_SIZE), log_height.clamp(max=MAX_LOG_SIZE)
    if limited_below:
        log_width, log_height = log_width.clamp(min=-MAX_LOG_SIZE), log_height.clamp(min=-MAX_LOG_SIZE)
    half_width = 0.5 * torch.exp(log_width) * width
    half_height = 0.5 * torch.exp(log_height) * height
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)
