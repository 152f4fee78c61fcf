"""Before the first step: open the data, fit the config to it, load weights, choose devices, put the plan in words."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import accelerate
import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from maskrcnn.config import Config, DataConfig, ModelConfig, TrainConfig
from maskrcnn.data.open import open_dataset
from maskrcnn.data.sample import usual_channels
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError, TrainingError, WeightsError
from maskrcnn.model.backbones import load_backbone, preprocessing
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.training.optim import scaled_rate, warmup_steps
from maskrcnn.weights.remap import transfer
from maskrcnn.weights.start import explain, newest_run, read_start, trunk_state


def open_data(train: Dataset | str | Path, val: Dataset | str | Path | None) -> tuple[Dataset, Dataset | None]:
    """The training and the validation part; a data set with splits `train` and `val` brings both.

    Raises:
        DataError: no images.
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
    return train, val if val else None


def check_classes(train: Dataset, val: Dataset) -> list[str]:
    """A line on classes that only `val` has: evaluation matches by name. Raises `DataError` when none are in common."""
    unknown = [name for name in val.classes if name not in train.classes]
    if len(unknown) == len(val.classes):
        raise DataError(
            f"no class in common with the training data: it has {', '.join(val.classes)}, the training data "
            f"{', '.join(train.classes)}; rename the classes of one of them",
            path=val.name or None,
        )
    return [f"warning: no training data for {', '.join(unknown)}: never found in the validation"] if unknown else []


def resolve(config: Config, dataset: Dataset) -> tuple[Config, list[str]]:
    """The config with what only the data can tell, and a line for each change.

    Raises:
        ConfigError: `train.monitor` asks for masks that the data or the model does not have.
    """
    lines = []
    channels = usual_channels(dataset.records) if config.data.pixels == "raw" else None
    if channels not in (None, len(config.model.image_mean)):
        raise ConfigError(
            f"{len(config.model.image_mean)} numbers, but the images have {channels} channels; give one a "
            "channel, or leave it to `maskrcnn train`, which measures them",
            field="model.image_mean",
        )
    if config.model.mask and not dataset.has_masks:
        config = config.replace(**{"model.mask": None})
        lines.append("no masks in the data: training boxes only (model.mask None)")
    if config.model.keypoint is None and dataset.keypoints is not None:
        lines.append("the data has keypoints, the model no head for them (model.keypoint null): they are not learned")
    if config.model.mask is None and config.train.monitor == "mask":
        raise ConfigError("'mask', but there is no mask head; use box or auto", field="train.monitor")
    if config.model.box.detections_per_image is None:
        most = int(dataset.table.counts.max(initial=0))
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
    wanted = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun and accelerate launch
    distributed = wanted > 1
    # Accelerate joins processes without CUDA only when told that they are on CPUs.
    on_cpu = kind == "cpu" or (kind == "auto" and not torch.cuda.is_available() and (distributed or not present["mps"]))
    AcceleratorState._reset_state(reset_partial_state=not distributed)  # an earlier run may have had another device
    # Precision is not Accelerate's: it would replace the model's `forward`, which then misleads copies of the model.
    accelerator = accelerate.Accelerator(
        cpu=on_cpu, mixed_precision="no", log_with=list(options.trackers) or None, project_dir=out
    )
    if accelerator.num_processes != wanted:
        raise TrainingError(
            f"--device {device}: {wanted} processes were started but do not find each other; use --device cpu or cuda"
        )
    parts = accelerator.num_processes * options.accumulate
    if options.batch_size % parts:
        raise ConfigError(
            f"{options.batch_size} does not divide over {accelerator.num_processes} processes times train.accumulate "
            f"{options.accumulate}; use a multiple of {parts}",
            field="train.batch_size",
        )
    return accelerator


def launch_notes() -> list[str]:
    """A line where `accelerate launch --cpu --num_processes N` started one process, as it quietly does without MPI."""
    started_by_accelerate = "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ
    if started_by_accelerate and "WORLD_SIZE" not in os.environ:
        return ["warning: accelerate launch --cpu has started one process; use torchrun --nproc_per_node N for more"]
    return []


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


