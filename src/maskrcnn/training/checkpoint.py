"""What a run leaves on the disk: `checkpoints/last` to go on from, `best`, and numbered ones if asked for.

`last` holds, beside the model, `state.safetensors` (optimiser, and the raw weights where the model is an average) and
`state.json`. No random state: sample order, augmentation and sampling noise are functions of seed, epoch and index.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn.config import Config
from maskrcnn.dataset import Dataset
from maskrcnn.errors import TrainingError, WeightsError
from maskrcnn.training.ema import EMA
from maskrcnn.training.optim import may_go_on
from maskrcnn.weights.folder import current_folder, replace_folder, write_json, write_tensors
from maskrcnn.weights.native import (
    HEADER,
    TENSORS,
    load_state,
    read_json,
    read_model,
    read_tensors,
    save_model,
    write_model,
)

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

# Fields that may change at a resume because no weight depends on them.
FREE_FIELDS = {
    "train.evaluate_every",
    "train.log_every",
    "train.save_every",
    "train.keep_checkpoints",
    "train.trackers",
    "train.log_images",
    "data.workers",
}

LENGTH_FIELDS = {"train.steps", "train.epochs"}
"""May change where the learning rate of a step does not depend on the length of the run."""


@dataclass
class State:
    """Where a run is.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the data begun.
        finished: the schedule, or early stopping, has ended the run.
        accumulate: micro-batches a step; more than configured after the memory ran out.
        seconds: wall-clock time used, over all sessions.
        best: best monitored AP, and `best_step` its step.
        stale: evaluations since then.
        metrics: of the last evaluation.
        data: fingerprint of the training data.
        pending: the step whose evaluation is not scored yet; 0: none. A resumed run evaluates those weights again.
    """

    step: int = 0
    epoch: int = 0
    finished: bool = False
    accumulate: int = 1
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    metrics: dict[str, Any] | None = None
    data: str = ""
    pending: int = 0


def save_last(
    out: Path, *, model: MaskRCNN, ema: EMA | None, optimizer: torch.optim.Optimizer, state: State, config: Config
) -> Path:
    """Write `checkpoints/last`, atomically, and a numbered one where wanted. Raises `TrainingError` on a full disk."""
    average = ema.model if ema else model
    extra = {"step": state.step, "epoch": state.epoch}

    def write(folder: Path) -> None:
        write_model(average, folder, config=config, metrics=state.metrics, extra=extra)
        tensors = _optimizer_tensors(optimizer, model)
        if ema:
            tensors |= {f"weights.{name}": tensor for name, tensor in model.state_dict().items()}
        write_tensors(tensors, folder / "state.safetensors")
        write_json(asdict(state), folder / "state.json")

    folder = replace_folder(out / "checkpoints" / "last", write)
    if config.train.keep_checkpoints:
        numbered = out / "checkpoints" / f"step-{state.step:06d}"
        save_model(average, numbered, config=config, metrics=state.metrics, extra=extra)
        _prune(out / "checkpoints", config.train.keep_checkpoints)
    return folder


def save_best(
    out: Path,
    *,
    model: MaskRCNN,
    state: State,
    config: Config,
    tensors: Mapping[str, Tensor] | None = None,
    step: int | None = None,
    epoch: int | None = None,
) -> Path:
    """Write `checkpoints/best`, atomically: the weights that were evaluated. Raises `TrainingError` on a full disk.

    `tensors` are those weights, of `step` and `epoch`, where training went on meanwhile; None: the model's own, now.
    """
    place = {"step": state.step if step is None else step, "epoch": state.epoch if epoch is None else epoch}
    folder = out / "checkpoints" / "best"
    return save_model(model, folder, config=config, metrics=state.metrics, extra=place, tensors=tensors)


def note_score(out: Path, state: State, step: int) -> None:
    """Tell `checkpoints/last` the score of its weights, where those of `step` are still there and wait for it.

    Raises `TrainingError` on a full disk.
    """
    folder = current_folder(out / "checkpoints" / "last")
    if not (folder / "state.json").is_file():
        return
    saved = read_json(folder / "state.json")
    if saved["step"] != step:
        return
    known = {name: getattr(state, name) for name in ("best", "best_step", "stale", "metrics")}
    header = read_json(folder / HEADER) | {"metrics": state.metrics}
    for name, content in ((HEADER, header), ("state.json", saved | known | {"pending": 0})):  # the state is the last
        try:
            write_json(content, folder / f"{name}.part")
            os.replace(folder / f"{name}.part", folder / name)
        except OSError as error:
            raise TrainingError(
                f"{folder}: cannot write: {error.strerror or error}; the checkpoint is intact; free some space and go "
                "on with --resume"
            ) from error


def check_resume(out: Path, config: Config, dataset: Dataset) -> State:
    """The state to go on from, if this run may go on.

    Raises:
        TrainingError: nothing there, finished, or another config, data set or classes than before. A run may get
            another length where its schedule counts in steps, a finished one too.
        WeightsError: a damaged checkpoint.
    """
    folder = current_folder(out / "checkpoints" / "last")
    if not (folder / "state.json").is_file():
        raise TrainingError(f"{out}: nothing to resume: no checkpoint in {folder}; leave --resume out to start")
    header = read_json(folder / HEADER)
    try:
        state = State(**read_json(folder / "state.json"))
        saved, classes = header["config"], tuple(header["classes"])
    except (TypeError, KeyError) as error:
        raise WeightsError(f"{folder}: state.json or model.json misses an entry: {error}; start a new run") from error
    if classes != dataset.classes:
        raise TrainingError(
            f"{out}: the checkpoint knows the classes {', '.join(classes)}, but {dataset.name or 'the data'} has "
            f"{', '.join(dataset.classes)}; to fine-tune on other classes start a new --out with --weights {folder}"
        )
    changes = _changes(saved, config.to_dict())
    if changes.keys() - LENGTH_FIELDS:
        raise TrainingError(
            f"{out}: cannot resume with another config: {'; '.join(changes.values())}; "
            f"take the old values, or start a new --out with --weights {folder}"
        )
    if state.data != fingerprint(dataset):
        raise TrainingError(
            f"{out}: the training data {dataset.name} changed since the run began; restore it, or start a new --out "
            f"with --weights {folder}"
        )
    more = bool(changes or state.finished) and may_go_on(Config.from_dict(saved).train, config.train)
    if changes and not more:
        raise TrainingError(
            f"{out}: cannot go on with another length: {'; '.join(changes.values())}, but the learning rate is fitted "
            f"to the length of the run (train.schedule {config.train.schedule}); start a new --out with --weights "
            f"{folder}"
        )
    if state.finished and not changes:
        how = "give more train.steps" if more else f"start a new --out with --weights {folder}"
        raise TrainingError(f"{out}: this run is finished ({state.step} steps); to train longer {how}")
    state.finished = False
    return state


def restore(out: Path, *, model: MaskRCNN, ema: EMA | None, optimizer: torch.optim.Optimizer) -> None:
    """Load weights, average and optimiser from `checkpoints/last` in place. Raises `WeightsError`."""
    folder = current_folder(out / "checkpoints" / "last")
    average, _, _ = read_model(folder)
    tensors = read_tensors(folder / "state.safetensors")
    prefix = "weights."
    raw = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if ema:
        load_state(ema.model, average, where=str(folder / TENSORS))
    load_state(model, raw if ema else average, where=str(folder))
    _restore_optimizer(optimizer, model, tensors, where=str(folder / "state.safetensors"))


def fingerprint(dataset: Dataset) -> str:
    """A hash of names, sizes, boxes and labels, in order: the same data gives the same training."""
    table = dataset.table
    digest = hashlib.sha256("\0".join(path.rpartition(os.sep)[2] for path in table.paths).encode("utf-8", "replace"))
    for column in (table.image_ids, table.sizes, table.counts, table.boxes, table.labels, table.crowd):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def _optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """`optimizer.<parameter>.<entry>` -> tensor; parameters without a state yet have no entry."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"optimizer.{names[parameter]}.{key}": value
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor], *, where: str
) -> None:
    parameters = dict(model.named_parameters())
    for full_name, tensor in tensors.items():
        if not full_name.startswith("optimizer."):
            continue
        name, _, key = full_name.removeprefix("optimizer.").rpartition(".")
        if name not in parameters:
            raise WeightsError(f"{where}: state of {name}, which the model does not have", unexpected=[name])
        parameter = parameters[name]
        if tensor.shape == parameter.shape:  # same memory format as the parameter, so that fused updates stay fast
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        elif key == "step" and optimizer.defaults.get("fused"):
            tensor = tensor.to(parameter.device)
        optimizer.state[parameter][key] = tensor  # AdamW's `step` lives on the CPU unless the update is fused


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`field was old, is new` of each config field that differs and matters, by its name."""
    changes: dict[str, str] = {}
    for key in dict.fromkeys([*old, *new]):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes |= _changes(before, after, f"{name}.")
        elif before != after and name not in FREE_FIELDS:
            changes[name] = f"{name} was {before}, is {after}"
    return changes


def _prune(folder: Path, keep: int) -> None:
    """Delete the oldest numbered checkpoints; -1 keeps all."""
    numbered = sorted(folder.glob("step-*[0-9]"), key=lambda path: int(path.name.removeprefix("step-")))
    for path in numbered[:-keep] if keep > 0 else []:
        shutil.rmtree(path, ignore_errors=True)
