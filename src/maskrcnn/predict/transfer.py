"""Between host and device without waiting: pinned memory in, one copy and one wait out."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from maskrcnn.structures import Detections


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`. From host to CUDA through pinned memory, which the host need not wait for."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def to_host(detections: Detections) -> Detections:
    """The detections on the CPU: all fields in one copy, and one wait for it, which is a prediction's only one."""
    if detections.boxes.device.type != "cuda":
        return detections.to("cpu")
    flat, layout = pack(detections)
    host = torch.empty(flat.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(flat, non_blocking=True)
    torch.cuda.current_stream(flat.device).synchronize()
    return unpack(host, layout)


Layout = list[tuple[str, torch.dtype, torch.Size]]


def pack(detections: Detections) -> tuple[Tensor, Layout]:
    """All fields as one row of bytes, and what is where. Wide types come first, so that each starts at a multiple of
    its width."""
    found = [(f.name, getattr(detections, f.name)) for f in fields(detections)]
    tensors = [(name, value) for name, value in found if value is not None]
    tensors.sort(key=lambda pair: -pair[1].element_size())
    flat = torch.cat([value.contiguous().view(-1).view(torch.uint8) for _, value in tensors])
    return flat, [(name, value.dtype, value.shape) for name, value in tensors]


def unpack(flat: Tensor, layout: Layout) -> Detections:
    """The inverse of `pack`: views of the same memory."""
    values: dict[str, Tensor] = {}
    start = 0
    for name, dtype, shape in layout:
        end = start + shape.numel() * dtype.itemsize
        values[name] = flat[start:end].view(dtype).view(shape)
        start = end
    return Detections(**values)