def initial_model(
    config: Config,
    dataset: Dataset,
    weights: str | Path | None,
    out: Path,
    weights_config: str | Path | None = None,
) -> tuple[MaskRCNN, str]:
    """The network before the first step, and a sentence about where its weights come from.

    Args:
        weights: None for random ones; a file with the weights of a trunk; a run, checkpoint or detector, of whatever
            framework `load_weights` reads, or TensorFlow's ImageNet trunk; or "last", the newest run beside `out`.
        weights_config: the config file of a detector of another framework, where that does not lie beside it.

    Raises:
        WeightsError: nothing there, or a file of an unknown kind.
        ConfigError: a keypoint head, but data without keypoints.
    """
    if config.model.keypoint is not None and dataset.keypoints is None:
        raise ConfigError("the data set has no keypoints; set it to null", field="model.keypoint")
    model = build_model(
        config.model,
        classes=dataset.classes,
        category_ids=dataset.category_ids,
        data=config.data,
        seed=config.train.seed,
        keypoints=dataset.keypoints,
    )
    if weights is None:
        return model, "weights: random"
    path = newest_run(out) if str(weights) == "last" else weights
    labels = dict(zip(dataset.category_ids, dataset.classes, strict=True))
    start = read_start(path, config.model, labels, config=weights_config)
    if start is None:
        return model, _load_trunk(model, Path(path))
    lines = [_transferred(model, start.state, start.classes), f"from {path}", *start.notes]
    if model.keypoint_head is not None and start.keypoints not in (None, dataset.keypoints):
        lines.append("note: the keypoints have other names in these weights: they are taken by their order")
    return model, "\n  ".join(lines)


def _load_trunk(model: MaskRCNN, path: Path) -> str:
    """The sentence about it. Raises `WeightsError` for what is no trunk, by the name of its family where it has one."""
    found = trunk_state(path)
    note = _preprocessing_note(model.config) if found is None else f"\n  {found[1]}" if found[1] else ""
    try:
        loaded = load_backbone(model.backbone, path, model.stage_two, state=found and found[0])
    except WeightsError as error:
        raise explain(path, error) from error
    return f"weights: random but for the trunk; {loaded}{note}"


def _transferred(model: MaskRCNN, state: Mapping[str, Tensor], classes: Sequence[str]) -> str:
    """What `transfer` did, with a warning where most of it did not fit."""
    done = transfer(model, state, classes)
    fitting = len(done.copied) + len(done.remapped)
    if fitting >= len(done.dropped):
        return str(done)
    backbone = model.config.backbone
    return (
        f"{done}\n  warning: only {fitting} of {fitting + len(done.dropped)} tensors fit: these weights are probably "
        f"of another trunk or width than {backbone.name}, model.backbone.width {backbone.width:g}"
    )


def compile_network(model: MaskRCNN, data: DataConfig) -> None:
    """Have `model` compiled in place, one graph for each padded shape of the run, at its first batch of that shape.

    The compiler gives up after 8 graphs; a run with more shapes, or whose micro-batch shrinks when memory runs out,
    needs more.
    """
    import torch._dynamo

    shapes = data.size_buckets * data.count_buckets
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * shapes)
    model.compile(fullgraph=True, dynamic=False)


def _preprocessing_note(config: ModelConfig) -> str:
    """A warning where images are normalised otherwise than when the trunk was trained; else nothing."""
    mean, std = preprocessing(config.backbone.name)
    if len(config.image_mean) != len(mean):  # inflated for other channels: their statistics are the data's
        return ""
    if (config.image_mean, config.image_std) == (mean, std):
        return ""
    return (
        f"\n  warning: {config.backbone.name} was trained with model.image_mean {list(mean)} and model.image_std "
        f"{list(std)}, not {list(config.image_mean)} and {list(config.image_std)}"
    )


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
