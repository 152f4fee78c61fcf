"""The inside of a step: micro-batches in; gradients in `.grad` and the loss parts of the global batch out.

Losses are divided by counts over the global batch (all micro-batches, all processes), so one big batch, accumulation
and several processes have the same gradient.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import accelerate
import torch
from torch import Tensor, nn

from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.structures import Batch


def backward(
    model: MaskRCNN, network: nn.Module, batches: Sequence[Batch], accelerator: accelerate.Accelerator, precision: str
) -> dict[str, Tensor]:
    """Add the gradient of one optimiser step to `.grad`.

    Args:
        model: the bare network, for counting.
        network: the same, perhaps wrapped for several processes.
        batches: the micro-batches of this process, on the device.
        precision: "float32" or "bf16".

    Returns:
        Scalar loss parts of the global batch, the same in all processes, without gradient.
    """
    counts: dict[str, Tensor] = {}
    if len(batches) > 1:  # the divisors span the micro-batches, so they are counted first: one more trunk forward
        counts = global_counts(_count(model, batches, accelerator, precision), accelerator)
    losses: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        last = index == len(batches) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(network):
            with autocast(accelerator, precision):
                parts = network(batch.images, batch.sizes, batch.targets, reduction="sum")
            counts = counts or global_counts({name: part.count for name, part in parts.items()}, accelerator)
            means = {name: part.total / counts[name] for name, part in parts.items()}
            # Gradients are averaged over processes, the loss is a sum over them.
            accelerator.backward(torch.stack(list(means.values())).sum() * accelerator.num_processes)
        losses = {name: losses.get(name, 0.0) + mean.detach() for name, mean in means.items()}
    total = accelerator.reduce(torch.stack(list(losses.values())), "sum")
    return dict(zip(losses, total.unbind(), strict=True))


def global_counts(counts: dict[str, Tensor], accelerator: accelerate.Accelerator) -> dict[str, Tensor]:
    """Sums over all processes, at least 1, float32."""
    stacked = accelerator.reduce(torch.stack([count.float() for count in counts.values()]), "sum")
    return dict(zip(counts, stacked.clamp(min=1).unbind(), strict=True))


def autocast(accelerator: accelerate.Accelerator, precision: str) -> torch.autocast:
    """The context of a forward pass."""
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bf16")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the CPU's allocator, has run out of memory."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _count(
    model: MaskRCNN, batches: Sequence[Batch], accelerator: accelerate.Accelerator, precision: str
) -> dict[str, Tensor]:
    """What the losses of all micro-batches of this process count."""
    counts: dict[str, Tensor] = {}
    for batch in batches:
        assert batch.targets is not None
        with _statistics_kept(model), autocast(accelerator, precision):
            parts = model.loss_counts(batch.images, batch.sizes, batch.targets)
        counts = {name: count + counts.get(name, 0) for name, count in parts.items()}
    return counts


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norms normalise as in training, but do not move their running statistics."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
