"""ResNet v1 (He et al. 2015) as TensorFlow's slim builds it: the stride in the last unit of a block.

Stage one ends at block3 (1024 channels); stage two is block4, without a stride. At stride 8 ("atrous") block2 does not
halve its map and block3 is dilated by 2 instead.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.same import ConvNorm, Norm, SameMaxPool2d, initialise
from maskrcnn.model.backbones.trunk import StageTwo, Trunk, atrous_stride, freeze

UNITS = {  # of blocks 1 to 4
    "resnet_v1_50": (3, 4, 6, 3),
    "resnet_v1_101": (3, 4, 23, 3),
    "resnet_v1_152": (3, 8, 36, 3),
}
WIDTHS = (64, 128, 256, 512)  # inside the bottlenecks of each block; they give four times as many channels


class Unit(nn.Module):
    """Bottleneck: 1x1, 3x3 with the stride and the dilation, 1x1; plus its input, projected where channels differ."""

    def __init__(self, inputs: int, width: int, norm: Norm, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut = None
        if inputs != 4 * width:
            self.shortcut = ConvNorm(inputs, 4 * width, 1, norm, stride=stride, padding="valid", relu=False)
        self.conv1 = ConvNorm(inputs, width, 1, norm)
        self.conv2 = ConvNorm(width, width, 3, norm, stride=stride, dilation=dilation, padding="symmetric")
        self.conv3 = ConvNorm(width, 4 * width, 1, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv3(self.conv2(self.conv1(x)))
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        return F.relu_(shortcut + residual)


def block(inputs: int, width: int, units: int, norm: Norm, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """`units` bottlenecks, the last with the stride."""
    first = [Unit(inputs if i == 0 else 4 * width, width, norm, stride=1, dilation=dilation) for i in range(units - 1)]
    return nn.Sequential(*first, Unit(4 * width, width, norm, stride=stride, dilation=dilation))


class ResNetV1(Trunk):
    """Images (B, 3, H, W) -> [map of stride 16 or 8].

    Attributes:
        channels: (1024,).

    Raises:
        ConfigError: a stride other than 16 and 8.
    """

    channels = (1024,)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.stride = atrous_stride(config)
        norm, units = norm_layer(config), UNITS[config.name]
        atrous = self.stride == 8
        self.conv1 = ConvNorm(3, 64, 7, norm, stride=2, padding="symmetric")
        self.pool1 = SameMaxPool2d(3, 2)
        self.block1 = block(64, WIDTHS[0], units[0], norm, stride=2)
        self.block2 = block(4 * WIDTHS[0], WIDTHS[1], units[1], norm, stride=1 if atrous else 2)
        self.block3 = block(4 * WIDTHS[1], WIDTHS[2], units[2], norm, dilation=2 if atrous else 1)
        initialise(self)
        freeze([self.conv1, self.block1, self.block2, self.block3], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.children():
            x = layer(x)
        return [x]


class ResNetV1StageTwo(StageTwo):
    """Crops (R, 1024, s, s) -> (R, 2048, s, s).

    Attributes:
        channels: 2048.
    """

    channels = 2048

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.block4 = block(4 * WIDTHS[2], WIDTHS[3], UNITS[config.name][3], norm_layer(config))
        initialise(self)
        freeze([[], [], [], [], self.block4], config.frozen_stages)  # its place after the stem and blocks 1 to 3

    def forward(self, rois: Tensor) -> Tensor:
        return self.block4(rois)
