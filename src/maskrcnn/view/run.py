"""The HTML page of `maskrcnn inspect run`: the curves of one training run, or of several in the same charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from maskrcnn.inspection.run import Run
from maskrcnn.view.charts import Marks, line_chart
from maskrcnn.view.report import Html, element, heading, page, paragraph, row, section, table, tiles, write_page

Series = dict[str, tuple[np.ndarray, np.ndarray]]


def run_report(runs: Sequence[Run], path: str | Path) -> Path:
    """Write the page.

    Args:
        runs: one or more, see `inspect_run`.
        path: of the page; its folder is made.

    Returns:
        The path.

    Raises:
        OSError: the page cannot be written.
    """
    parts = [_summary(runs), _losses(runs), _validation(runs), _schedule(runs), _speed(runs), _settings(runs)]
    title = f"Run: {runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.name for run in runs)}"
    subtitle = ", ".join(str(run.path) for run in runs)
    return write_page(path, page(title, *(part for part in parts if part), subtitle=subtitle))


def names_of(runs: Sequence[Run]) -> list[str]:
    """Of each run its folder's name, or its whole path where two folders are called alike."""
    names = [run.name for run in runs]
    return [str(run.path) if names.count(run.name) > 1 else run.name for run in runs]


def table_of(runs: Sequence[Run]) -> str:
    """A few lines about each run: for a terminal."""
    lines = []
    for name, run in zip(names_of(runs), runs, strict=True):
        lines.append(f"{name}: {run.steps} steps" + (f", {run.epochs[-1]:.1f} epochs" if len(run.epochs) else ""))
        for key in ("loss/total", "learning_rate", "images_per_second", "data_wait"):
            if key in run.curves:
                curve = run.curves[key]
                lines.append(
                    f"  {key}: {curve.values[0]:.4g} at step {curve.steps[0]}, {curve.values[-1]:.4g} at the end"
                )
        if run.best is not None:
            lines.append(f"  {run.watched}: best {run.best:.4f} at step {run.best_step}")
        lines += [f"  note: {note}" for note in run.notes]
    return "\n".join(lines)


def _summary(runs: Sequence[Run]) -> Html:
    parts: list[object] = []
    for name, run in zip(names_of(runs), runs, strict=True):
        numbers: dict[str, object] = {"steps": f"{run.steps:,}"}
        if len(run.epochs):
            numbers["epochs"] = f"{run.epochs[-1]:.1f}"
        if run.best is not None:
            numbers[f"best {run.watched.replace('/ap', ' AP')}"] = f"{run.best:.3f}"
            numbers["at step"] = f"{run.best_step:,}"
        if "loss/total" in run.curves:
            numbers["loss at the end"] = f"{run.curves['loss/total'].values[-1]:.3f}"
        if run.seconds:
            numbers["time"] = f"{run.seconds / 3600:.1f} h" if run.seconds > 5400 else f"{run.seconds / 60:.0f} min"
        notes = [paragraph(f"{note[0].upper()}{note[1:]}.", kind="warning") for note in run.notes]
        fine = [] if notes else [paragraph("Nothing is odd.")]
        parts += [heading(name) if len(runs) > 1 else "", tiles(numbers), *notes, *fine]
    return section("Summary", *parts)


def _losses(runs: Sequence[Run]) -> Html:
    note = (
        "Means since the line before. All losses should fall fast, then slowly. One that rises while the others fall "
        "points to its part of the network; a sudden jump to a bad image or too high a learning rate."
    )
    if len(runs) > 1:
        keys = _keys(runs, "loss/")
        order = sorted(keys, key=lambda key: key != "loss/total")
        charts = [_chart(runs, key, key.removeprefix("loss/")) for key in order]
        return section("Losses", paragraph(note), *_rows(charts))
    (run,) = runs
    series: Series = {
        key.removeprefix("loss/"): (run.curves[key].steps, run.curves[key].values)
        for key in _keys(runs, "loss/")
        if key != "loss/total"
    }
    charts = [_chart(runs, "loss/total", "sum of all losses", marks=_best_mark(run))]
    charts.append(line_chart(series, "parts", label="step", log=True) if series else Html(""))
    return section("Losses", paragraph(note), *_rows(charts))


