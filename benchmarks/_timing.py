"""Interleaved timing of two sides of one thing, and the table that shows it."""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.console import Console
from rich.table import Table

from maskrcnn.benchmark.timing import Job, cpu_model, timed


@dataclass(frozen=True)
class Row:
    """One line of the table: medians in milliseconds over `repeat` runs of each side."""

    group: str
    name: str
    ours_ms: float
    theirs_ms: float
    ours_spread_ms: float
    theirs_spread_ms: float
    repeat: int

    @property
    def ratio(self) -> float:
        """How many times faster we are."""
        return self.theirs_ms / self.ours_ms


def compare(group: str, name: str, ours: Job, theirs: Job, *, repeat: int, device: torch.device) -> Row:
    """Run ours, theirs, ours, theirs, ...: what else the machine does meets both alike. One run of each warms up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    with no_collection():
        for _ in range(repeat):
            for job, times in zip((ours, theirs), seconds, strict=True):
                times.append(timed(job, device))
    a, b = ([1e3 * value for value in values] for values in seconds)
    return Row(group, name, statistics.median(a), statistics.median(b), max(a) - min(a), max(b) - min(b), repeat)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Python's garbage collection would land in one of the two sides."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def show(rows: list[Row], about: dict[str, Any]) -> None:
    table = Table(title="medians; above 1x we are faster")
    for title in ("what", "part"):
        table.add_column(title)
    for title in ("ours ms", "torchvision ms", "ratio"):
        table.add_column(title, justify="right")
    for index, row in enumerate(rows):
        last = index + 1 == len(rows) or rows[index + 1].group != row.group
        ours = f"{row.ours_ms:.2f} ±{row.ours_spread_ms / 2:.2f}"
        theirs = f"{row.theirs_ms:.2f} ±{row.theirs_spread_ms / 2:.2f}"
        table.add_row(row.group, row.name, ours, theirs, f"{row.ratio:.2f}x", end_section=last)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), highlight=False)


def write(path: Path, rows: list[Row], about: dict[str, Any]) -> None:
    lines = [asdict(row) | {"ratio": row.ratio} for row in rows]
    path.write_text(json.dumps({"machine": about, "rows": lines}, indent=1) + "\n")
