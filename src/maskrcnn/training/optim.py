"""Optimiser and learning rate. The rate is a pure function of the step, so resuming needs no scheduler state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from maskrcnn.config import TrainConfig

WARMUP_PART = 0.1  # warm-up never takes more of a run than this


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that train.

    Groups carry `factor`, their part of the learning rate: `backbone_lr_factor` for names under `backbone.`. Matrices
    and filters decay; biases and norms, which have one axis, do not. On CUDA and CPUs the whole update is one kernel
    (`fused`).
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    parameters = [
        {
            "params": members,
            "weight_decay": config.weight_decay if decays else 0.0,
            "factor": config.backbone_lr_factor if backbone else 1.0,
        }
        for (backbone, decays), members in groups.items()
    ]
    devices = {p.device.type for members in groups.values() for p in members}
    fused = True if devices in ({"cuda"}, {"cpu"}) else None
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=scaled_rate(config), fused=fused)
    return torch.optim.SGD(parameters, lr=scaled_rate(config), momentum=config.momentum, fused=fused)


class Guard:
    """Keeps a bad step from the weights although the host looks at its losses only later.

    The fused update reads a flag on the device, as it does for `torch.amp.GradScaler`: from the first step on whose
    values are not finite, no update changes anything, neither weights nor the optimiser's state.

    Args:
        optimizer: a fused one.
        device: of its parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer, self._bad = optimizer, torch.zeros((), device=device)

    def see(self, values: Tensor) -> None:
        """Before each update: its losses and gradient norm (N,), on the device."""
        self._bad = torch.maximum(self._bad, (~values.isfinite()).any().float())
        self._optimizer.found_inf = self._bad  # type: ignore[attr-defined]


def scaled_rate(config: TrainConfig) -> float:
    """The learning rate for the real batch: linear for SGD (Goyal 2017), by the root for AdamW (Malladi 2022)."""
    ratio = config.batch_size / config.learning_rate_batch
    return config.learning_rate * (math.sqrt(ratio) if config.optimizer == "adamw" else ratio)


def warmup_steps(config: TrainConfig, total_steps: int | None) -> int:
    """Steps of warm-up: as configured, but at most a tenth of the run."""
    return config.warmup_steps if total_steps is None else min(config.warmup_steps, int(WARMUP_PART * total_steps))


def lr_at(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """The learning rate of optimiser step `step`, counted from 0.

    Args:
        total_steps: length of the run; None while it is not known yet (`train.minutes`): warm-up, then constant.
    """
    rate = scaled_rate(config)
    warmup = warmup_steps(config, total_steps)
    if step < warmup:
        return rate * (config.warmup_factor + (1 - config.warmup_factor) * step / warmup)
    if total_steps is None or config.schedule == "constant":
        return rate
    if config.schedule == "cosine":
        progress = (step - warmup) / max(total_steps - warmup, 1)
        return rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return rate * 0.1 ** sum(step >= milestone * total_steps for milestone in config.milestones)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to its part of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
