"""What every trunk offers: an image in, maps out; and what the second stage of one without a pyramid offers."""

from __future__ import annotations

from torch import Tensor, nn

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError


class Trunk(nn.Module):
    """Images (B, C, H, W) -> a list of maps.

    Attributes:
        channels: of each map.
        strides: pixels per cell of each map for a pyramid.
        stride: pixels per cell of the one map of a trunk without a pyramid; None: several, for one.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = (4, 8, 16, 32)
    stride: int | None = None


class StageTwo(nn.Module):
    """The last stage of a trunk, run on the crop of each RoI: (R, C, s, s) -> (R, `channels`, s', s').

    Attributes:
        channels: of what it gives.
    """

    channels: int

    def forward(self, rois: Tensor) -> Tensor:
        raise NotImplementedError


def atrous_stride(config: BackboneConfig) -> int:
    """16, or 8 where the last stage keeps its size and dilates its convolutions; `ConfigError` for others."""
    stride = config.stride or 16
    if stride not in (8, 16):
        message = f"{stride}: {config.name} has stride 16, or 8 with dilated convolutions; set one of them"
        raise ConfigError(message, field="model.backbone.stride")
    return stride


def freeze(stages: list[nn.Module | list[nn.Module]], count: int) -> None:
    """No gradients for the first `count` stages."""
    for stage in stages[:count]:
        for module in stage if isinstance(stage, list) else [stage]:
            module.requires_grad_(False)


def freeze_features(features: nn.Sequential, norms: nn.ModuleList, count: int) -> None:
    """The same for torchvision's Swin and ConvNeXt: the stem, then each stage with what halves its map and its norm."""
    stages: list[nn.Module | list[nn.Module]] = [features[0], [features[1], norms[0]]]
    stages += [[features[2 * stage], features[2 * stage + 1], norms[stage]] for stage in range(1, len(norms))]
    freeze(stages, count)
