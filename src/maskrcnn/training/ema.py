"""Averaged weights: what is evaluated and saved when `train.ema_decay` is on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN


class EMA:
    """An exponential moving average of a model.

    Attributes:
        model: the averaged network, in evaluation mode, without gradients.
    """

    def __init__(self, model: MaskRCNN, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: MaskRCNN, step: int) -> None:
        """Move towards `model` after optimiser step `step`, counted from 1.

        The decay warms up, (1 + t) / (10 + t), so that the random start is soon forgotten. Float buffers (statistics of
        batch norms) are averaged like weights; integers are copied.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        for average, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)  # one launch, as torch.optim.swa_utils does
