"""ConvNeXt (Liu et al. 2022) through torchvision's blocks; tensor names are torchvision's.

Without stochastic depth, as in `swin`.
"""

from __future__ import annotations

from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.trunk import Trunk, freeze_features


class ConvNeXt(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32, each with a layer norm of its own, over channels.

    Attributes:
        channels: of the four maps.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        build = getattr(torchvision.models, config.name)
        self.features = build(weights=None, stochastic_depth_prob=0.0, num_classes=1).features
        self.channels = tuple(stage[-1].layer_scale.shape[0] for stage in self.features[1::2])
        norm = partial(LayerNorm2d, eps=1e-6)
        self.norms = nn.ModuleList(norm(channels) for channels in self.channels)
        freeze_features(self.features, self.norms, config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, norm in enumerate(self.norms):
            x = self.features[2 * stage + 1](self.features[2 * stage](x))
            maps.append(norm(x))
        return maps
