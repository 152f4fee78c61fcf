"""Trunks for images that are not RGB: the first convolution with another number of input channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskrcnn.errors import ConfigError


def first_convolution(trunk: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, and its name in the trunk: the first one."""
    return next((name, module) for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d))


def inflate(weight: Tensor, channels: int) -> Tensor:
    """The weight (O, I, k, k) of a first convolution for images of `channels` channels.

    The mean over its inputs, repeated, times I / channels: channels that all show the same grey picture give what that
    picture gave before, so activations keep their magnitude (I3D, Carreira and Zisserman 2017, section 2.4, does so
    along time). For one channel that is the sum over RGB.
    """
    inputs = weight.shape[1]
    if inputs == channels:
        return weight
    mean = weight.mean(dim=1, keepdim=True) * (inputs / channels)
    return mean.repeat(1, channels, 1, 1)


@torch.no_grad()
def set_input_channels(trunk: nn.Module, channels: int) -> None:
    """Give a new trunk random first weights for `channels` input channels, in place; nothing changes where it has them.

    The deviation shrinks with the square root of the channels, so that activations keep theirs. The layer trains even
    where the stem is frozen: no weights for these channels have been learned anywhere, and a frozen layer would go on
    seeing their mean alone.

    Raises:
        ConfigError: other channels for a trunk that begins with a depthwise convolution.
    """
    _, convolution = first_convolution(trunk)
    old, inputs = convolution.weight, convolution.in_channels
    if inputs == channels:
        return
    if convolution.groups != 1:
        message = f"{channels} numbers, but this trunk begins with a depthwise convolution of {inputs} channels"
        raise ConfigError(f"{message}; give {inputs}, or choose another model.backbone.name", field="model.image_mean")
    weight = old.new_empty(old.shape[0], channels, *old.shape[2:])
    weight.normal_(0.0, float(old.std()) * (inputs / channels) ** 0.5)
    convolution.weight = nn.Parameter(weight)
    convolution.in_channels = channels