def _validation(runs: Sequence[Run]) -> Html:
    keys = [key for key in _keys(runs, "") if key.endswith("/ap")]
    if not keys:
        return section("Validation", paragraph("There was none: give --val, or data with a split val."))
    note = (
        "COCO AP on images that are not trained on; the best step is kept in checkpoints/best. It should rise and then "
        "level off. If it falls while the loss still falls, the model learns the training images by heart."
    )
    if len(runs) > 1:
        charts = [_chart(runs, key, key.replace("/ap", " AP"), dots=True) for key in keys]
        return section("Validation", paragraph(note), *_rows(charts))
    (run,) = runs
    series = {key.replace("/ap", ""): (run.curves[key].steps, run.curves[key].values) for key in keys}
    chart = line_chart(series, "AP", label="step", dots=True, marks=_best_mark(run))
    steps = sorted({int(step) for key in keys for step in run.curves[key].steps})
    known = {
        key: dict(zip(run.curves[key].steps.tolist(), run.curves[key].values.tolist(), strict=True)) for key in keys
    }
    rows = [
        [step, *(f"{known[key][step]:.3f}" if step in known[key] else "" for key in keys),
         "best" if step == run.best_step else ""]
        for step in steps[-20:]
    ]  # fmt: skip
    numbers = table(["step", *(key.replace("/ap", " AP") for key in keys), ""], rows)
    return section("Validation", paragraph(note), row(chart, element("div", numbers)))


def _schedule(runs: Sequence[Run]) -> Html:
    note = (
        "The learning rate rises (warm-up) and then falls as train.schedule says. The gradient's norm is what clipping "
        "bounds; peaks far above the rest are images that surprise the model."
    )
    charts = [_chart(runs, "learning_rate", "learning rate"), _chart(runs, "gradient_norm", "gradient norm", log=True)]
    return section("Learning rate and gradient", paragraph(note), *_rows(charts))


def _speed(runs: Sequence[Run]) -> Html:
    note = (
        "Images a second in training, evaluations left out, and the share of the time in which the model waited for "
        "data. Above 0.1 more loader processes (data.workers) or smaller images on the disk make training faster."
    )
    charts = [
        _chart(runs, "images_per_second", "images per second"),
        _chart(runs, "data_wait", "share of time waiting"),
    ]
    return section("Throughput", paragraph(note), *_rows(charts))


def _settings(runs: Sequence[Run]) -> Html:
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    if not keys:
        return Html("")
    rows = [[key, *(str(run.settings.get(key, "")) for run in runs)] for key in keys]
    if len(runs) > 1:
        rows = [[*cells, "differs" if len(set(cells[1:])) > 1 else ""] for cells in rows]
    head = ["field", *names_of(runs)] + (["", ] if len(runs) > 1 else [])  # fmt: skip
    return section("Settings", table(head, rows))


# ---------------------------------------------------------------- pieces


def _chart(
    runs: Sequence[Run], key: str, title: str, *, log: bool = False, dots: bool = False, marks: Marks = ()
) -> Html:
    """One number of all runs that have it."""
    names = names_of(runs) if len(runs) > 1 else [""]
    series = {
        name: (run.curves[key].steps, run.curves[key].values)
        for name, run in zip(names, runs, strict=True)
        if key in run.curves
    }
    return line_chart(series, title, label="step", log=log, dots=dots, marks=marks) if series else Html("")


def _best_mark(run: Run) -> Marks:
    return () if run.best_step is None else ((float(run.best_step), "best"),)


def _keys(runs: Sequence[Run], prefix: str) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.curves if key.startswith(prefix)))


def _rows(charts: Iterable[Html]) -> list[Html]:
    """Two charts in a row."""
    shown = [chart for chart in charts if chart]
    return [row(*shown[start : start + 2]) for start in range(0, len(shown), 2)]
