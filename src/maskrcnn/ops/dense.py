"""Fully connected layers as oneDNN's products, on a CPU twice as fast as the MKL products of `nn.Linear` where the
processor is not Intel's. Same weights, and the same numbers but for rounding; graphs and other devices get `nn.Linear`.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(x.flatten(1)): (R, C) or maps (R, C, n, n) -> (R, D)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.backends.mkldnn.is_available():
        return layer(x.flatten(1))
    if x.ndim == 4:
        # A convolution whose kernel covers the map: maps that are stored channels-last, as RoIAlign makes them, need
        # not be copied into the order in which the weights count.
        return F.conv2d(x, layer.weight.view(-1, *x.shape[1:]), layer.bias).flatten(1)
    if not _in_onednn(x, layer.weight):
        return layer(x)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return y


def _in_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether the operator of PyTorch's compiler takes this: it knows neither gradients nor autocast."""
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    plain = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return bool(plain and not gradients and torch.backends.mkldnn.enabled and x.numel() > 0 and _operator_works())


@functools.cache
def _operator_works() -> bool:
    """It is not documented: try whether it is there and gives what it gives today."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        x, weight, bias = torch.arange(12.0).view(3, 4), torch.arange(20.0).view(5, 4), torch.arange(5.0)
        try:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.equal(y, F.linear(x, weight, bias))
