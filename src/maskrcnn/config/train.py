"""The knobs of the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """The schedule."""

    epochs: float = 12.0
    """Passes over the data (Detectron2's 1x: 12)."""
    steps: int | None = None
    """Optimiser steps; overrides epochs."""
    minutes: float | None = None
    """Wall-clock limit: the schedule is fitted to it from the speed of the first steps. Not resumable bit for bit."""
    batch_size: int = 2
    """Images a step, over all devices and accumulated micro-batches together."""
    accumulate: int = 1
    """Micro-batches a step: memory for one of `batch_size / accumulate / devices` images."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: momentum 0.9 (paper); adamw: easier from scratch and on small data."""
    learning_rate: float = 0.02
    """For `learning_rate_batch` images; scaled linearly (SGD) or by the root (AdamW) to the real batch; paper: 0.02"""
    learning_rate_batch: int = 16
    """Images a step that `learning_rate` is meant for (paper: 16)."""
    backbone_lr_factor: float = 1.0
    """Factor on the trunk's learning rate."""
    momentum: float = 0.9
    """SGD momentum (paper: 0.9)."""
    weight_decay: float = 1e-4
    """On convolution and linear weights (paper: 1e-4); biases and norms have none."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """How the learning rate falls after warm-up."""
    milestones: tuple[float, ...] = (0.667, 0.889)
    """Parts of training after which `step` divides the rate by 10 (Detectron2 1x: 60k and 80k of 90k)."""
    warmup_steps: int = 1000
    """Steps of linear warm-up (Detectron2: 1000), at most a tenth of the run."""
    warmup_factor: float = 0.001
    """First learning rate as a part of the full one (Detectron2: 0.001)."""
    clip_norm: float = 10.0
    """Largest gradient norm; 0 switches clipping off (TensorFlow Object Detection API: 10)."""
    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and saved too; 0 switches it off."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: autocast; checkpoints stay float32."""
    compile: bool = False
    """Compile the network with Inductor (needs a C++ compiler on the CPU)."""
    channels_last: bool = True
    """NHWC memory: faster convolutions on CPUs and tensor cores."""
    seed: int = 0
    """Of weights, sample order, augmentation and sampling noise."""
    evaluate_every: float = 1.0
    """Epochs between evaluations; 0: only at the end."""
    save_every: float = 1.0
    """Epochs between `last` checkpoints."""
    keep_checkpoints: int = 0
    """Numbered checkpoints to keep beside best and last; -1 keeps all."""
    early_stop: int = 0
    """Evaluations without a better AP after which training ends; 0: never."""
    monitor: Literal["auto", "mask", "box"] = "auto"
    """AP that decides which checkpoint is best; auto: mask where there are masks."""
    log_every: int = 20
    """Steps between log lines (each reads the losses back from the device)."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """tensorboard, wandb, mlflow: whatever Accelerate knows and is installed."""
