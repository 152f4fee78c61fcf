"""The training step on made-up batches: forward, backward, optimiser; by batch and size."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.peak import count_flop
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.subject import DEFAULT_PHOTO, OBJECTS, Subject, photo, sized, targets
from maskrcnn.benchmark.timing import Ledger, Times, measure, peak_memory, seconds_clock, watched
from maskrcnn.data.resize import padded_size, resized_size
from maskrcnn.structures import Batch
from maskrcnn.training.gradients import backward
from maskrcnn.training.optim import make_optimizer, set_rate
from maskrcnn.training.setup import make_accelerator

PARTS = ("forward", "backward", "optimiser")


def run(context: Context, subject: Subject) -> list[Row]:
    """A step of every batch and size, and its parts."""
    settings, config = context.settings, subject.config
    rows: list[Row] = []
    for size in settings.sizes or (None,):
        data = config.data if size is None else sized(config.data, size)
        padded = padded_size(*(size or resized_size(*DEFAULT_PHOTO, data)), data)
        for batch in settings.batches or (config.train.batch_size,):
            rows += _rows(context, subject, batch, padded)
    context.notes.append(
        f"training on made-up batches with {OBJECTS} objects an image, {step_precision(context, subject)}, "
        f"{config.train.optimizer}, learning rate 0, so that every step does the same work; loading is not in it"
    )
    return rows


def step_precision(context: Context, subject: Subject) -> str:
    """What was asked for, else what the config trains with."""
    asked = context.settings.precision
    return subject.config.train.precision if asked == "auto" else asked


def made_batch(subject: Subject, batch: int, size: tuple[int, int]) -> Batch:
    """`batch` images of (height, width) with objects, as the loader would hand them over."""
    model = subject.model
    cells = model.data.mask_size if model.mask_head is not None else 0
    return Batch(
        images=torch.stack([photo(size, model.config, model.data, seed) for seed in range(batch)]),
        sizes=torch.tensor([size] * batch),
        targets=targets(
            batch, size, len(model.classes), cells, None if model.keypoints is None else len(model.keypoints.names)
        ),
    )


def _rows(context: Context, subject: Subject, batch: int, size: tuple[int, int]) -> list[Row]:
    context.say(f"train: {batch} images a step, input {size[0]}x{size[1]}")
    runs: list[dict[str, float]] = []
    step = make_step(context, subject, batch, size, seconds_clock(context.device), runs)
    whole = measure({"step": step}, context.device, repeat=context.settings.repeat)["step"]
    timed = runs[-len(whole.seconds) :]  # the earlier ones warmed up
    flop: list[float] = []
    memory = peak_memory(lambda: flop.append(count_flop(step)), context.device)
    rows = [
        Row(
            part="train",
            name="step",
            model=subject.name,
            batch=batch,
            size=size,
            **whole.columns,  # type: ignore[arg-type]
            images_per_second=batch / whole.median,
            peak_memory_mib=memory,
            gflop=flop[0] / 1e9,
        )
    ]
    for part in PARTS:
        times = Times(tuple(run[part] for run in timed))
        rows.append(Row("train", f"part: {part}", subject.name, batch, size, **times.columns))  # type: ignore[arg-type]
    return rows


def make_step(
    context: Context,
    subject: Subject,
    batch: int,
    size: tuple[int, int],
    clock: Callable[[], float],
    booked: list[dict[str, float]],
) -> Callable[[], None]:
    """One optimiser step as `maskrcnn train` makes it; each call appends to `booked` what its parts took."""
    options = replace(subject.config.train, batch_size=batch, accumulate=1, trackers=())
    accelerator = make_accelerator(options, Path("runs"), str(context.device))  # writes nothing without trackers
    model = copy.deepcopy(subject.model).to(context.device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    model.train()
    optimizer = make_optimizer(model, options)
    set_rate(optimizer, 0.0)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = [made_batch(subject, batch, size).to(context.device)]
    precision = step_precision(context, subject)

    def step() -> None:
        ledger = Ledger(clock)
        with ledger.span("forward"), watched(ledger, (accelerator, "backward", "backward")):
            backward(model, model, batches, accelerator, precision)
        with ledger.span("optimiser"):
            nn.utils.clip_grad_norm_(parameters, options.clip_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        booked.append(ledger.booked)

    return step
