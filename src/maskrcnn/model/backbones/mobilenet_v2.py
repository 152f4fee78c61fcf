"""MobileNetV2 through torchvision's trunk, cut where the stride doubles."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.trunk import Trunk, freeze

# Blocks of `features` in each stage. The last 1x1 convolution (320 -> 1280) is left out: it serves the classifier, and
# the FPN would at once reduce it again.
STAGES = ((0, 4), (4, 7), (7, 14), (14, 18))


class MobileNetV2(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32.

    Attributes:
        channels: of the four maps.
    """

    channels = (24, 32, 96, 320)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        features = torchvision.models.mobilenet_v2(weights=None, norm_layer=norm_layer(config)).features
        self.features = nn.Sequential(*list(features)[: STAGES[-1][1]])
        # "Stem" and "res2" of a ResNet end at strides 4 and 4; here: the stem with block 1, then blocks 2-3.
        freeze([self.features[:2], *(self.features[start:end] for start, end in STAGES)], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for start, end in STAGES:
            for block in self.features[start:end]:
                x = block(x)
            maps.append(x)
        return maps
