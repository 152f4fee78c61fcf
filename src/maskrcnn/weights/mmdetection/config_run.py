"""The rest of a config of MMDetection: preprocessing, optimiser and schedule -> fields of our config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from maskrcnn.weights.mmdetection.part import Part

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
BACKENDS = {"None": "opencv", "cv2": "opencv", "pillow": "pillow"}


def data_fields(file: Part) -> tuple[dict[str, Any], bool]:
    """Fields of `model.image_*` and `data`, in RGB, and whether the network takes BGR."""
    steps = list(_steps(_pipeline(file)))
    before = file.part("model").part("data_preprocessor")
    mean, std, bgr = _colours(before, steps)
    pads = [step for step in steps if _kind(step) == "Pad"]
    multiple = before.whole("pad_size_divisor", 1) if before.values else 32
    if pads and pads[0].get("size_divisor") is not None:
        multiple = pads[0].whole("size_divisor")
    return {
        "model.image_mean": mean[::-1] if bgr else mean,
        "model.image_std": std[::-1] if bgr else std,
        "data.pad_multiple": multiple,
        **_size(steps),
        **_flip(file),
    }, bgr


def train_fields(file: Part, notes: list[str]) -> dict[str, Any]:
    """Fields of `train`. What cannot be said here is left at our default and noted."""
    wrapper = file.part("optim_wrapper")
    optimiser = wrapper.part("optimizer") if wrapper.values else file.part("optimizer")
    found: dict[str, Any] = {}
    kind = str(optimiser.get("type", "SGD"))
    if kind in ("SGD", "AdamW", "Adam"):
        found["train.optimizer"] = kind.lower()
    else:
        notes.append(f"{optimiser.path} {kind} is not here, training uses SGD")
    if optimiser.get("lr") is not None:
        found["train.learning_rate"] = float(optimiser.number("lr"))
        found["train.learning_rate_batch"] = file.part("auto_scale_lr").whole("base_batch_size", 16)
    if optimiser.get("momentum") is not None:
        found["train.momentum"] = float(optimiser.number("momentum"))
    found["train.weight_decay"] = float(optimiser.number("weight_decay", 1e-4))
    clip = wrapper.part("clip_grad") if wrapper.values else file.part("optimizer_config").part("grad_clip")
    found["train.clip_norm"] = float(clip.number("max_norm", 0.0))
    return found | _schedule(file)


# ---------------------------------------------------------------- preprocessing


def _pipeline(file: Part) -> Part:
    """The part that has the list `pipeline` of the test data; an empty one where there is none."""
    for outer, inner in (("test_dataloader", "dataset"), ("val_dataloader", "dataset"), ("data", "test")):
        if isinstance(file.values.get(outer), Mapping):
            part = file.part(outer).part(inner)
            while isinstance(part.values.get("dataset"), Mapping):  # a data set in a wrapper
                part = part.part("dataset")
            if part.values.get("pipeline"):
                return part
    return Part({"pipeline": file.get("test_pipeline") or []}, "test_pipeline", file.where)


def _steps(part: Part, name: str = "pipeline", depth: int = 0) -> Iterator[Part]:
    """The steps of a pipeline, those inside of others too."""
    listed = part.get(name)
    if not isinstance(listed, (list, tuple)) or depth > 5:
        return
    for i, item in enumerate(listed):
        if isinstance(item, Mapping):
            step = Part(item, f"{part.field(name)}[{i}]", part.where)
            yield step
            yield from _steps(step, "transforms", depth + 1)


def _kind(step: Part) -> str:
    return str(step.get("type")).rpartition(".")[2]


def _colours(before: Part, steps: list[Part]) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean, deviation and whether they are in BGR: of the model (3.x), or of a step (2.x)."""
    mean, std = IMAGENET
    if before.values:
        colours = before.numbers("mean", mean, 3), before.numbers("std", std, 3)
        return *colours, not before.get("bgr_to_rgb", False) and not before.get("rgb_to_bgr", False)
    for step in steps:
        if _kind(step) == "Normalize":
            return step.numbers("mean", None, 3), step.numbers("std", None, 3), not step.get("to_rgb", True)
    return mean, std, False


