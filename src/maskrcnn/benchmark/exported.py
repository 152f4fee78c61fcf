"""Exported files next to the model in PyTorch or next to each other: one photo each in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.infer import network_input, results
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.settings import EXPORTED
from maskrcnn.benchmark.subject import ALL_DETECTIONS, photo, photo_size, random_subject
from maskrcnn.benchmark.timing import measure
from maskrcnn.config import Config
from maskrcnn.exporting.export import written_files
from maskrcnn.predict.exported.model import ExportedModel
from maskrcnn.predict.predictor import Predictor

BUDGET = 12.0


def run(context: Context) -> list[Row]:
    """A row a model for every batch and size; the models take turns."""
    settings = context.settings
    loaded: dict[str, Predictor] = {}
    about: dict[str, dict[str, Any]] = {}
    for name in settings.models:
        context.say(f"export: loading {name}")
        began = time.perf_counter()
        loaded[name] = Predictor.load(name, context.device, "auto", trust=settings.trust, **ALL_DETECTIONS)
        about[name] = {"load_s": time.perf_counter() - began, "file_mb": _megabytes(Path(name))}
    if all(name.endswith(EXPORTED) for name in settings.models):
        eager = _eager(context, loaded)
        loaded[eager[0]], about[eager[0]] = eager[1], {}
        context.notes.append(
            "PyTorch's side has the architecture of the first file with random weights, eager; both sides with score "
            "threshold 0, so that every detection slot is filled"
        )
    rows: list[Row] = []
    for size in settings.sizes or (None,):
        for batch in settings.batches or (1,):
            rows += _rows(context, loaded, about, batch, size)
    return rows


def _eager(context: Context, loaded: dict[str, Predictor]) -> tuple[str, Predictor]:
    """The same network as the first file's, in PyTorch."""
    model = next(iter(loaded.values())).model
    assert isinstance(model, ExportedModel)
    config = Config(model=model.config, data=model.data)
    subject = random_subject("PyTorch", config, model.classes)
    return subject.name, Predictor(subject.model, context.device, "float32")


def _rows(
    context: Context,
    loaded: dict[str, Predictor],
    about: dict[str, dict[str, Any]],
    batch: int,
    size: tuple[int, int] | None,
) -> list[Row]:
    context.say(f"export: {', '.join(loaded)} in turn, {batch} images at a time")
    first = next(iter(loaded.values()))
    pictures = [photo(photo_size(size), first.model.config, first.model.data, seed) for seed in range(batch)]

    def whole(predictor: Predictor) -> Callable[[], int]:
        return lambda: results(predictor.batch(pictures, 0.0, batch))

    jobs: dict[str, Callable[[], Any]] = {name: whole(predictor) for name, predictor in loaded.items()}
    times = measure(jobs, context.device, repeat=context.settings.repeat, budget=BUDGET)
    rows = []
    for name, predictor in loaded.items():
        images, _ = network_input(predictor, pictures)
        extra = {"detections": whole(predictor)(), "precision": predictor.precision, **about[name]}
        rows.append(
            Row(
                "export",
                "whole call",
                name,
                batch,
                (images.shape[2], images.shape[3]),
                **times[name].columns,  # type: ignore[arg-type]
                images_per_second=batch / times[name].median,
                extra=extra,
            )
        )
    return rows


def _megabytes(path: Path) -> float | None:
    """Size on disk with the files that belong to it; None for a folder."""
    files = written_files(path)
    return sum(file.stat().st_size for file in files) / 1e6 if files else None
