"""Norms of trunks, and folding those with fixed statistics into the convolution before them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn.config import BackboneConfig

# (convolution, norm) by attribute name inside one module; pairs in an nn.Sequential are found by their order.
PAIRS = (
    ("conv", "norm"),
    ("pointwise", "norm"),
    ("conv1", "bn1"),
    ("conv2", "bn2"),
    ("conv3", "bn3"),
    ("conv_stem", "bn0"),
    ("expand_conv", "bn0"),
    ("depthwise_conv", "bn1"),
    ("project_conv", "bn2"),
)


class FrozenNorm(FrozenBatchNorm2d):
    """A batch norm whose statistics and scale never change, in one pass over memory instead of torchvision's two."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        bias = self.bias - self.running_mean * scale
        shape = (1, -1, 1, 1)
        return torch.addcmul(bias.view(shape).to(x.dtype), x, scale.view(shape).to(x.dtype))


class FrozenStatisticsNorm(FrozenNorm):
    """A batch norm whose statistics never change, while its scale and shift train."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)
        for name, value in (("weight", torch.ones(channels)), ("bias", torch.zeros(channels))):
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """32 groups (Wu and He 2018), as in all peers."""
    return nn.GroupNorm(32, channels, eps=eps)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "frozen_bn": FrozenNorm,
    "frozen_statistics": FrozenStatisticsNorm,
    "bn": nn.BatchNorm2d,
    "gn": group_norm,
}


def norm_layer(config: BackboneConfig, *, scale: bool = True) -> partial[nn.Module]:
    """The norm of every trunk: a constructor that takes the channels; `scale` false: the scale stays 1 (slim)."""
    norm = partial(NORMS[config.norm], eps=config.norm_eps)
    return norm if scale else partial(_unscaled, norm)


def _unscaled(norm: Callable[[int], nn.Module], channels: int) -> nn.Module:
    """The scale becomes a constant that no state dict holds."""
    layer = norm(channels)
    del layer.weight
    layer.register_buffer("weight", torch.ones(channels), persistent=False)
    return layer


@torch.no_grad()
def fold_norms(module: nn.Module) -> nn.Module:
    """Fold in place, for prediction only; returns `module`.

    Batch norms become `nn.Identity`. Group and layer norms stay: their statistics come from the image.
    """
    for parent in list(module.modules()):
        for conv_name, norm_name in PAIRS:
            conv, norm = getattr(parent, conv_name, None), getattr(parent, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
                _fold(conv, norm)
                setattr(parent, norm_name, nn.Identity())
        if isinstance(parent, nn.Sequential):
            for i in range(len(parent) - 1):
                conv, norm = parent[i], parent[i + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
                    _fold(conv, norm)
                    parent[i + 1] = nn.Identity()
    return module


def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
