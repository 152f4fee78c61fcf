"""Before the first step: open the data, fit the config to it, load weights, choose devices, put the plan in words."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import accelerate
import numpy as np
import torch
from accelerate.state import AcceleratorState

from maskrcnn.config import Config, TrainConfig
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import ConfigError, DataError, TrainingError, WeightsError
from maskrcnn.model.backbones import load_backbone
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.structures import Dataset
from maskrcnn.training.optim import scaled_rate, warmup_steps
from maskrcnn.weights.load import find_checkpoint
from maskrcnn.weights.native import read_model
from maskrcnn.weights.remap import transfer


def open_data(train: Dataset | str | Path, val: Dataset | str | Path | None) -> tuple[Dataset, Dataset | None]:
    """The training and the validation part; a data set with splits `train` and `val` brings both.

    Raises:
        DataError: no images, or classes in `val` that `train` does not know.
    """
    train = train if isinstance(train, Dataset) else open_dataset(train)
    val = val if isinstance(val, Dataset) or val is None else open_dataset(val)
    if val is None and "val" in train.splits:
        val = train.split("val")
    elif val is not None and "val" in val.splits:
        val = val.split("val")
    if "train" in train.splits:
        train = train.split("train")
    if not len(train):
        raise DataError("no images to train on", path=train.name or None)
    return train, None if val is None or not len(val) else align_classes(val, train)


def align_classes(dataset: Dataset, reference: Dataset) -> Dataset:
    """`dataset` with the labels of `reference`, matched by class name. Raises `DataError` for a class it lacks."""
    if dataset.classes == reference.classes:
        return dataset
    counts = dataset.class_counts()
    used = [name for name, count in zip(dataset.classes, counts, strict=True) if count]
    unknown = [name for name in used if name not in reference.classes]
    if unknown:
        raise DataError(
            f"class {unknown[0]!r} is not among those of the training data: {', '.join(reference.classes)}; "
            "add training examples or rename it",
            path=dataset.name or None,
        )
    known = {name: label for label, name in enumerate(reference.classes)}
    table = np.array([known.get(name, 0) for name in dataset.classes], np.int64)
    records = [replace(record, labels=table[record.labels]) for record in dataset.records]
    return replace(dataset, records=records, classes=reference.classes, category_ids=reference.category_ids)


def resolve(config: Config, dataset: Dataset) -> tuple[Config, list[str]]:
    """The config with what only the data can tell, and a line for each change.

    Raises:
        ConfigError: `train.monitor` asks for masks that the data or the model does not have.
    """
    lines = []
    if config.model.mask and not any(record.masks for record in dataset.records):
        config = config.replace(**{"model.mask": None})
        lines.append("no masks in the data: training boxes only (model.mask None)")
    if config.model.mask is None and config.train.monitor == "mask":
        raise ConfigError("'mask', but there is no mask head; use box or auto", field="train.monitor")
    if config.model.box.detections_per_image is None:
        most = max(len(record) for record in dataset.records)
        config = config.replace(**{"model.box.detections_per_image": max(100, most)})
        if most > 100:
            lines.append(f"up to {most} objects in one image: model.box.detections_per_image {most}")
    return config, lines


def make_accelerator(options: TrainConfig, out: Path, device: str) -> accelerate.Accelerator:
    """Device, ranks and trackers.

    Raises:
        TrainingError: the device is not there.
        ConfigError: an unknown tracker or one that is not installed; a batch that does not divide over the processes.
    """
    kind = device.partition(":")[0]
    present = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in present:
        raise TrainingError(f"--device {device}: unknown; use auto, cpu, cuda, cuda:1 or mps")
    if not present[kind]:
        raise TrainingError(f"--device {device}: not available on this machine; use --device auto or cpu")
    if kind == "cuda" and ":" in device:
        torch.cuda.set_device(device)  # Accelerate takes the current device of a single process
    for tracker in options.trackers:
        _check_tracker(tracker)
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    AcceleratorState._reset_state(reset_partial_state=not distributed)  # an earlier run may have had another device
    # Precision is not Accelerate's: it would replace the model's `forward`, which then misleads copies of the model.
    accelerator = accelerate.Accelerator(
        cpu=kind == "cpu", mixed_precision="no", log_with=list(options.trackers) or None, project_dir=out
    )
    parts = accelerator.num_processes * options.accumulate
    if options.batch_size % parts:
        raise ConfigError(
            f"{options.batch_size} does not divide over {accelerator.num_processes} processes times train.accumulate "
            f"{options.accumulate}; use a multiple of {parts}",
            field="train.batch_size",
        )
    return accelerator


def _check_tracker(name: str) -> None:
    known = [str(kind) for kind in accelerate.utils.LoggerType if str(kind) != "all"]
    if name not in known:
        raise ConfigError(f"unknown tracker {name!r}; known: {', '.join(known)}", field="train.trackers")
    if not importlib.util.find_spec(name):
        raise ConfigError(f"{name} is not installed; pip install {name}, or leave it out", field="train.trackers")


def check_new(out: Path) -> None:
    """Raises `TrainingError` when a new run would mix with what is already in `out`."""
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out}: is a file; choose another folder with --out")
    if out.is_dir() and any(out.iterdir()):
        raise TrainingError(f"{out}: not empty; continue that run with --resume or choose another folder with --out")


def initial_model(config: Config, dataset: Dataset, weights: str | Path | None, out: Path) -> tuple[MaskRCNN, str]:
    """The network before the first step, and a sentence about where its weights come from.

    Args:
        weights: None for random ones; an ImageNet trunk file; a run folder or checkpoint; a torchvision detector; or
            "last", the newest run beside `out`.

    Raises:
        WeightsError: nothing there, or a file of an unknown kind.
    """
    model = build_model(
        config.model,
        classes=dataset.classes,
        category_ids=dataset.category_ids,
        data=config.data,
        seed=config.train.seed,
    )
    model.keypoints = dataset.keypoints
    if weights is None:
        return model, "weights: random"
    path = newest_run(out) if str(weights) == "last" else Path(weights)
    if path.is_file() and path.suffix in (".pth", ".pt", ".safetensors") and not (path.parent / "model.json").exists():
        if path.suffix == ".safetensors" or not _is_detector(path):
            load_backbone(model.backbone, path)
            return model, f"weights: trunk from {path}, the rest random"
        from maskrcnn.weights.torchvision import load_torchvision

        source = load_torchvision(path)
        return model, f"{transfer(model, source.state_dict(), source.classes)}\n  from {path}"
    path = find_checkpoint(path)
    state, _, header = read_model(path)
    return model, f"{transfer(model, state, header['classes'])}\n  from {path}"


def newest_run(out: Path) -> Path:
    """The run beside `out` that saved last. Raises `WeightsError` when there is none."""
    headers = [path for path in out.parent.glob("*/checkpoints/last/model.json") if out not in path.parents]
    if not headers:
        raise WeightsError(f"{out.parent}: no earlier run to take the last weights from; give a path with --weights")
    return max(headers, key=lambda path: path.stat().st_mtime).parents[2]


def _is_detector(path: Path) -> bool:
    """Whether a .pth holds a torchvision detector and not a bare trunk."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds, from zip to unpickling errors
        raise WeightsError(f"{path}: not a weight file that torch can read: {error}; copy it again") from error
    content = content.get("model", content) if isinstance(content, dict) else {}
    return any(str(name).startswith(("roi_heads.", "rpn.")) for name in content)


