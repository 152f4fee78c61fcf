"""ResNet and ResNeXt through torchvision's trunks; tensor names are torchvision's."""

from __future__ import annotations

import torchvision
from torch import Tensor

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.trunk import Trunk, freeze


class ResNet(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32.

    Attributes:
        channels: of the four maps.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        trunk = getattr(torchvision.models, config.name)(weights=None, norm_layer=norm_layer(config))
        self.conv1, self.bn1, self.relu, self.maxpool = trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4
        width = trunk.fc.in_features
        self.channels = (width // 8, width // 4, width // 2, width)
        freeze([[self.conv1, self.bn1], self.layer1, self.layer2, self.layer3, self.layer4], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]
