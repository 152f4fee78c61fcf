"""ResNet and ResNeXt through torchvision's trunks; tensor names are torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones.norms import norm_layer
from maskrcnn.model.backbones.same import SameMaxPool2d
from maskrcnn.model.backbones.trunk import StageTwo, Trunk, freeze

# ResNeXts that torchvision has no function for: MMDetection's.
OTHERS: dict[str, Callable[..., torchvision.models.ResNet]] = {
    "resnext101_32x4d": partial(torchvision.models.ResNet, Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4),
}


class ResNet(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32, or of the layers in `maps`; or one, where the config gives a
    stride.

    That one is the map of layer3 (`output` c4; `ResNetStageTwo` is the rest), or of layer4 (c5), at its stride of 32,
    or at 16, where its 3x3 convolutions are dilated by 2 in place of the stride (Detectron2's DC5).

    Attributes:
        channels: of each map.

    Raises:
        ConfigError: another stride; other layers than 1 to 4; a stride in the 1x1 convolutions of a trunk without
            bottlenecks.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.stride not in ((None, 16, 32) if config.output == "c5" else (None, 16)):
            message = f"{config.stride}: {config.name} has stride 16 (output c5 dilates its last stage); set 16"
            raise ConfigError(message, field="model.backbone.stride")
        self.layers = config.maps or (1, 2, 3, 4)
        if not set(self.layers) <= {1, 2, 3, 4} or (config.maps and config.stride):
            message = (
                f"{list(self.layers)}: a pyramid on {config.name} takes its layers 1 to 4; leave it null otherwise"
            )
            raise ConfigError(message, field="model.backbone.maps")
        self.stride = config.stride
        trunk = torchvision_trunk(config)
        self.conv1, self.bn1, self.relu = trunk.conv1, trunk.bn1, trunk.relu
        self.maxpool = SameMaxPool2d(3, 2) if config.stem_pool == "same" else trunk.maxpool
        self.layer1: nn.Module = trunk.layer1
        self.layer2: nn.Module | None = trunk.layer2
        self.layer3: nn.Module | None = trunk.layer3
        self.layer4: nn.Module | None = trunk.layer4
        width = trunk.fc.in_features
        if self.stride is None:
            self.channels = tuple(width >> (4 - layer) for layer in self.layers)
            self.strides = tuple(2 << layer for layer in self.layers)
            for layer in range(self.layers[-1] + 1, 5):
                setattr(self, f"layer{layer}", None)
        elif config.output == "c4":
            self.layer4 = None
            self.channels = (width // 2,)
        else:
            if self.stride == 16:
                dilate(trunk.layer4)
            self.channels = (width,)
        stages = [self.layer1, self.layer2 or [], self.layer3 or [], self.layer4 or []]
        freeze([[self.conv1, self.bn1], *stages], config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            if layer is not None:
                x = layer(x)
                maps.append(x)
        return [maps[layer - 1] for layer in self.layers] if self.stride is None else maps[-1:]


class ResNetStageTwo(StageTwo):
    """Crops (R, C, s, s) of the map of layer3 -> (R, 2C, s / 2, s / 2): layer4, as in He et al. 2016.

    Attributes:
        channels: of what it gives.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        trunk = torchvision_trunk(config)
        self.layer4 = trunk.layer4
        self.channels = trunk.fc.in_features
        freeze([[], [], [], [], self.layer4], config.frozen_stages)  # its place after the stem and layers 1 to 3

    def forward(self, rois: Tensor) -> Tensor:
        return self.layer4(rois)


def torchvision_trunk(config: BackboneConfig) -> torchvision.models.ResNet:
    """torchvision's network with the config's norm, and the stride where the config wants it."""
    builder = OTHERS.get(config.name) or partial(getattr(torchvision.models, config.name), weights=None)
    trunk = builder(norm_layer=norm_layer(config))
    if not config.stride_in_1x1:
        return trunk
    bottlenecks = [block for block in trunk.modules() if isinstance(block, Bottleneck)]
    if not bottlenecks:
        message = f"true, but the blocks of {config.name} have no 1x1 convolutions; leave it false"
        raise ConfigError(message, field="model.backbone.stride_in_1x1")
    for block in bottlenecks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return trunk


def dilate(stage: nn.Module) -> None:
    """In place: no stride, and every 3x3 convolution sees twice as far (the first too, unlike torchvision's option)."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (2, 2)
