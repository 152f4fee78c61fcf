"""MobileNet and EfficientNet through torchvision's `features`, cut after the last map; tensor names are torchvision's.

Without stochastic depth, as in `swin`.
"""

from __future__ import annotations

from itertools import pairwise

import torchvision
from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.trunk import Trunk, freeze

EFFICIENTNETS = ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4")
# The blocks of `features` that halve the map.
HALVING = {
    "mobilenet_v2": (0, 2, 4, 7, 14),
    "mobilenet_v3_large": (0, 2, 4, 7, 13),
    "mobilenet_v3_small": (0, 1, 2, 4, 9),
    **dict.fromkeys(EFFICIENTNETS, (0, 2, 3, 4, 6)),
}


class Features(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32; or those of `maps`; or, where the config gives a stride, one,
    by default the last.

    The four are the last of their stride. The 1x1 convolution that ends `features` is left out of them: it serves the
    classifier, and the FPN would at once reduce it again.

    Attributes:
        channels: of each map.

    Raises:
        ConfigError: a map that is not there; another stride than that of the one map.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        halving, features = HALVING[config.name], _features(config)
        last = len(features) - 1
        pyramid = (*(block - 1 for block in halving[2:]), last - 1)
        self.maps = config.maps or (pyramid if config.stride is None else (last,))
        if self.maps[-1] > last:
            message = f"{self.maps[-1]}: the blocks of {config.name} are 0 to {last}; leave it null for the usual ones"
            raise ConfigError(message, field="model.backbone.maps")
        self.strides = tuple(2 ** sum(first <= block for first in halving) for block in self.maps)
        self.stride = config.stride
        if config.output == "c5" and self.stride not in (None, self.strides[0]):
            message = f"{self.stride}: map {self.maps[0]} of {config.name} has stride {self.strides[0]}; set that"
            raise ConfigError(message, field="model.backbone.stride")
        self.channels = tuple(_width(features[block]) for block in self.maps)
        self.features = nn.Sequential(*list(features)[: self.maps[-1] + 1])
        self.projection = None
        if config.projection is not None:
            self.projection = nn.Conv2d(self.channels[0], config.projection, 1)
            self.channels = (config.projection,)
        # "Stem" and "res2" of a ResNet end at strides 4 and 4; of MobileNetV2: the stem with block 1, then blocks 2-3.
        ends = (0, *halving[2:], len(features))
        stages = [self.features[start:end] for start, end in pairwise(ends)]
        freeze([self.features[: halving[1]], *stages], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, block in enumerate(self.features):
            x = block(x)
            if number in self.maps:
                maps.append(x)
        return maps if self.projection is None else [self.projection(maps[0])]


def _features(config: BackboneConfig) -> nn.Sequential:
    options = {"stochastic_depth_prob": 0.0} if config.name in EFFICIENTNETS else {}
    build = getattr(torchvision.models, config.name)
    return build(weights=None, norm_layer=norm_layer(config), num_classes=1, **options).features


def _width(block: nn.Module) -> int:
    """Channels of its map: those of its last convolution outside a squeeze and excitation."""
    return [module for module in block.modules() if isinstance(module, nn.Conv2d) and module.bias is None][
        -1
    ].out_channels
