"""The loader on the user's data: how fast training batches come, and whether the model would have to wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.subject import Subject, sized
from maskrcnn.benchmark.timing import Times
from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.structures import Batch

SECONDS = 10.0  # of loading, where `--repeat` does not say how many batches
WARM_UP = 2  # batches that are not counted: worker processes start, files come into the cache


def run(context: Context, subject: Subject, dataset: Dataset, trained: list[Row]) -> list[Row]:
    """A row for each batch size. `trained` are the rows of the training step, where that was measured too."""
    settings, config = context.settings, subject.config
    dataset = dataset.split("train") if "train" in dataset.splits else dataset
    data = sized(config.data, settings.sizes[0]) if settings.sizes else config.data
    rows = []
    for batch in settings.batches or (config.train.batch_size,):
        batch = min(batch, len(dataset))
        context.say(f"data: batches of {batch} from {len(dataset)} images, {data.workers} worker processes")
        loader = Loader(dataset, data, batch_size=batch, seed=config.train.seed, training=True)
        seconds, images, size = _load(loader, settings.repeat)
        total = sum(seconds)
        extra: dict[str, Any] = {"batch_mib": size / 2**20, "workers": data.workers, "images": images}
        step = next((row for row in trained if row.name == "step" and row.batch == batch), None)
        if step is not None:
            extra["wait_share"] = wait_share(1e3 * total / len(seconds), step.median_ms, data.workers > 0)
            context.notes.append(
                f"batches of {batch}: with this loader the training step would wait {extra['wait_share']:.0%} of the "
                "time" + ("" if data.workers else " (no worker processes: loading and training take turns)")
            )
        times = Times(tuple(seconds)).columns
        rows.append(
            Row("data", "loader", subject.name, batch, None, **times, images_per_second=images / total, extra=extra)  # type: ignore[arg-type]
        )
    return rows


def wait_share(load_ms: float, step_ms: float, ahead: bool) -> float:
    """Part of the time that training waits for batches, 0..1.

    Args:
        load_ms, step_ms: of one batch.
        ahead: whether workers load while the model trains.
    """
    return max(0.0, 1 - step_ms / load_ms) if ahead else load_ms / (load_ms + step_ms)


def _load(loader: Loader, repeat: int | None) -> tuple[list[float], int, int]:
    """(seconds from batch to batch, images in them, bytes of the largest batch)."""
    seconds: list[float] = []
    images = largest = 0
    stream = _endless(loader)
    for _ in range(min(WARM_UP, len(loader))):
        next(stream)
    began = last = time.perf_counter()
    for batch in stream:
        now = time.perf_counter()
        seconds.append(now - last)
        images, largest, last = images + len(batch.images), max(largest, nbytes(batch)), now
        if len(seconds) == repeat or (repeat is None and now - began > SECONDS):
            break
    return seconds, images, largest


def _endless(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch."""
    epoch = 0
    while True:
        for step in loader.steps(epoch):
            yield from step
        epoch += 1


def nbytes(value: Any) -> int:
    """Bytes of all tensors in a batch."""
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(nbytes(getattr(value, f.name)) for f in fields(value)) if is_dataclass(value) else 0
