"""How much arithmetic this machine does at best, and how much a piece of code asks for."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

import maskrcnn.ops.roi_align  # noqa: F401  registers the operators that are counted
from maskrcnn.benchmark.timing import measure
from maskrcnn.predict.cuda_graphs import HALF

PROBE_SECONDS = 1.5


def peak_gflops(device: torch.device, precision: str) -> dict[str, float]:
    """GFLOP/s of a 3x3 convolution of 256 channels, NHWC, and of a matrix product, at best in a quick probe.

    Args:
        precision: "float32", "bf16" or "fp16".

    Returns:
        `convolution`, `matrix` and `best`, the higher of the two.
    """
    dtype = HALF.get(precision, torch.float32)
    large = 4 if device.type == "cuda" else 1
    images = torch.randn(2 * large, 256, 96, 128, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    square = torch.randn(2048 * large, 2048 * large, device=device, dtype=dtype)

    @torch.inference_mode()
    def convolution() -> Tensor:
        return F.conv2d(images, weight, padding=1)

    @torch.inference_mode()
    def matrix() -> Tensor:
        return square @ square

    jobs = {"convolution": convolution, "matrix": matrix}
    times = measure(jobs, device, budget=PROBE_SECONDS)
    rates = {name: count_flop(job) / 1e9 / min(times[name].seconds) for name, job in jobs.items()}
    return {**rates, "best": max(rates.values())}


def counter() -> FlopCounterMode:
    """Counts multiplications and additions of convolutions and matrix products, oneDNN's fused ones too, and of our
    RoIAlign."""
    formulas: dict[Any, Any] = {torch.ops.maskrcnn.gather_rows: _gathered, torch.ops.maskrcnn.gather_levels: _gathered}
    if torch.backends.mkldnn.is_available():
        formulas |= {
            torch.ops.mkldnn._convolution_pointwise: _convolved,
            torch.ops.mkldnn._linear_pointwise: _multiplied,
        }
    return FlopCounterMode(display=False, custom_mapping=formulas)


def count_flop(job: Callable[[], Any]) -> float:
    """FLOP of one call."""
    with counter() as counting:
        job()
    return float(counting.get_total_flops())


# Formulas get the operator's arguments with shapes in place of tensors.


def _gathered(rows: Any, indices: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Each of the N x K indices reads a row of C numbers, multiplies and adds it."""
    return 2 * indices[0] * indices[1] * out_shape[1]


def _convolved(x: Any, second: Any, third: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """(x, weight, bias, ...), or (x, what is added, weight, ...)."""
    weight = third if third is not None and len(third) == 4 else second
    return conv_flop_count(x, weight, out_shape)


def _multiplied(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * prod(out_shape) * weight[1]