def plan(
    config: Config,
    dataset: Dataset,
    val: Dataset | None,
    model: MaskRCNN,
    *,
    device: str,
    processes: int,
    steps_per_epoch: int,
    total_steps: int | None,
) -> str:
    """What will happen, in a few lines."""
    options, data = config.train, config.data
    counts = dataset.class_counts()
    order = np.argsort(-counts, kind="stable")
    histogram = ", ".join(f"{dataset.classes[i]} {counts[i]}" for i in order[:12])
    histogram += f", and {len(order) - 12} more" if len(order) > 12 else ""
    if total_steps is None:
        length = f"as many steps as fit in {options.minutes:g} minutes"
    else:
        length = f"{total_steps} steps, {total_steps / steps_per_epoch:.1f} epochs"
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    micro = options.batch_size // (options.accumulate * processes)
    accumulated = f" ({processes} processes x {options.accumulate} micro-batches x {micro})"
    side = f"short side {data.min_size}, long side at most {data.max_size}"
    return "\n".join(
        [
            f"data: {len(dataset)} images, {int(counts.sum())} objects; validation: {len(val) if val else 0} images",
            f"classes ({len(counts)}): {histogram}",
            f"input: {side if data.resize == 'short' else f'square {data.max_size}'}, "
            f"at most {data.size_buckets * data.count_buckets} shapes",
            f"schedule: {length}, {steps_per_epoch} steps an epoch; batch {options.batch_size}"
            + (accumulated if processes * options.accumulate > 1 else ""),
            f"optimiser: {options.optimizer}, learning rate {scaled_rate(options):.3g} after "
            f"{warmup_steps(options, total_steps)} warm-up steps, {options.schedule}"
            + (f"; averaged weights {options.ema_decay}" if options.ema_decay else ""),
            f"model: {config.model.backbone.name}, {trainable / 1e6:.1f} of {everything / 1e6:.1f} M parameters train",
            f"device: {device}, {options.precision}" + (", compiled" if options.compile else ""),
        ]
    )
