"""Optimiser and learning rate. The rate is a pure function of the step, so resuming needs no scheduler state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from maskrcnn.config import TrainConfig
from maskrcnn.training.rmsprop import RMSProp

WARMUP_PART = 0.1  # warm-up never takes more of a run than this


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser over the parameters that train.

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
    rate, eps = scaled_rate(config), config.optimizer_eps
    eps = eps if eps is not None else 1.0 if config.optimizer == "rmsprop" else 1e-8
    if config.optimizer == "rmsprop":
        return RMSProp(parameters, lr=rate, momentum=config.momentum, decay=config.rms_decay, eps=eps)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, eps=eps, fused=fused)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, eps=eps, fused=fused)
    return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, fused=fused)


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
    """The learning rate for the real batch."""
    return config.learning_rate * batch_factor(config)


def batch_factor(config: TrainConfig) -> float:
    """What the real batch does to every rate: linear for SGD (Goyal 2017), by the root for Adam and its kin (Malladi
    2022)."""
    ratio = config.batch_size / config.learning_rate_batch
    return ratio if config.optimizer == "sgd" else math.sqrt(ratio)


def warmup_steps(config: TrainConfig, total_steps: int | None) -> int:
    """Steps of warm-up: as configured, but at most a tenth of the run, unless the whole schedule counts in steps."""
    in_steps = config.schedule == "manual" or config.decay_steps is not None
    if total_steps is None or in_steps:
        return config.warmup_steps
    return min(config.warmup_steps, int(WARMUP_PART * total_steps))


def may_go_on(old: TrainConfig, new: TrainConfig) -> bool:
    """Whether a run may get another length: whether the rates of its first steps do not depend on that."""
    if old.minutes or new.minutes or old.schedule == "step":
        return False
    if old.schedule in ("cosine", "exponential"):
        return old.decay_steps is not None
    return old.schedule == "manual" or warmup_steps(old, old.steps) == warmup_steps(new, new.steps)


def lr_at(step: int, config: TrainConfig, total_steps: int | None) -> float:
    """The learning rate of optimiser step `step`, counted from 0.

    `manual`, `exponential` and `cosine` with `decay_steps` are those of the TensorFlow Object Detection API
    (`utils/learning_schedules.py`), whatever the length of the run.

    Args:
        total_steps: length of the run; None while it is not known yet (`train.minutes`): warm-up, then constant.
    """
    rate = scaled_rate(config)
    warmup = warmup_steps(config, total_steps)
    lowest = config.end_rate * batch_factor(config) if config.schedule in ("exponential", "cosine") else 0.0
    if step < warmup:
        return max(rate * (config.warmup_factor + (1 - config.warmup_factor) * step / warmup), lowest)
    if config.schedule == "manual":
        return batch_factor(config) * [rate for first, rate in config.rates if first <= step][-1]
    if config.schedule in ("exponential", "cosine"):
        length, held = config.decay_steps or total_steps, step - warmup - config.hold_steps
        return rate if length is None else max(_fallen(rate, held, length, warmup, config), lowest)
    if total_steps is None or config.schedule == "constant":
        return rate
    return rate * 0.1 ** sum(step >= milestone * total_steps for milestone in config.milestones)


def _fallen(rate: float, held: int, length: int, warmup: int, config: TrainConfig) -> float:
    """The rate `held` steps after it began to fall; `length`: of a cosine from the first step on, of one exponent."""
    if held <= 0:
        return rate
    if config.schedule == "cosine":
        progress = held / max(length - warmup - config.hold_steps, 1)
        return rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return rate * config.decay_factor ** (held // length if config.decay_staircase else held / length)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to its part of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
