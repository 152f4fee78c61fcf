"""ResNet and ResNeXt through torchvision's trunks; tensor names are torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn.config import BackboneConfig


class FrozenNorm(FrozenBatchNorm2d):
    """A batch norm whose statistics and scale never change, in one pass over memory instead of torchvision's two."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        shape = (1, -1, 1, 1)
        return torch.addcmul(bias.view(shape).to(x.dtype), x, scale.view(shape).to(x.dtype))


def norm_layer(config: BackboneConfig) -> partial[nn.Module]:
    """The norm of every trunk: a constructor that takes the channels."""
    norm: Callable[..., nn.Module] = FrozenNorm if config.norm == "frozen_bn" else nn.BatchNorm2d
    return partial(norm, eps=config.norm_eps)


def freeze(stages: list[nn.Module | list[nn.Module]], count: int) -> None:
    """No gradients for the first `count` stages."""
    for stage in stages[:count]:
        for module in stage if isinstance(stage, list) else [stage]:
            module.requires_grad_(False)


class Trunk(nn.Module):
    """What every trunk offers.

    Attributes:
        channels: of the four maps, strides 4, 8, 16, 32.
    """

    channels: tuple[int, int, int, int]


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
