"""What every part of the benchmark is handed: the request, the device, its peak, and a voice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from maskrcnn.benchmark.settings import Settings


@dataclass
class Context:
    """One call of the command.

    Attributes:
        settings: the request.
        device: where it runs.
        precision: "float32", "bf16" or "fp16", of inference.
        say: told what happens next.
        notes: sentences for the report, added by the parts.
    """

    settings: Settings
    device: torch.device
    precision: str
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