def _size(steps: list[Part]) -> dict[str, Any]:
    resize = next((step for step in steps if _kind(step) == "Resize"), None)
    outer = next((step for step in steps if step.get("img_scale") is not None), None)
    holder, name = (outer, "img_scale") if outer is not None else (resize, "scale")
    if holder is None:
        return {"data.interpolation": "opencv"}
    scale = holder.get(name)
    if isinstance(scale, (list, tuple)) and len(scale) == 1 and isinstance(scale[0], (list, tuple)):
        scale = scale[0]
    if not isinstance(scale, (list, tuple)) or len(scale) != 2 or not all(type(side) is int for side in scale):
        raise holder.error(name, f"{scale!r:.60} is no pair of whole numbers; give one size for testing")
    found: dict[str, Any] = {"data.min_size": min(scale), "data.max_size": max(scale)}
    if resize is not None:
        resize.only(interpolation="bilinear")
        found["data.interpolation"] = BACKENDS.get(str(resize.get("backend")), "opencv")
        if not resize.get("keep_ratio", name == "img_scale"):
            found |= {"data.resize": "fixed", "data.min_size": scale[1], "data.max_size": scale[0]}
    return found


def _flip(file: Part) -> dict[str, Any]:
    for part in (file.part("train_dataloader").part("dataset"), file.part("data").part("train"), file):
        name = "train_pipeline" if part is file else "pipeline"
        for step in _steps(part, name):
            value = step.get("prob", step.get("flip_ratio"))
            if _kind(step) == "RandomFlip" and isinstance(value, (int, float)):
                return {"data.horizontal_flip": float(value)}
    return {}


# ---------------------------------------------------------------- schedule


def _schedule(file: Part) -> dict[str, Any]:
    found: dict[str, Any] = {}
    loop = file.part("train_cfg") if file.get("train_cfg") is not None else file.part("runner")
    epochs = loop.get("max_epochs", file.get("total_epochs"))
    if isinstance(epochs, int) and epochs > 0:
        found["train.epochs"] = float(epochs)
    if isinstance(loop.get("max_iters"), int):
        found["train.steps"] = loop.whole("max_iters")
    length = found.get("train.steps") or found.get("train.epochs")
    loader = file.part("train_dataloader") if file.get("train_dataloader") is not None else file.part("data")
    per_device = loader.get("batch_size", loader.get("samples_per_gpu"))
    if isinstance(per_device, int) and per_device > 0:
        found["train.batch_size"] = per_device
    for step in _steps(file, "param_scheduler"):
        found |= _scheduler(step, length)
    if (old := file.part("lr_config")).values and old.get("policy") == "step" and length:
        milestones = old.get("step")
        found |= _milestones(milestones if isinstance(milestones, (list, tuple)) else [milestones], length)
        found |= _warm_up(old.get("warmup_iters"), old.get("warmup_ratio"))
    return found


def _scheduler(step: Part, length: float | None) -> dict[str, Any]:
    """One entry of 3.x's list."""
    kind = _kind(step)
    if kind == "LinearLR" and not step.get("by_epoch", True):
        return _warm_up(step.get("end"), step.get("start_factor"))
    if kind == "MultiStepLR" and length:
        return _milestones(step.get("milestones") or [], length)
    return {"train.schedule": "cosine"} if kind == "CosineAnnealingLR" else {}


def _milestones(steps: Any, length: float) -> dict[str, Any]:
    if not isinstance(steps, (list, tuple)) or not all(isinstance(step, int) for step in steps):
        return {}
    return {"train.schedule": "step", "train.milestones": tuple(min(step / length, 1.0) for step in steps)}


def _warm_up(steps: Any, factor: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(steps, int):
        found["train.warmup_steps"] = steps
    if isinstance(factor, (int, float)):
        found["train.warmup_factor"] = float(factor)
    return found
