"""Every knob, once: frozen dataclasses with a default, its unit and its reason. No torch here.

`preset(name)` returns a full `Config`; `config.replace(**{"model.rpn.nms_iou": 0.6})` returns a changed copy; there is
no inheritance and no search path. A checkpoint stores `config.to_dict()`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from maskrcnn.errors import ConfigError

VERSION = 1


@dataclass(frozen=True)
class KeypointSchema:
    """Names of the keypoints and which of them swap when an image is mirrored."""

    names: tuple[str, ...]
    """Keypoint names, in the order of the annotations."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Index pairs (left, right)."""


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
    """For `learning_rate_batch` images; scaled linearly (SGD) or by the root (AdamW) to the real batch (paper: 0.02)."""
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
    """Fractions of training at which `step` divides the rate by 10 (paper: 120k/160k; Detectron2 1x: 60k and 80k/90k)."""
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
        config = self
        for name, value in changes.items():
            config = _replace(config, name.split("."), value, name)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return _plain(dataclasses.asdict(self))

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Config:
        """The inverse of `to_dict`. Raises `ConfigError` for unknown names and wrong types."""
        return _build(Config, data, "")


# ---------------------------------------------------------------- presets


def _resnet(name: str) -> Config:
    return Config(model=ModelConfig(backbone=BackboneConfig(name=name)))


def _small(name: str, frozen_stages: int = 2) -> Config:
    """For a few hundred images and a CPU or a small GPU: light trunk, narrow heads, 512 px, AdamW, EMA."""
    return Config(
        model=ModelConfig(
            backbone=BackboneConfig(name=name, frozen_stages=frozen_stages),
            fpn=FPNConfig(channels=128),
            rpn=RPNConfig(pre_nms_train=1000, pre_nms_test=500, post_nms_train=500, post_nms_test=300),
            box=BoxHeadConfig(fully_connected_channels=512, samples_per_image=128),
            mask=MaskHeadConfig(channels=128),
        ),
        data=DataConfig(
            min_size=384,
            max_size=512,
            scale_jitter=(0.7, 1.4),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        ),
        train=TrainConfig(
            epochs=30,
            batch_size=4,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=100,
            clip_norm=1.0,
            ema_decay=0.998,
            evaluate_every=5,
        ),
    )


def _shapes() -> Config:
    """Matterport's train_shapes in minutes on two CPU cores, from random weights."""
    config = _small("resnet18", frozen_stages=0)
    return config.replace(
        **{
            "model.backbone.norm": "bn",
            "model.fpn.channels": 64,
            "model.fpn.norm": "bn",
            "model.rpn.anchors.sizes": ((16.0,), (32.0,), (64.0,), (96.0,), (128.0,)),
            "model.box.fully_connected_channels": 256,
            "model.mask.channels": 64,
            "model.mask.norm": "bn",
            "data.min_size": 128,
            "data.max_size": 128,
            "data.scale_jitter": (1.0, 1.0),
            "data.vertical_flip": 0.5,
            "train.batch_size": 8,
            "train.epochs": 6.0,
        }
    )


def _torchvision() -> Config:
    """The conventions of torchvision's `maskrcnn_resnet50_fpn`, for its weights."""
    return _resnet("resnet50").replace(
        **{
            "model.rpn.anchors.rounded": True,
            "model.rpn.anchors.stride": "grid",
            "model.rpn.post_nms_train": 2000,
            "model.box.pooler.aligned": False,
            "model.mask.pooler.aligned": False,
            "model.mask.paste": "torchvision",
            "data.interpolation": "bilinear",
            "data.size_rounding": "floor",
        }
    )


PRESETS = {
    "r18-fpn": lambda: _resnet("resnet18"),
    "r34-fpn": lambda: _resnet("resnet34"),
    "r50-fpn": lambda: _resnet("resnet50"),
    "r101-fpn": lambda: _resnet("resnet101"),
    "r152-fpn": lambda: _resnet("resnet152"),
    "x50-fpn": lambda: _resnet("resnext50_32x4d"),
    "x101-fpn": lambda: _resnet("resnext101_32x8d"),
    "small": lambda: _small("mobilenet_v2"),
    "small-efficientnet": lambda: _small("efficientnet_lite0").replace(
        **{"model.image_mean": (127.0,) * 3, "model.image_std": (128.0,) * 3}
    ),
    "shapes": _shapes,
    "torchvision-r50-fpn": _torchvision,
}


def preset(name: str) -> Config:
    """A full config by name. Raises `ConfigError` listing the names."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{_nearest(name, PRESETS)}; presets: {', '.join(PRESETS)}")
    return PRESETS[name]()


# ---------------------------------------------------------------- checks and plumbing


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


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _replace(node: Any, path: list[str], value: Any, full: str) -> Any:
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        raise ConfigError(f"{node!r} has no fields", field=full)
    names = [f.name for f in dataclasses.fields(node)]
    if path[0] not in names:
        raise ConfigError(f"unknown config key{_nearest(path[0], names)}; known here: {', '.join(names)}", field=full)
    if len(path) > 1:
        value = _replace(getattr(node, path[0]), path[1:], value, full)
    else:
        value = _convert(typing.get_type_hints(type(node))[path[0]], value, full)
    return dataclasses.replace(node, **{path[0]: value})


def _build(cls: type, data: Any, where: str) -> Any:
    """A dataclass from plain types, checked field by field."""
    if not isinstance(data, dict):
        raise ConfigError(f"expected a table of fields, got {data!r}", field=where or "config")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            name = f"{where}.{key}" if where else key
            raise ConfigError(f"unknown config key{_nearest(key, hints)}; known here: {', '.join(hints)}", field=name)
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}".strip(".")) for key, value in data.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as type `hint`, or `ConfigError`. Lists become tuples, whole floats stay floats."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _build(typing.cast(type, hint), value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{value!r} is not one of {', '.join(map(repr, args))}", field=where)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"expected a list, got {value!r}", field=where)
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"expected {len(args)} values, got {len(value)}", field=where)
        inner = args if args[-1] is not Ellipsis else [args[0]] * len(value)
        return tuple(_convert(kind, item, where) for kind, item in zip(inner, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"expected {hint.__name__}, got {value!r}", field=where)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
