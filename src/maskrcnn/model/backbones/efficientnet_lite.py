"""EfficientNet-Lite0 (TensorFlow's mobile EfficientNet): ReLU6, no squeeze-and-excitation, "SAME" padding.

Tensor names are those of the published PyTorch conversions without the leading underscores.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.same import SameConv2d
from maskrcnn.model.backbones.trunk import Trunk, freeze

EPS = 1e-3  # TensorFlow's batch norms; the statistics in the file belong to it
# Kernel, stride, expansion, channels, blocks of each group (EfficientNet paper, table 1, without the 1x1 head).
GROUPS = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STAGES = ((0, 3), (3, 5), (5, 11), (11, 16))  # blocks that end at stride 4, 8, 16, 32


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, norm: partial[nn.Module]
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.expand = expansion != 1
        if self.expand:
            self.expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn0 = norm(width)
        self.depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width, bias=False)
        self.bn1 = norm(width)
        self.project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn2 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expand else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.skip else y


class EfficientNetLite0(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32.

    Attributes:
        channels: of the four maps.
    """

    channels = (24, 40, 112, 320)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        norm = norm_layer(replace(config, norm_eps=EPS))
        self.conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self.bn0 = norm(32)
        blocks, width = [], 32
        for kernel, stride, expansion, outputs, count in GROUPS:
            for i in range(count):
                blocks.append(Block(width, outputs, kernel, stride if i == 0 else 1, expansion, norm))
                width = outputs
        self.blocks = nn.ModuleList(blocks)
        stages = [nn.ModuleList(blocks[start:end]) for start, end in STAGES]
        freeze([[self.conv_stem, self.bn0], *stages], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.bn0(self.conv_stem(x)))
        maps = []
        for start, end in STAGES:
            for block in self.blocks[start:end]:
                x = block(x)
            maps.append(x)
        return maps
