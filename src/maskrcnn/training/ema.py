"""Averaged weights: what is evaluated and saved when `train.ema_decay` is on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN


class EMA:
    """An exponential moving average of a model that is where it will train: no `.to()` after this.

    Attributes:
        model: the averaged network, in evaluation mode, without gradients.
    """

    def __init__(self, model: MaskRCNN, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        # The tensors themselves: walking through a network takes longer than averaging it.
        averages, values = self.model.state_dict(keep_vars=True).values(), model.state_dict(keep_vars=True).values()
        pairs = list(zip(averages, values, strict=True))
        self._float = [pair for pair in pairs if pair[0].is_floating_point()]
        self._other = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model after optimiser step `step`, counted from 1.

        The decay warms up, (1 + t) / (10 + t), so that the random start is soon forgotten. Float buffers (statistics of
        batch norms) are averaged like weights; integers are copied.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = [a for a, _ in self._float], [v for _, v in self._float]
        torch._foreach_lerp_(averages, values, 1 - decay)  # one launch, as torch.optim.swa_utils does
        for average, value in self._other:
            average.copy_(value)
