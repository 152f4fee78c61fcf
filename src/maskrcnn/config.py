"""Every knob, once: frozen dataclasses with a default, its unit and its reason. No torch here.

`presets.preset(name)` returns a full `Config`; `config.replace(**{"model.rpn.nms_iou": 0.6})` returns a changed copy. A
checkpoint stores `config.to_dict()`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from maskrcnn.errors import ConfigError
from maskrcnn.fields import build, replace_field, to_plain

# ---------------------------------------------------------------- model


@dataclass(frozen=True)
class BackboneConfig:
    """The trunk."""

    name: str = "resnet50"
    """resnet18/34/50/101/152, resnext50_32x4d, resnext101_32x8d, resnext101_64x4d, mobilenet_v2, efficientnet_lite0."""
    norm: Literal["frozen_bn", "bn"] = "frozen_bn"
    """frozen_bn: statistics and scale fixed, as all peers fine-tune (batches of 1-2 images make poor statistics);
    bn: trainable, for training from scratch or large batches."""
    norm_eps: float = 1e-5
    """Added to the variance; torchvision runs its released COCO_V1 files with 0."""
    frozen_stages: int = 2
    """Stages that do not train, counted from the stem (stem = 1, res2 = 2). Detectron2 and torchvision: 2;
    0 when training from scratch."""


@dataclass(frozen=True)
class FPNConfig:
    """Feature pyramid: P2-P5 from the trunk, P6 by subsampling P5 (FPN paper, section 4)."""

    channels: int = 256
    """Width of all levels; FPN paper: 256."""
    norm: Literal["none", "bn"] = "none"
    """bn helps from scratch."""


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors, centred on the cells of each level."""

    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    """Side of a square anchor in pixels, one tuple a level P2..P6 (FPN paper: one size a level, 32..512)."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height / width (Faster R-CNN paper: 1:2, 1:1, 2:1)."""
    rounded: bool = False
    """Round corners to whole pixels, as torchvision does."""
    stride: Literal["exact", "grid"] = "exact"
    """exact: 4, 8, 16, 32, 64. grid: padded side // feature side per axis, as torchvision does (P6 differs)."""


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network."""

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    """Anchor shapes."""
    convolutions: int = 1
    """3x3 convolutions before the two predictors; paper: 1 (torchvision v2: 2)."""
    foreground_iou: float = 0.7
    """An anchor overlapping an object by at least this is positive (Faster R-CNN paper: 0.7)."""
    background_iou: float = 0.3
    """An anchor below this with every object is negative; between the two it is ignored (paper: 0.3)."""
    low_quality_matches: bool = True
    """Each object also gets the anchors that overlap it most (paper, section 3.1.2, rule i)."""
    samples_per_image: int = 256
    """Anchors in the loss (paper: 256)."""
    positive_fraction: float = 0.5
    """At most this part of the samples is positive (paper: 1:1)."""
    pre_nms_train: int = 2000
    """Proposals kept per level before NMS in training (Detectron2, torchvision: 2000)."""
    pre_nms_test: int = 1000
    """The same for prediction (Detectron2, torchvision: 1000)."""
    post_nms_train: int = 1000
    """Proposals kept after NMS in training (Detectron2: 1000; torchvision: 2000)."""
    post_nms_test: int = 1000
    """The same for prediction (paper: 1000)."""
    post_nms_across_batch: bool = False
    """Choose the best proposals over the whole batch, as Detectron did, not image by image."""
    nms_iou: float = 0.7
    """Of two proposals that overlap by more, the weaker goes (paper: 0.7)."""
    min_size: float = 1e-3
    """Proposals with a side below this many pixels are dropped (torchvision: 0.001)."""
    smooth_l1_beta: float = 1.0 / 9.0
    """Where the box loss turns from square to linear (torchvision: 1/9; Detectron2: 0, pure L1)."""
    score_loss_weight: float = 1.0
    """Weight of the objectness loss."""
    box_loss_weight: float = 1.0
    """Weight of the proposal box loss."""


@dataclass(frozen=True)
class PoolerConfig:
    """RoIAlign: how features are read out of a box (Mask R-CNN paper, section 3)."""

    resolution: int = 7
    """Cells per side."""
    sampling_ratio: int = 2
    """Samples per cell and axis (paper: 2x2); 0 adapts to the box as Detectron2 does, and is slower."""
    aligned: bool = True
    """Half-pixel-exact coordinates (Detectron2, MMDetection); torchvision: False."""


@dataclass(frozen=True)
class BoxHeadConfig:
    """Classification and box regression of each proposal."""

    pooler: PoolerConfig = field(default_factory=PoolerConfig)
    """7x7 (paper)."""
    convolutions: int = 0
    """3x3 convolutions before the fully connected layers (paper: 0; Detectron2's 4conv1fc: 4)."""
    convolution_channels: int = 256
    """Their width."""
    fully_connected: int = 2
    """Fully connected layers (FPN paper: 2; 4conv1fc: 1)."""
    fully_connected_channels: int = 1024
    """Their width (paper: 1024)."""
    norm: Literal["none", "bn"] = "none"
    """Normalisation of the convolutions."""
    class_agnostic: bool = False
    """One box for all classes instead of one for each."""
    samples_per_image: int = 512
    """Proposals in the loss (FPN paper: 512)."""
    positive_fraction: float = 0.25
    """At most this part of them is foreground (Fast R-CNN paper: 0.25)."""
    foreground_iou: float = 0.5
    """A proposal overlapping an object by at least this is foreground, any other background (paper: 0.5)."""
    add_truth: bool = True
    """Train on the true boxes as proposals too (all peers do)."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Scale of dx, dy, dw, dh (all peers: 10, 10, 5, 5)."""
    smooth_l1_beta: float = 1.0 / 9.0
    """As in the RPN."""
    score_threshold: float = 0.05
    """Weaker detections are dropped (all peers: 0.05; COCO's AP counts them)."""
    nms_iou: float = 0.5
    """Of two detections of one class that overlap by more, the weaker goes (all peers: 0.5)."""
    detections_per_image: int | None = None
    """Most detections an image; None: 100, or more when the training data has more objects in one image."""
    candidates_per_image: int = 2000
    """Detections that enter NMS, best first: keeps the shape fixed. Above the threshold there are rarely so many."""
    class_loss_weight: float = 1.0
    """Weight of the classification loss."""
    box_loss_weight: float = 1.0
    """Weight of the box loss."""


@dataclass(frozen=True)
class MaskHeadConfig:
    """The mask of each detection."""

    pooler: PoolerConfig = field(default_factory=lambda: PoolerConfig(resolution=14))
    """14x14 (paper); the mask is twice as large for each deconvolution."""
    convolutions: int = 4
    """3x3 convolutions (paper: 4)."""
    channels: int = 256
    """Their width (paper: 256)."""
    upsamplings: int = 1
    """2x2 deconvolutions: 1 gives 28x28 (paper), 2 gives 56x56."""
    norm: Literal["none", "bn"] = "none"
    """Normalisation of the convolutions."""
    class_agnostic: bool = False
    """One mask for all classes instead of one for each."""
    loss: Literal["bce", "dice", "bce+dice"] = "bce"
    """Binary cross-entropy (paper), Dice (Milletari 2016), or both weighted."""
    bce_weight: float = 1.0
    """Weight of the cross-entropy part."""
    dice_weight: float = 1.0
    """Weight of the Dice part."""
    loss_weight: float = 1.0
    """Weight of the whole mask loss (paper: 1; TensorFlow Object Detection API: 4)."""
    paste: Literal["exact", "torchvision"] = "exact"
    """exact: sample the mask at pixel centres inside the float box (Detectron2, MMDetection); torchvision: pad by one
    cell, grow the box, cut it to whole pixels."""
    threshold: float = 0.5
    """A pixel belongs to the object from this probability on (paper: 0.5)."""
    soft_targets: bool = False
    """Train on the covered fraction of each cell instead of 0 or 1."""


@dataclass(frozen=True)
class ModelConfig:
    """The network. The number of classes comes from the data, never from here."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Trunk."""
    fpn: FPNConfig = field(default_factory=FPNConfig)
    """Pyramid."""
    rpn: RPNConfig = field(default_factory=RPNConfig)
    """Proposals."""
    box: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    """Box head."""
    mask: MaskHeadConfig | None = field(default_factory=MaskHeadConfig)
    """Mask head; None: boxes only (Faster R-CNN)."""
    image_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """Subtracted from each channel (ImageNet, RGB, 0..255)."""
    image_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    """Divides each channel."""


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class DataConfig:
    """From the file to the padded input tensor."""

    resize: Literal["short", "square"] = "short"
    """short: short side to `min_size`, long side at most `max_size`; square: long side to `max_size`, padded square."""
    min_size: int = 800
    """Short side in pixels (all peers: 800)."""
    max_size: int = 1333
    """Longest long side in pixels (all peers: 1333)."""
    interpolation: Literal["antialias", "bilinear"] = "antialias"
    """antialias: bilinear with a filter on shrinking, rounded to uint8 (Detectron2's Pillow); bilinear: none, kept as
    float (torchvision)."""
    size_rounding: Literal["nearest", "floor"] = "nearest"
    """How a scaled side becomes whole: nearest (Detectron2, MMDetection) or floor (torchvision)."""
    pad_multiple: int = 32
    """Padded sides are multiples of this (P5 has stride 32; all peers: 32)."""
    size_buckets: int = 4
    """At most this many padded sizes in a run; each is one compiled graph."""
    count_buckets: int = 2
    """At most this many padded object counts in a run."""
    horizontal_flip: float = 0.5
    """Probability of mirroring left-right (all peers: 0.5)."""
    vertical_flip: float = 0.0
    """Probability of mirroring top-bottom; 0.5 suits microscopes and satellites."""
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    """Random factor on the size, uniform in log scale; large-scale jitter: 0.1-2.0."""
    crop: float = 0.0
    """Probability of cutting a random window of 50-100 % of each side before resizing."""
    brightness: float = 0.0
    """Brightness factor is drawn from 1 +- this."""
    contrast: float = 0.0
    """Contrast factor is drawn from 1 +- this."""
    saturation: float = 0.0
    """Saturation factor is drawn from 1 +- this."""
    hue: float = 0.0
    """Hue is shifted by at most this part of the colour circle, 0..0.5."""
    mask_size: int = 112
    """Cells per side of the box-local truth masks: 4 times the 28x28 target."""
    min_box_side: float = 1.0
    """After cropping, boxes with a side below this many input pixels are dropped."""
    workers: int = 2
    """Loader processes; 0 loads in the training process."""


# ---------------------------------------------------------------- training


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


@dataclass(frozen=True)
class Config:
    """Everything a run needs apart from data and classes."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Network."""
    data: DataConfig = field(default_factory=DataConfig)
    """Input."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Schedule."""

    def __post_init__(self) -> None:
        check(self)

    def replace(self, **changes: Any) -> Config:
        """A copy with dotted fields changed: `config.replace(**{"train.batch_size": 4})`.

        A whole part may be given too (`model=...`). Raises `ConfigError` for an unknown name, with the nearest known.
        """
        # A stand-in without cross-field checks: they look at the result, not at each change.
        draft = _Draft(self.model, self.data, self.train)
        for name, value in changes.items():
            draft = replace_field(draft, name.split("."), value, name)
        return Config(draft.model, draft.data, draft.train)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return to_plain(dataclasses.asdict(self))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Config:
        """The inverse of `to_dict`. Raises `ConfigError` for unknown names and wrong types."""
        return build(Config, data, "")


@dataclass(frozen=True)
class _Draft:
    model: ModelConfig
    data: DataConfig
    train: TrainConfig


# ---------------------------------------------------------------- checks


def check(config: Config) -> None:
    """Cross-field checks. Raises `ConfigError` naming the field and the remedy."""
    rpn, data, train = config.model.rpn, config.data, config.train
    rules = [
        (0 <= rpn.background_iou <= rpn.foreground_iou <= 1, "model.rpn.background_iou",
         f"{rpn.background_iou} must lie between 0 and model.rpn.foreground_iou = {rpn.foreground_iou}"),
        (len(rpn.anchors.sizes) == 5, "model.rpn.anchors.sizes",
         f"has {len(rpn.anchors.sizes)} levels; give one tuple for each of P2, P3, P4, P5, P6"),
        (len({len(s) for s in rpn.anchors.sizes}) == 1, "model.rpn.anchors.sizes",
         "needs the same number of sizes on each level, because the RPN is shared by the levels"),
        (len(config.model.image_mean) == len(config.model.image_std), "model.image_std",
         f"has {len(config.model.image_std)} channels but model.image_mean {len(config.model.image_mean)}"),
        (all(std > 0 for std in config.model.image_std), "model.image_std", "must be positive"),
        (0 < data.min_size <= data.max_size, "data.min_size",
         f"{data.min_size} must be positive and at most data.max_size = {data.max_size}"),
        (data.pad_multiple % 32 == 0 and data.pad_multiple > 0, "data.pad_multiple",
         f"{data.pad_multiple} must be a multiple of 32, the stride of P5"),
        (data.size_buckets > 0 and data.count_buckets > 0, "data.size_buckets", "buckets must be at least 1"),
        (data.size_buckets * data.count_buckets <= 8, "data.size_buckets",
         f"{data.size_buckets} x data.count_buckets {data.count_buckets} must be at most 8 shapes in a run"),
        (0 < data.scale_jitter[0] <= data.scale_jitter[1], "data.scale_jitter",
         f"{data.scale_jitter} must be (low, high) with 0 < low <= high"),
        (train.batch_size > 0 and train.accumulate > 0, "train.batch_size", "must be positive"),
        (train.batch_size % max(train.accumulate, 1) == 0, "train.accumulate",
         f"{train.accumulate} must divide train.batch_size = {train.batch_size}"),
        (train.learning_rate > 0, "train.learning_rate", f"{train.learning_rate} must be positive"),
        (0 <= train.ema_decay < 1, "train.ema_decay", f"{train.ema_decay} must lie in [0, 1)"),
        ((train.steps or 1) > 0 and train.epochs > 0, "train.epochs", "must be positive"),
    ]  # fmt: skip
    for good, name, message in rules:
        if not good:
            raise ConfigError(message, field=name)
