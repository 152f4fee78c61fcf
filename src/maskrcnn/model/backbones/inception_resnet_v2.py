"""Inception-ResNet v2 (Szegedy et al. 2016, arXiv:1602.07261) as TensorFlow's slim and Keras build it for detectors.

Stage one ends at the last block17 (1088 channels) with SAME padding throughout; stage two is mixed_7a to conv_7b, which
halves its map once. Norms have no scale; the 1x1 that closes a residual block has a bias and no norm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.inception_v2 import Branches
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.same import ConvNorm, Norm, SameAveragePool2d, SameMaxPool2d, initialise
from maskrcnn.model.backbones.trunk import StageTwo, Trunk, atrous_stride, freeze

Layer = tuple[int, int | tuple[int, int]]  # channels and kernel of a convolution

MIXED_5B: tuple[tuple[Layer, ...], ...] = (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3)))
BLOCK35: tuple[tuple[Layer, ...], ...] = (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))
MIXED_6A: tuple[tuple[Layer, ...], ...] = (((384, 3),), ((256, 1), (256, 3), (384, 3)))
BLOCK17: tuple[tuple[Layer, ...], ...] = (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))
MIXED_7A: tuple[tuple[Layer, ...], ...] = (((256, 1), (384, 3)), ((256, 1), (288, 3)), ((256, 1), (288, 3), (320, 3)))
BLOCK8: tuple[tuple[Layer, ...], ...] = (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))


def chain(
    inputs: int, layers: tuple[Layer, ...], norm: Norm, *, stride: int = 1, dilation: int = 1, padding: str = "same"
) -> nn.Sequential:
    """Convolutions one after the other, the last with the stride and its padding."""
    convolutions = []
    for i, (outputs, kernel) in enumerate(layers):
        last = {"stride": stride, "padding": padding} if i == len(layers) - 1 else {}
        convolutions.append(ConvNorm(inputs, outputs, kernel, norm, dilation=dilation, **last))  # type: ignore[arg-type]
        inputs = outputs
    return nn.Sequential(*convolutions)


class Residual(nn.Module):
    """relu(x + scale * up(branches(x))); the last of stage two has no ReLU."""

    def __init__(
        self,
        channels: int,
        branches: tuple[tuple[Layer, ...], ...],
        norm: Norm,
        *,
        scale: float,
        dilation: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.scale, self.relu = scale, relu
        self.branches = Branches(*(chain(channels, layers, norm, dilation=dilation) for layers in branches))
        self.up = nn.Conv2d(sum(layers[-1][0] for layers in branches), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(x, self.up(self.branches(x)), alpha=self.scale)
        return F.relu_(x) if self.relu else x


class InceptionResNetV2(Trunk):
    """Images (B, 3, H, W) -> [map of stride 16 or 8].

    Attributes:
        channels: (1088,).

    Raises:
        ConfigError: a stride other than 16 and 8.
    """

    channels = (1088,)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.stride = atrous_stride(config)
        norm = norm_layer(config, scale=False)
        halve, dilation = (1, 2) if self.stride == 8 else (2, 1)
        self.conv_1a = ConvNorm(3, 32, 3, norm, stride=2)
        self.conv_2a = ConvNorm(32, 32, 3, norm)
        self.conv_2b = ConvNorm(32, 64, 3, norm)
        self.pool_3a = SameMaxPool2d(3, 2)
        self.conv_3b = ConvNorm(64, 80, 1, norm)
        self.conv_4a = ConvNorm(80, 192, 3, norm)
        self.pool_5a = SameMaxPool2d(3, 2)
        pooled = nn.Sequential(SameAveragePool2d(3), ConvNorm(192, 64, 1, norm))
        self.mixed_5b = Branches(*(chain(192, layers, norm) for layers in MIXED_5B), pooled)
        self.block35 = nn.Sequential(*(Residual(320, BLOCK35, norm, scale=0.17) for _ in range(10)))
        down = [chain(320, layers, norm, stride=halve) for layers in MIXED_6A]
        self.mixed_6a = Branches(*down, nn.Sequential(SameMaxPool2d(3, halve)))
        self.block17 = nn.Sequential(*(Residual(1088, BLOCK17, norm, scale=0.10, dilation=dilation) for _ in range(20)))
        initialise(self)
        stem: list[nn.Module] = [self.conv_1a, self.conv_2a, self.conv_2b, self.conv_3b, self.conv_4a]
        freeze([stem, [self.mixed_5b, self.block35], [self.mixed_6a, self.block17]], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.children():
            x = layer(x)
        return [x]


class InceptionResNetV2StageTwo(StageTwo):
    """Crops (R, 1088, 17, 17) -> (R, 1536, 8, 8), or 9 x 9 with `stage_two_padding` same.

    Attributes:
        channels: 1536.
    """

    channels = 1536

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        norm, padding = norm_layer(config, scale=False), config.stage_two_padding
        down = [chain(1088, layers, norm, stride=2, padding=padding) for layers in MIXED_7A]
        pool = SameMaxPool2d(3, 2) if padding == "same" else nn.MaxPool2d(3, 2)
        self.mixed_7a = Branches(*down, nn.Sequential(pool))
        blocks = [Residual(2080, BLOCK8, norm, scale=0.20) for _ in range(9)]
        self.block8 = nn.Sequential(*blocks, Residual(2080, BLOCK8, norm, scale=1.0, relu=False))
        self.conv_7b = ConvNorm(2080, 1536, 1, norm)
        initialise(self)
        freeze([[], [], [], self], config.frozen_stages)  # its place after the stem and the two groups of stage one

    def forward(self, rois: Tensor) -> Tensor:
        return self.conv_7b(self.block8(self.mixed_7a(rois)))
