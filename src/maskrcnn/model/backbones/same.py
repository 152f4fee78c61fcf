"""TensorFlow's SAME padding: ceil(side / stride) outputs, the odd pixel after the end; and layers made of it.

The padding depends on the size of the map, so it is arithmetic on shapes that an export can trace, without a branch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def same_padding(side: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Cells to add before and after an axis of `side` cells.

    TensorFlow's total is max((ceil(side / stride) - 1) * stride + extent - side, 0) for a kernel that spans `extent`
    cells. With at least as many cells as the stride that is extent - 1 - (side - 1) % stride, which is never negative;
    a kernel of one cell needs none.
    """
    extent = (kernel - 1) * dilation + 1
    if extent == 1:
        return 0, 0
    assert extent >= stride, "SAME padding of a kernel with gaps between its windows"
    total = extent - 1 - (side - 1) % stride
    return total // 2, total - total // 2


def pad_same(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1), value: float = 0.0
) -> Tensor:
    """(B, C, H, W) with SAME padding around it."""
    top, bottom = same_padding(x.shape[2], kernel[0], stride[0], dilation[0])
    left, right = same_padding(x.shape[3], kernel[1], stride[1], dilation[1])
    return F.pad(x, [left, right, top, bottom], value=value)


class SameConv2d(nn.Conv2d):
    """A convolution with an odd kernel that pads as TensorFlow does, for any stride, dilation and groups."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.kernel_size, self.stride, self.dilation
        if stride == (1, 1):  # the same zeros on both sides, without a padded copy of the map
            padding = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
            return F.conv2d(x, self.weight, self.bias, 1, padding, dilation, self.groups)
        x = pad_same(x, (kernel[0], kernel[1]), (stride[0], stride[1]), (dilation[0], dilation[1]))
        return F.conv2d(x, self.weight, self.bias, stride, 0, dilation, self.groups)


class SameMaxPool2d(nn.Module):
    """Largest value under an odd kernel; the padding never wins."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel, self.stride
        if stride == 1:
            return F.max_pool2d(x, kernel, 1, kernel // 2)
        height, width = x.shape[2:]
        # Not in a graph for all sizes; Dynamo calls their symbols integers too.
        if isinstance(height, int) and isinstance(width, int) and not torch.compiler.is_dynamo_compiling():
            # The operator's own padding, without a padded copy of the map: the
            # part that is the same on both sides; `ceil_mode` gives the window that needs the rest.
            before = same_padding(height, kernel, stride)[0], same_padding(width, kernel, stride)[0]
            return F.max_pool2d(x, kernel, stride, before, ceil_mode=True)
        return F.max_pool2d(pad_same(x, (kernel, kernel), (stride, stride), value=float("-inf")), kernel, stride)


class SameAveragePool2d(nn.Module):
    """Mean under an odd kernel, stride 1; at the border that of the real cells alone."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, 1, self.kernel // 2, count_include_pad=False)


class ConvNorm(nn.Module):
    """slim's `conv2d`: a convolution without bias, a norm, a ReLU.

    Args:
        inputs, outputs: channels.
        kernel: odd, or (height, width).
        norm: makes the norm for a number of channels.
        stride, dilation: of the convolution.
        padding: "same" (TensorFlow's SAME); "valid": none; "symmetric": as many zeros before as after whatever the size
            of the map (slim's `conv2d_same`), which differs from SAME where a stride meets an even side.
        relu: false leaves the ReLU out.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        norm: Norm,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "same",
        relu: bool = True,
    ) -> None:
        super().__init__()
        if padding == "same":
            self.conv: nn.Conv2d = SameConv2d(inputs, outputs, kernel, stride, dilation=dilation, bias=False)
        else:
            assert isinstance(kernel, int)
            around = dilation * (kernel // 2) if padding == "symmetric" else 0
            self.conv = nn.Conv2d(inputs, outputs, kernel, stride, around, dilation, bias=False)
        self.norm = norm(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu_(x) if self.relu else x


class SeparableConvNorm(nn.Module):
    """slim's `separable_conv2d`: depthwise, then pointwise with nothing between, one norm, a ReLU.

    Args:
        inputs, outputs: channels.
        kernel, stride: of the depthwise convolution.
        multiplier: outputs of each input channel after the depthwise one.
        norm: makes the norm for a number of channels.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Norm, *, stride: int, multiplier: int) -> None:
        super().__init__()
        self.depthwise = SameConv2d(inputs, inputs * multiplier, kernel, stride, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs * multiplier, outputs, 1, bias=False)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.norm(self.pointwise(self.depthwise(x))))


def initialise(module: nn.Module) -> None:
    """He's normal weights for every convolution (He et al. 2015), in place: deep ReLU nets keep their magnitude."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
