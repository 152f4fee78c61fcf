"""What every trunk offers: an image in, maps out; and what the second stage of one without a pyramid offers."""

from __future__ import annotations

from torch import Tensor, nn


class Trunk(nn.Module):
    """Images (B, C, H, W) -> a list of maps.

    Attributes:
        channels: of each map.
        stride: pixels per cell of the one map of a trunk without a pyramid; None: four maps of stride 4, 8, 16, 32.
    """

    channels: tuple[int, ...]
    stride: int | None = None


class StageTwo(nn.Module):
    """The last stage of a trunk, run on the crop of each RoI: (R, C, s, s) -> (R, `channels`, s', s').

    Attributes:
        channels: of what it gives.
    """

    channels: int

    def forward(self, rois: Tensor) -> Tensor:
        raise NotImplementedError


def freeze(stages: list[nn.Module | list[nn.Module]], count: int) -> None:
    """No gradients for the first `count` stages."""
    for stage in stages[:count]:
        for module in stage if isinstance(stage, list) else [stage]:
            module.requires_grad_(False)
