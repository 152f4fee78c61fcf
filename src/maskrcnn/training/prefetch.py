"""Batches from pinned memory to the device, beside the computation instead of before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from maskrcnn.structures import Batch


def on_device(steps: Iterable[Sequence[Batch]], device: torch.device) -> Iterator[list[Batch]]:
    """Each step's micro-batches on the device, in order.

    On CUDA they are copied on a stream of their own. The host is a step ahead of the GPU (see `readback`), so a batch
    is copied while the step before is still computed; the computation waits for its batch, the host for nothing.
    """
    if device.type != "cuda":
        for batches in steps:
            yield [batch.to(device, non_blocking=True) for batch in batches]
        return
    side = torch.cuda.Stream(device)
    for batches in steps:
        with torch.cuda.stream(side):
            moved = [batch.to(device, non_blocking=True) for batch in batches]
        current = torch.cuda.current_stream(device)
        current.wait_stream(side)
        for batch in moved:
            batch.map(partial(_used_on, current))
        yield moved


def _used_on(stream: torch.cuda.Stream, tensor: Tensor) -> Tensor:
    """The memory belongs to the side stream, which must not reuse it before `stream` is through with it."""
    tensor.record_stream(stream)
    return tensor
