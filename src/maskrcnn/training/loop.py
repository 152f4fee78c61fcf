"""Training, visible: `train` sets things up, `_steps` is the loop, `gradients.backward` the inside of one step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import torch
from torch import nn

from maskrcnn.config import Config
from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.errors import TrainingError
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.training import setup
from maskrcnn.training.checkpoint import State, check_resume, fingerprint, restore, save_last
from maskrcnn.training.clock import FIRST_FIT, Clock
from maskrcnn.training.ema import EMA
from maskrcnn.training.gradients import backward, is_out_of_memory
from maskrcnn.training.object_sizes import object_sizes
from maskrcnn.training.optim import Guard, lr_at, make_optimizer, set_rate
from maskrcnn.training.prefetch import on_device
from maskrcnn.training.progress import Report
from maskrcnn.training.readback import Readback, Step
from maskrcnn.training.scoring import Scoring
from maskrcnn.training.session import Session
from maskrcnn.training.validation import start_evaluation, take_score
from maskrcnn.weights.folder import current_folder
from maskrcnn.weights.native import load_model


@dataclass(frozen=True)
class Run:
    """What `train` returns.

    Attributes:
        model: the network of `checkpoint`, in evaluation mode, on the training device.
        checkpoint: the best checkpoint where there is validation data, else the last.
        metrics: of that checkpoint, plain JSON types; empty without validation data.
    """

    model: MaskRCNN
    checkpoint: Path
    metrics: dict[str, Any]


def train(
    config: Config,
    *,
    train: Dataset | str | Path,
    val: Dataset | str | Path | None = None,
    weights: str | Path | None = None,
    weights_config: str | Path | None = None,
    out: str | Path = "runs/train",
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> Run:
    """Train a Mask R-CNN, or go on with a run that was interrupted.

    Args:
        config: see `maskrcnn.preset`.
        train: training data, or a path for `open_dataset`; splits `train` and `val` in it are used as such.
        val: validation data; its AP chooses the best checkpoint. None: the split `val`, if there is one.
        weights: starting point: None (random), an ImageNet trunk file, a run, "last" (the newest run beside `out`), or
            a detector of TensorFlow, Detectron2, MMDetection, Matterport or torchvision ("torchvision:NAME": what it
            publishes), see `load_weights`. Class predictors are taken over by class name.
        weights_config: the config file of another framework's weights, where that does not lie beside them.
        out: run folder: `checkpoints/`, `metrics.jsonl`, tracker files.
        resume: continue from `out/checkpoints/last`. The result is that of a run never interrupted, bit for bit on a
            CPU, except with `train.minutes`, whose length depends on the speed of the machine.
        device: auto, cpu, cuda, cuda:1 or mps. Several processes: start with `accelerate launch` or `torchrun`.
        progress: show the plan, a bar (plain lines where there is no terminal) and scores.

    Raises:
        TrainingError: a loss is not finite, memory or disk is full, `out` is in use, or there is nothing to resume.
        ConfigError, DataError, WeightsError: bad config, data or weights.
    """
    session = _prepare(config, train, val, (weights, weights_config), Path(out), resume, device, progress)
    session.report.start()
    try:
        _steps(session)
    finally:
        session.scoring.close()
        session.report.close()
    session.accelerator.wait_for_everyone()  # the main process has saved
    best = current_folder(session.out / "checkpoints" / "best")
    checkpoint = best if session.val else current_folder(session.out / "checkpoints" / "last")
    model, _, header = load_model(checkpoint)
    session.report.say(f"checkpoint: {checkpoint}")
    return Run(model.to(session.accelerator.device), checkpoint, header["metrics"])


def _prepare(
    config: Config,
    train_data: Dataset | str | Path,
    val_data: Dataset | str | Path | None,
    weights: tuple[str | Path | None, str | Path | None],
    out: Path,
    resume: bool,
    device: str,
    progress: bool,
) -> Session:
    began = time.monotonic()
    dataset, val = setup.open_data(train_data, val_data)
    config, notes = setup.resolve(config, dataset)
    notes += setup.check_classes(dataset, val) if val else []
    notes += setup.launch_notes()
    options = config.train
    accelerator = setup.make_accelerator(options, out, device)
    if not resume and accelerator.is_main_process:
        setup.check_new(out)
    accelerator.wait_for_everyone()  # before anybody writes into `out`
    state = check_resume(out, config, dataset) if resume else State(accumulate=options.accumulate)
    state.data = fingerprint(dataset)
    began -= state.seconds

    source, weights_config = (None, None) if resume else weights
    model, origin = setup.initial_model(config, dataset, source, out, weights_config)
    model.object_sizes = object_sizes(dataset, config.data)
    model.to(accelerator.device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    model.train()
    optimizer = make_optimizer(model, options)
    ema = EMA(model, options.ema_decay) if options.ema_decay else None
    if resume:
        restore(out, model=model, ema=ema, optimizer=optimizer)
        origin = f"resumed after step {state.step}"
    if options.compile:
        setup.compile_network(model, config.data)
    network = accelerator.prepare_model(model)

    loader = _loader(config, dataset, accelerator, state.accumulate)
    clock = total = None
    if options.minutes:
        images = len(val) // accelerator.num_processes if val else 0
        clock = Clock(
            options.minutes,
            start=began,
            evaluation_images=images,
            batch_size=options.batch_size // accelerator.num_processes,
        )
    else:
        total = options.steps or max(1, round(options.epochs * len(loader)))
        if state.step >= total:
            raise TrainingError(f"{out}: {state.step} steps are done, and {total} are asked for; give more train.steps")
    out.mkdir(parents=True, exist_ok=True)
    if options.trackers:
        accelerator.init_trackers("maskrcnn")
    report = Report(accelerator, out, show=progress, step=state.step)
    plan = setup.plan(
        config,
        dataset,
        val,
        model,
        device=str(accelerator.device),
        processes=accelerator.num_processes,
        steps_per_epoch=len(loader),
        total_steps=total,
    )
    report.say("\n".join([plan, origin, *notes, f"run folder: {out}"]))
    return Session(
        config,
        dataset,
        val,
        out,
        accelerator,
        model,
        network,
        optimizer,
        ema,
        state,
        loader,
        report,
        began,
        clock,
        total,
        Readback(accelerator.device),
        Scoring(),
        Guard(optimizer, accelerator.device) if accelerator.device.type == "cuda" else None,
    )


def _loader(config: Config, dataset: Dataset, accelerator: accelerate.Accelerator, accumulate: int) -> Loader:
    return Loader(
        dataset,
        config.data,
        batch_size=config.train.batch_size,
        accumulate=accumulate,
        seed=config.train.seed,
        training=True,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )


def _steps(s: Session) -> None:
    """From `s.state.step` to the end of the schedule; one turn of the inner loop is one optimiser step."""
    options, state, length = s.config.train, s.state, len(s.loader)
    parameters = [parameter for group in s.optimizer.param_groups for parameter in group["params"]]
    epoch_now = 0.0
    if s.val and state.pending:  # the run was killed before these weights had their score
        start_evaluation(s, s.val)
    while not state.finished:
        epoch, first = divmod(state.step, length)
        started = time.monotonic()
        for batches in on_device(s.loader.steps(epoch, first), s.accelerator.device):
            # ---------------------------------------------------------------- one optimiser step
            rate = lr_at(state.step, options, s.total)
            set_rate(s.optimizer, rate)
            try:
                losses = backward(s.model, s.network, batches, s.accelerator, options.precision)
                norm = nn.utils.clip_grad_norm_(parameters, options.clip_norm or math.inf)
                problem = ""
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                problem = str(error).splitlines()[0]
            if problem:  # not inside `except`, whose traceback holds the tensors
                _use_less_memory(s, problem)
                break  # the same step again, with smaller micro-batches
            # A step with a bad gradient must never reach the weights. On a CPU the host looks before the update; on
            # CUDA the guard does, on the device, and the host reads a step later: nothing here waits for this step.
            values = torch.stack([*losses.values(), norm])
            paths = tuple(path for batch in batches for path in batch.paths)
            note = Step(state.step + 1, (state.step + 1) / length, (*losses, "gradient norm"), paths)
            if s.guard:
                s.guard.see(values)
            _look(s, s.readback.put(note, values))
            s.optimizer.step()
            s.optimizer.zero_grad(set_to_none=True)
            state.step += 1
            state.epoch, epoch_now = (state.step - 1) // length, state.step / length
            if s.ema:
                s.ema.update(state.step)
            # ---------------------------------------------------------------- what happens now and then
            _fit_length(s, time.monotonic() - started)
            end = state.step == s.total
            log = end or state.step % options.log_every == 0
            evaluate_now = s.val and (end or _evaluation_is_due(s, length))
            if log or evaluate_now or _due(state.step, options.save_every, length):
                _look(s, s.readback.drain())
            if log:
                s.report.log(state.step, s.total, epoch_now, rate, s.loader.waited)
            if s.val and evaluate_now:
                start_evaluation(s, s.val)
                if end or options.early_stop:  # whether to stop must not depend on how fast the score comes
                    take_score(s)
                end = end or 0 < options.early_stop <= state.stale
            elif s.scoring.ready:
                take_score(s)
            if end or _due(state.step, options.save_every, length):
                state.finished, state.seconds = end, time.monotonic() - s.began
                _save(s)
            if end:
                return
            started = time.monotonic()


def _use_less_memory(s: Session, problem: str) -> None:
    """Halve the micro-batch. Raises `TrainingError` where that is impossible."""
    batch = s.config.train.batch_size // s.accelerator.num_processes
    options = [n for n in range(2 * s.state.accumulate, batch + 1) if batch % n == 0]
    if s.accelerator.num_processes > 1:  # the others are in the middle of the step and wait for this one
        remedy = f"set train.accumulate to {options[0]}" if options else "make data.min_size and data.max_size smaller"
    elif not options:
        remedy = "the micro-batch is one image already; make data.min_size and data.max_size smaller"
    else:
        remedy = ""
    if remedy:
        raise TrainingError(f"step {s.state.step + 1}: out of memory on {s.accelerator.device} ({problem}): {remedy}")
    s.optimizer.zero_grad(set_to_none=True)
    if s.accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
    s.state.accumulate = options[0]
    s.loader = _loader(s.config, s.train, s.accelerator, s.state.accumulate)
    s.report.say(
        f"step {s.state.step + 1}: out of memory on {s.accelerator.device}; going on with train.accumulate "
        f"{s.state.accumulate}: micro-batches of {batch // s.state.accumulate} images, the same gradient"
    )


def _look(s: Session, read: list[tuple[Step, list[float]]]) -> None:
    """Note what has been read of the last steps. Raises `TrainingError` at the first bad one."""
    for step, numbers in read:
        values = dict(zip(step.names, numbers, strict=True))
        if not all(map(math.isfinite, numbers)):
            _stop_on_bad_loss(s, step, values)
        norm = values.popitem()[1]
        s.report.step(step.number, s.total, step.epoch, values, norm, s.config.train.batch_size)


def _stop_on_bad_loss(s: Session, step: Step, values: dict[str, float]) -> None:
    """All processes come here together, because losses and gradients are shared before the check."""
    names = [[Path(path).name for path in step.paths]]
    if s.accelerator.num_processes > 1:
        names = accelerate.utils.gather_object(names)
    parts = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    last = current_folder(s.out / "checkpoints" / "last")
    left = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint had been saved yet"
    raise TrainingError(
        f"step {step.number}: the loss is not finite ({parts}) on images "
        f"{', '.join(name for rank in names for name in rank)}; {left}; "
        "check these images with `maskrcnn inspect data`, or lower train.learning_rate or train.clip_norm"
    )


def _fit_length(s: Session, seconds: float) -> None:
    """With `train.minutes`: estimate the length of the run again. The main process decides for all."""
    if s.clock is None:
        return
    s.clock.stepped(seconds)
    # Processes are in step, so one of them measures; `due` depends on step and total alone once it has measured enough.
    due, total = s.clock.due(s.state.step, s.total), -1
    if due or len(s.clock.steps) < FIRST_FIT:
        total = _agree(s, s.clock.fit(s.state.step) if due else -1)
    if total >= 0:
        s.total = min(total, s.config.train.steps or total)
    if s.total is not None:
        s.total = max(s.total, s.state.step)


def _due(step: int, epochs: float, length: int) -> bool:
    """Whether something that happens every so many epochs is due; 0: never."""
    return epochs > 0 and step % max(1, round(epochs * length)) == 0


def _evaluation_is_due(s: Session, length: int) -> bool:
    if not _due(s.state.step, s.config.train.evaluate_every, length):
        return False
    enough = s.clock is None or s.clock.has_time_for_evaluation()
    return bool(_agree(s, int(enough)))


def _agree(s: Session, value: int) -> int:
    """The main process's value. Alone, a process need not ask, nor wait for its device."""
    if s.accelerator.num_processes == 1:
        return value
    return int(accelerate.utils.broadcast(torch.tensor(value, device=s.accelerator.device)))


def _save(s: Session) -> None:
    if s.state.pending != s.state.step:  # the score of weights that are gone would be lost with the process
        take_score(s)
    if not s.accelerator.is_main_process:
        return
    began = time.monotonic()
    with s.report.paused():
        save_last(s.out, model=s.model, ema=s.ema, optimizer=s.optimizer, state=s.state, config=s.config)
    if s.clock:
        s.clock.saving_seconds = time.monotonic() - began
