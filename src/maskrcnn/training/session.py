"""Everything that a training run touches, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import accelerate
import torch
from torch import nn

from maskrcnn.config import Config
from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.training.checkpoint import State
from maskrcnn.training.clock import Clock
from maskrcnn.training.ema import EMA
from maskrcnn.training.optim import Guard
from maskrcnn.training.progress import Report
from maskrcnn.training.readback import Readback
from maskrcnn.training.scoring import Scoring


@dataclass
class Session:
    """Everything the loop touches."""

    config: Config
    train: Dataset
    val: Dataset | None
    out: Path
    accelerator: accelerate.Accelerator
    model: MaskRCNN
    network: nn.Module
    """`model`, wrapped for several processes."""
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    state: State
    loader: Loader
    report: Report
    began: float
    """When the run began, earlier sessions included; on the clock of `time.monotonic`."""
    clock: Clock | None
    total: int | None
    """Steps of the run; None until the clock has measured a few."""
    readback: Readback
    scoring: Scoring
    guard: Guard | None
    """On CUDA, where the host reads the losses a step later."""
