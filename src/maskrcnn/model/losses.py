"""Losses as (total, count) pairs: totals and counts add up over images, micro-batches and processes.

Each total stays connected to the graph when nothing is positive, so that every process has every gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """Elementwise Huber loss / beta (Fast R-CNN paper, equation 3, with the corner at `beta`); 0 is pure L1."""
    distance = (prediction - target).abs()
    if beta <= 0:
        return distance
    return torch.where(distance < beta, 0.5 * distance.square() / beta, distance - 0.5 * beta)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of `values` where `mask`, which has the leading dimensions of `values`. Masked infinities do not leak."""
    mask = mask.view(mask.shape + (1,) * (values.ndim - mask.ndim))
    return torch.where(mask, values, 0.0).sum()


def mask_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the cells of each mask: (R, M, M), (R, M, M) -> (R,)."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))


def mask_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice coefficient of each mask (V-Net paper, equation 3, squared denominator): -> (R,)."""
    probability = logits.sigmoid()
    common = (probability * target).sum(dim=(1, 2))
    total = probability.square().sum(dim=(1, 2)) + target.square().sum(dim=(1, 2))
    return 1 - (2 * common + 1) / (total + 1)  # +1: an empty target with an empty prediction costs nothing
