"""Inception v2 (Szegedy et al. 2015, arXiv:1512.00567) with the channels of TensorFlow's slim; SAME padding throughout.

Stage one ends at mixed_4e (576 channels, stride 16); stage two is mixed_5a to 5c, which halves its map once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.same import (
    ConvNorm,
    Norm,
    SameAveragePool2d,
    SameMaxPool2d,
    SeparableConvNorm,
    initialise,
)
from maskrcnn.model.backbones.trunk import StageTwo, Trunk, freeze

# Channels of each branch's convolutions, the first of which is 1x1, the others 3x3; last the pooled branch: how it
# pools, and the channels of its 1x1. Where the stride is 2, the last convolution of a branch and the pool have it.
MODULES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[str, int]]] = {
    "mixed_3b": ((64,), (64, 64), (64, 96, 96), ("average", 32)),
    "mixed_3c": ((64,), (64, 96), (64, 96, 96), ("average", 64)),
    "mixed_4b": ((224,), (64, 96), (96, 128, 128), ("average", 128)),
    "mixed_4c": ((192,), (96, 128), (96, 128, 128), ("average", 128)),
    "mixed_4d": ((160,), (128, 160), (128, 160, 160), ("average", 96)),
    "mixed_4e": ((96,), (128, 192), (160, 192, 192), ("average", 96)),
    "mixed_5b": ((352,), (192, 320), (160, 224, 224), ("average", 128)),
    "mixed_5c": ((352,), (192, 320), (192, 224, 224), ("max", 128)),
}
REDUCTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "mixed_4a": ((128, 160), (64, 96, 96)),
    "mixed_5a": ((128, 192), (192, 256, 256)),
}
GROUPS = (("mixed_3b", "mixed_3c"), ("mixed_4a", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e"))
STAGE_TWO = ("mixed_5a", "mixed_5b", "mixed_5c")


class Branches(nn.Module):
    """Branches of one input beside each other: `branch_0`, `branch_1`, ... -> their channels, in that order."""

    def __init__(self, *branches: nn.Sequential) -> None:
        super().__init__()
        for i, branch in enumerate(branches):
            self.add_module(f"branch_{i}", branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def depth(config: BackboneConfig, channels: int) -> int:
    """slim's depth_multiplier and min_depth."""
    return max(int(channels * config.width), config.min_width)


def mixed(name: str, inputs: int, norm: Norm, scaled: Callable[[int], int]) -> tuple[Branches, int]:
    """A module of the table and the channels it gives."""

    def chain(channels: tuple[int, ...], stride: int) -> nn.Sequential:
        layers, width = [], inputs
        for i, outputs in enumerate(map(scaled, channels)):
            last = i == len(channels) - 1
            layers.append(ConvNorm(width, outputs, 1 if i == 0 else 3, norm, stride=stride if last else 1))
            width = outputs
        return nn.Sequential(*layers)

    if name in REDUCTIONS:
        chains = REDUCTIONS[name]
        branches = Branches(*(chain(c, 2) for c in chains), nn.Sequential(SameMaxPool2d(3, 2)))
        return branches, sum(scaled(c[-1]) for c in chains) + inputs
    *convolved, (kind, projection) = MODULES[name]
    pool = SameAveragePool2d(3) if kind == "average" else SameMaxPool2d(3, 1)
    pooled = nn.Sequential(pool, ConvNorm(inputs, scaled(projection), 1, norm))
    branches = Branches(*(chain(c, 1) for c in convolved), pooled)
    return branches, sum(scaled(c[-1]) for c in convolved) + scaled(projection)


class InceptionV2(Trunk):
    """Images (B, 3, H, W) -> [map of stride 16].

    Attributes:
        channels: (576,) at width 1.

    Raises:
        ConfigError: a stride other than 16: it has no dilated form; or less than a channel a colour in the first layer.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.stride not in (None, 16):
            message = f"{config.stride}: inception_v2 has stride 16 only (it has no dilated form); set 16"
            raise ConfigError(message, field="model.backbone.stride")
        norm, scaled = norm_layer(config), partial(depth, config)
        self.stride = 16
        if (width := scaled(64)) < 3:
            message = f"{config.min_width}: leaves the first layer {width} channels, it needs 3; raise it"
            raise ConfigError(message, field="model.backbone.min_width")
        self.conv_1a = SeparableConvNorm(3, width, 7, norm, stride=2, multiplier=min(width // 3, 8))
        self.pool_2a = SameMaxPool2d(3, 2)
        self.conv_2b = ConvNorm(width, scaled(64), 1, norm)
        self.conv_2c = ConvNorm(scaled(64), scaled(192), 3, norm)
        self.pool_3a = SameMaxPool2d(3, 2)
        width = scaled(192)
        for name in (*GROUPS[0], *GROUPS[1]):
            module, width = mixed(name, width, norm, scaled)
            self.add_module(name, module)
        self.channels = (width,)
        initialise(self)
        groups = [[getattr(self, name) for name in group] for group in GROUPS]
        freeze([[self.conv_1a, self.conv_2b, self.conv_2c], *groups], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.children():
            x = layer(x)
        return [x]


class InceptionV2StageTwo(StageTwo):
    """Crops (R, 576, s, s) -> (R, 1024, ceil(s / 2), ceil(s / 2)) at width 1.

    Attributes:
        channels: 1024 at width 1.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        norm, scaled = norm_layer(config), partial(depth, config)
        *convolved, (_, projection) = MODULES[GROUPS[-1][-1]]
        width = sum(scaled(c[-1]) for c in convolved) + scaled(projection)
        for name in STAGE_TWO:
            module, width = mixed(name, width, norm, scaled)
            self.add_module(name, module)
        self.channels = width
        initialise(self)
        freeze([[], [], [], self], config.frozen_stages)  # its place after the stem and the two groups of stage one

    def forward(self, rois: Tensor) -> Tensor:
        for layer in self.children():
            rois = layer(rois)
        return rois
