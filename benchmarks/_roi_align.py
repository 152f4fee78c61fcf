"""RoIAlign alone against `torchvision.ops`: the features of an 800 x 1066 photo, forward and with the gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from _timing import Row, compare
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from maskrcnn.ops.roi_align import multilevel_roi_align

CHANNELS = 256
PADDED = (800, 1088)
CASES = ((1000, 7), (100, 14))  # RoIs and cells a side: those of the box head and of the mask head

Call = Callable[[list[Tensor]], Tensor]


def run(device: torch.device, repeat: int) -> list[Row]:
    """Each on the four levels of the pyramid and on the finest level alone, with torchvision's two samples a cell.

    Ours reads channels-last features, as our network makes them, theirs channels-first ones. Before it is timed, both
    must give the same values and the same gradient.
    """
    generator = torch.Generator().manual_seed(0)
    sides = [(PADDED[0] >> level, PADDED[1] >> level) for level in range(2, 6)]
    pyramid = [torch.randn(1, CHANNELS, *side, generator=generator).to(device) for side in sides]
    rows = []
    for count, cells in CASES:
        boxes = _boxes(count, generator).to(device)
        for levels in (4, 1):
            rows += _compared(pyramid[:levels], boxes, cells, generator, repeat)
    return rows


def _boxes(count: int, generator: torch.Generator) -> Tensor:
    """Sides of 12 to 800 pixels, as many in each octave, and any aspect from 1:2 to 2:1."""
    side = 12 * (800 / 12) ** torch.rand(count, 1, generator=generator)
    aspect = 2 ** (torch.rand(count, 1, generator=generator) - 0.5)
    frame = torch.tensor([1066.0, 800.0])
    sides = torch.minimum(torch.cat([side * aspect, side / aspect], dim=1), frame)
    corner = torch.rand(count, 2, generator=generator) * (frame - sides)
    return torch.cat([corner, corner + sides], dim=1)


def _compared(features: list[Tensor], boxes: Tensor, cells: int, generator: torch.Generator, repeat: int) -> list[Row]:
    device = boxes.device
    index = torch.zeros(len(boxes), dtype=torch.int64, device=device)
    names = [str(level) for level in range(len(features))]
    pool = MultiScaleRoIAlign(names, cells, sampling_ratio=2)

    def ours(features: list[Tensor]) -> Tensor:
        return multilevel_roi_align(features, boxes, index, resolution=cells, sampling_ratio=2, aligned=False)

    def theirs(features: list[Tensor]) -> Tensor:
        if len(features) == 1:
            return roi_align(features[0], [boxes], cells, spatial_scale=0.25, sampling_ratio=2)
        return pool(dict(zip(names, features, strict=True)), [boxes], [PADDED])

    last = torch.channels_last
    our_features = [f.to(memory_format=last, copy=True).requires_grad_() for f in features]
    their_features = [f.clone().requires_grad_() for f in features]
    grad = torch.randn(len(boxes), CHANNELS, cells, cells, generator=generator).to(device)
    our_side = ours, our_features, grad.contiguous(memory_format=last)
    their_side = theirs, their_features, grad
    torch.testing.assert_close(_forward(*our_side), _forward(*their_side), atol=1e-3, rtol=1e-3)
    for a, b in zip(_with_gradient(*our_side), _with_gradient(*their_side), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    where = "four levels" if len(features) > 1 else "finest level"
    group = f"RoIAlign {cells} x {cells}, {len(boxes)} RoIs"
    return [
        compare(group, f"{where}, {name}", functools.partial(call, *our_side), functools.partial(call, *their_side),
                repeat=repeat, device=device)
        for name, call in (("forward", _forward), ("with gradient", _with_gradient))
    ]  # fmt: skip


def _forward(call: Call, features: list[Tensor], _: Tensor) -> Tensor:
    with torch.no_grad():
        return call(features)


def _with_gradient(call: Call, features: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(features), features, grad)
