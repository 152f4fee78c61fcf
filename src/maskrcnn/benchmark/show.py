"""A report, and a comparison, as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from maskrcnn.benchmark.report import Comparison, Report, Row

WIDTH = 130  # where there is no terminal
SHOWN_ROWS = 20
_UNITS = {
    "detections": "detections", "file_mb": "MB", "load_s": "s to load", "batch_mib": "MiB a batch",
    "workers": "workers", "results": "results", "objects": "objects", "images": "images", "precision": "",
}  # fmt: skip


def show(report: Report) -> None:
    """One table a part, then the notes and the machine."""
    console = _console()
    for part in dict.fromkeys(row.part for row in report.rows):
        rows = [row for row in report.rows if row.part == part]
        scaling = [row for row in rows if row.name.startswith("scaling: ")]
        console.print(_table(part, [row for row in rows if row not in scaling]))
        if scaling:
            console.print(_scaling_table(scaling))
    for note in report.notes:
        console.print(f"- {note}", highlight=False)
    machine = ", ".join(f"{name} {_text(value)}" for name, value in report.machine.items())
    packages = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    console.print(f"{report.date}: {machine}; {packages}", highlight=False)


def show_comparison(comparison: Comparison, earlier: str) -> None:
    """Ratio of each matching row, and what makes the numbers not comparable."""
    console = _console()
    table = Table(title=f"next to {earlier}; above 1x it is faster now")
    for title in ("what", "model", "batch", "input"):
        table.add_column(title)
    for title in ("earlier ms", "now ms", "ratio"):
        table.add_column(title, justify="right")
    for now, before in comparison.pairs:
        ratio = f"{before.median_ms / now.median_ms:.2f}x" if now.median_ms > 0 and before.median_ms > 0 else "-"
        table.add_row(*_where(now), f"{before.median_ms:.2f}", f"{now.median_ms:.2f}", ratio)
    console.print(table if comparison.pairs else "no row was measured both times")
    for rows, when in ((comparison.only_now, "now"), (comparison.only_earlier, "earlier")):
        names = [" ".join(part for part in _where(row) if part != "-") for row in rows]
        if names:
            more = f", and {len(names) - SHOWN_ROWS} more" if len(names) > SHOWN_ROWS else ""
            console.print(f"only {when}: {'; '.join(names[:SHOWN_ROWS])}{more}", highlight=False)
    for name, before, value in comparison.differences:
        console.print(f"differs: {name} was {_text(before)}, is {_text(value)}", highlight=False)
    if not comparison.comparable:
        console.print(
            "not comparable: machine or config differ (above), and every ratio mixes that with the code",
            highlight=False,
        )


def _console() -> Console:
    return Console(width=None if Console().is_terminal else WIDTH)


def _table(part: str, rows: list[Row]) -> Table:
    several = len({row.model for row in rows}) > 1
    of = "" if several else f" of {rows[0].model}"
    table = Table(title=f"{part}{of}: medians, ± half of slowest minus fastest")
    for title in ("what", *(["model"] if several else []), "batch", "input"):
        table.add_column(title)
    for title in ("ms", "p90 ms", "images/s", "MiB", "GFLOP", "of limit"):
        table.add_column(title, justify="right")
    table.add_column("more")
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1].batch != row.batch or rows[index + 1].size != row.size
        what, model, *where = _where(row)
        table.add_row(
            what,
            *([model] if several else []),
            *where,
            f"{row.median_ms:.1f} ±{row.spread_ms / 2:.1f}",
            f"{row.p90_ms:.1f}",
            _number(row.images_per_second, ".2f"),
            _number(row.peak_memory_mib, ".0f"),
            _number(row.gflop, ".1f"),
            _number(row.limit_share, ".0%"),
            _extra(row),
            end_section=last,
        )
    return table


def _scaling_table(rows: list[Row]) -> Table:
    table = Table(title="scaling: a least squares line through the points")
    for title in ("with", "points"):
        table.add_column(title)
    for title in ("ms at 0", "ms more for each", "R²"):
        table.add_column(title, justify="right")
    for row in rows:
        points = ", ".join(f"{x:g}: {y:.0f} ms" for x, y in zip(row.extra["x"], row.extra["ms"], strict=True))
        slope = f"{row.median_ms:.2f} ±{row.spread_ms / 2:.2f} for {row.extra['per']}"
        start, r2 = f"{row.extra['intercept_ms']:.0f}", f"{row.extra['r2']:.2f}"
        table.add_row(row.name.removeprefix("scaling: "), points, start, slope, r2)
    return table


def _where(row: Row) -> tuple[str, str, str, str]:
    size = f"{row.size[0]}x{row.size[1]}" if row.size else "-"
    return row.name, row.model, "-" if row.batch is None else str(row.batch), size


def _extra(row: Row) -> str:
    known = {name: value for name, value in row.extra.items() if name in _UNITS and value is not None}
    shown = [f"{_text(value)} {_UNITS[name]}".strip() for name, value in known.items()]
    if "wait_share" in row.extra:
        shown.append(f"training waits {row.extra['wait_share']:.0%}")
    return ", ".join(shown)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
