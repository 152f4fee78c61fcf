"""The benchmark as a whole: a request in, a report out."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from maskrcnn.benchmark import evaluation, exported, infer, loader, scaling, train
from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.peak import peak_gflops
from maskrcnn.benchmark.report import Report, Row
from maskrcnn.benchmark.settings import Settings
from maskrcnn.benchmark.subject import Subject, make_subject
from maskrcnn.benchmark.timing import machine, versions
from maskrcnn.data.open import open_dataset
from maskrcnn.predict.devices import choose_device, choose_precision


def run(settings: Settings, say: Callable[[str], None] | None = None) -> Report:
    """Measure what was asked for.

    Args:
        settings: from `make_settings`.
        say: told what happens next, one line each; None: on stderr.

    Raises:
        ConfigError: a device that is not there.
        WeightsError, DataError, ExportError: a model or data that cannot be read.
    """
    say = say or _to_stderr
    on_cpu = settings.device == "auto" and "export" in settings.parts  # where exported files run unless told otherwise
    device = choose_device("cpu" if on_cpu else settings.device)
    before = torch.get_num_threads()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return _run(settings, device, say)
    finally:
        torch.set_num_threads(before)


def _run(settings: Settings, device: torch.device, say: Callable[[str], None]) -> Report:
    precision = choose_precision(settings.precision, device)
    dataset = open_dataset(list(settings.data), settings.format) if settings.data else None
    subject = None if settings.parts == ("export",) else make_subject(settings.models, settings.preset)
    say(_plan(settings, subject, device, precision))
    first = peak_gflops(device, precision)
    context = Context(settings, device, precision, say)
    rows: list[Row] = []
    if subject is not None:
        if "infer" in settings.parts:
            rows += infer.run(context, subject)
            rows += scaling.run(context, subject) if settings.scaling else []
        if "train" in settings.parts:
            rows += train.run(context, subject)
        if dataset is not None and "data" in settings.parts:
            rows += loader.run(context, subject, dataset, [row for row in rows if row.part == "train"])
        if "eval" in settings.parts:
            rows += evaluation.run(context, subject, dataset)
    if "export" in settings.parts:
        rows += exported.run(context)
    rows, peak = with_limit(rows, [first, peak_gflops(device, precision)])
    return Report(
        date=datetime.date.today().isoformat(),
        machine={**machine(device), "peak_gflops": {name: round(value, 1) for name, value in peak.items()}},
        versions=versions(),
        config=_config(settings, subject, precision),
        rows=rows,
        notes=[*context.notes, *infer.where_it_goes(rows)],
    )


def with_limit(rows: list[Row], probes: list[dict[str, float]]) -> tuple[list[Row], dict[str, float]]:
    """The rows with their share of the arithmetic limit, and the limit in GFLOP/s.

    The limit is the best that was seen, in the probes before and after and in the rows themselves: on a machine that
    has other work to do a probe alone may be too low.
    """
    peak = {name: max(probe[name] for probe in probes) for name in probes[0]}
    rates = [row.gflop / row.median_ms * 1e3 for row in rows if row.gflop and row.median_ms > 0]
    peak["best"] = max([peak["best"], *rates])
    share = {id(row): row.gflop / row.median_ms * 1e3 / peak["best"] for row in rows if row.gflop and row.median_ms > 0}
    return [replace(row, limit_share=share.get(id(row))) for row in rows], peak


def _plan(settings: Settings, subject: Subject | None, device: torch.device, precision: str) -> str:
    """What will happen, in one line."""
    if subject is None:
        what = ", ".join(settings.models)
    else:
        what = f"{subject.name}{' with random weights' if subject.random else ''}, {len(subject.model.classes)} classes"
    runs = f"{settings.repeat} runs of each" if settings.repeat else "3 to 30 runs of each, as many as fit into seconds"
    return f"{', '.join(settings.parts)} of {what} on {device}, {precision}, {torch.get_num_threads()} threads; {runs}"


def _config(settings: Settings, subject: Subject | None, precision: str) -> dict[str, Any]:
    """What was asked for, and every field of the network and its preprocessing."""
    config: dict[str, Any] = {**asdict(settings), "precision": precision}
    if settings.models:
        config["preset"] = None
    if subject is not None:
        config["classes"] = len(subject.model.classes)
        config["network"] = subject.config.to_dict()
    return config


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
