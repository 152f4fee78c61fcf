"""Where a model runs, and with which numbers."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from maskrcnn.errors import ConfigError

Precision = Literal["auto", "float32", "bf16", "fp16"]
Chosen = Literal["float32", "bf16", "fp16"]


def choose_device(name: str | torch.device) -> torch.device:
    """The device meant by "auto", "cpu", "cuda", "cuda:1" or "mps". Raises `ConfigError` when it is not there."""
    kind, _, index = str(name).partition(":")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if kind not in present or not (index == "" or index.isdecimal()):
        raise ConfigError(f"unknown device {str(name)!r}; use auto, cpu, cuda, cuda:1 or mps", field="device")
    if not present[kind] or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"{name} is not available on this machine; use auto or cpu", field="device")
    return torch.device(str(name))


def choose_precision(name: str, device: torch.device) -> Chosen:
    """ "auto" -> bf16 on CUDA that has it, float32 elsewhere. Raises `ConfigError` for another name, or fp16 without
    CUDA."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"fp16 is for CUDA, not for {device.type}; use float32 or bf16", field="precision")
    known: Chosen
    for known in get_args(Chosen):
        if name == known:
            return known
    raise ConfigError(f"{name!r} is not one of auto, float32, bf16, fp16", field="precision")
