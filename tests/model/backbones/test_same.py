"""TensorFlow's SAME padding, against its definition written out cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.model.backbones.same import SameAveragePool2d, SameConv2d, SameMaxPool2d, same_padding


def windows(x: Tensor, kernel: int, stride: int, dilation: int = 1) -> list[list[Tensor]]:
    """The real cells under each position of the kernel, (C, cells) each, by the rule of TensorFlow's documentation."""
    extent = (kernel - 1) * dilation + 1
    starts = []
    for side in x.shape[1:]:
        count = math.ceil(side / stride)
        before = max((count - 1) * stride + extent - side, 0) // 2
        starts.append([i * stride - before for i in range(count)])
    taps = [
        [[p for p in range(s, s + extent, dilation) if 0 <= p < side] for s in axis]
        for axis, side in zip(starts, x.shape[1:], strict=True)
    ]
    return [[x[:, rows][:, :, columns].flatten(1) for columns in taps[1]] for rows in taps[0]]


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", range(7, 15))
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (7, 2, 1), (3, 1, 2), (1, 2, 1), (3, 3, 1)])
def test_padding_is_that_of_the_definition(side: int, kernel: int, stride: int, dilation: int):
    before, after = same_padding(side, kernel, stride, dilation)
    extent = (kernel - 1) * dilation + 1
    total = max((math.ceil(side / stride) - 1) * stride + extent - side, 0)
    assert (before, after) == (total // 2, total - total // 2)


@pytest.mark.parametrize("size", [(9, 12), (12, 9), (8, 8), (5, 7), (10, 11)])
def test_pools_look_at_real_cells_only(size: tuple[int, int]):
    x = numbers(2, *size) - 5  # all negative: a padding with zeros would win
    for stride in (1, 2, 3):
        expected = torch.stack(
            [torch.stack([w.amax(1) for w in row], -1) for row in windows(x, 3, stride)], 1
        )  # (C, rows, columns)
        assert torch.equal(SameMaxPool2d(3, stride)(x[None])[0], expected)
    mean = torch.stack([torch.stack([w.mean(1) for w in row], -1) for row in windows(x, 3, 1)], 1)
    torch.testing.assert_close(SameAveragePool2d(3)(x[None])[0], mean)


@pytest.mark.parametrize("size", [(9, 12), (12, 9), (8, 8)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (7, 2, 1), (3, 1, 2), (5, 1, 1), (1, 2, 1)])
def test_convolutions_see_zeros_outside(size: tuple[int, int], kernel: int, stride: int, dilation: int):
    """With weights of one, a convolution is the sum of the real cells."""
    x = numbers(3, *size)
    layer = SameConv2d(3, 1, kernel, stride, dilation=dilation, bias=False)
    torch.nn.init.ones_(layer.weight)
    expected = torch.stack([torch.stack([w.sum() for w in row]) for row in windows(x, kernel, stride, dilation)])
    torch.testing.assert_close(layer(x[None])[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_each_axis_has_its_own_kernel():
    layer = SameConv2d(2, 2, (1, 7), dilation=2, bias=False)
    x = numbers(1, 2, 5, 20)
    assert layer(x).shape == x.shape
    torch.testing.assert_close(layer(x), F.conv2d(F.pad(x, [6, 6]), layer.weight, dilation=2))


def test_the_trunk_of_a_side_that_changes_is_one_graph():
    """The padding is arithmetic on the shape: one exported graph serves even and odd sides."""
    layers = torch.nn.Sequential(SameConv2d(1, 2, 3, 2), SameMaxPool2d(3, 2), SameConv2d(2, 1, 7, 2)).eval()
    sides = {2: torch.export.Dim("height", min=17, max=500), 3: torch.export.Dim("width", min=17, max=500)}
    graph = torch.export.export(layers, (numbers(1, 1, 33, 48),), dynamic_shapes=({**sides},)).module()
    for size in ((32, 32), (33, 47), (50, 51)):
        x = numbers(1, 1, *size)
        torch.testing.assert_close(graph(x), layers(x))
