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
    optimizer: Literal["sgd", "adamw", "adam", "rmsprop"] = "sgd"
    """sgd: momentum 0.9 (paper); adamw: easier from scratch and on small data; adam and rmsprop: for TensorFlow's
    configs."""
    learning_rate: float = 0.02
    """For `learning_rate_batch` images; scaled linearly (SGD) or by the root (others) to the real batch; paper: 0.02"""
    learning_rate_batch: int = 16
    """Images a step that `learning_rate` is meant for (paper: 16)."""
    backbone_lr_factor: float = 1.0
    """Factor on the trunk's learning rate."""
    momentum: float = 0.9
    """Of SGD (paper: 0.9) and RMSProp."""
    rms_decay: float = 0.9
    """RMSProp: decay of the mean square of the gradient (TensorFlow Object Detection API: 0.9)."""
    optimizer_eps: float | None = None
    """Added in the divisor of Adam, AdamW and RMSProp; null: 1e-8, and 1 for RMSProp (TensorFlow Object Detection
    API)."""
    weight_decay: float = 1e-4
    """On convolution and linear weights (paper: 1e-4); biases and norms have none."""
    schedule: Literal["step", "cosine", "constant", "manual", "exponential"] = "step"
    """How the learning rate falls after warm-up; manual: as in `rates`."""
    milestones: tuple[float, ...] = (0.667, 0.889)
    """Parts of training after which `step` divides the rate by 10 (Detectron2 1x: 60k and 80k of 90k)."""
    rates: tuple[tuple[int, float], ...] = ()
    """manual: (first step, learning rate) of each part of training, the first at step 0; scaled to the batch like
    `learning_rate`."""
    decay_steps: int | None = None
    """exponential: steps in which the rate falls by `decay_factor`; cosine: the step at which it ends, with warm-up;
    null: the length of the run."""
    decay_factor: float = 0.95
    """exponential: factor on the rate every `decay_steps` (TensorFlow Object Detection API: 0.95)."""
    decay_staircase: bool = True
    """exponential: falls at once at the end of `decay_steps` (TensorFlow Object Detection API), not step by step."""
    hold_steps: int = 0
    """cosine: steps at the full rate between warm-up and the fall."""
    end_rate: float = 0.0
    """cosine, exponential: lowest learning rate."""
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
    log_images: int = 4
    """Validation images, truth beside results, that TensorBoard, W&B and MLflow get after each evaluation; and at the
    end figures of what is wrong. 0: no pictures."""
