"""Rows of numbers and what they were measured on, to JSON and back; two reports next to each other. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maskrcnn.errors import DataError

SCHEMA = "maskrcnn-benchmark"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        part: of `settings.PARTS`.
        name: what was timed, such as "whole call" or "part: trunk"; in `scaling: ...` the time is per unit.
        model: the preset or file.
        batch: images at a time; None where there is none.
        size: (height, width) of the network's padded input; None where there is none.
        median_ms, p90_ms: of one run, milliseconds.
        spread_ms: slowest minus fastest run.
        repeat: runs.
        images_per_second: at the median; None where no images are counted.
        peak_memory_mib: on CUDA allocated on the device, else resident in the process; None where not measured.
        gflop: arithmetic of one run, 10^9 multiplications and additions; None where not counted.
        limit_share: `gflop` over what the machine could do in `median_ms`, 0..1.
        extra: whatever else belongs to the row, plain JSON types.
    """

    part: str
    name: str
    model: str
    batch: int | None
    size: tuple[int, int] | None
    median_ms: float
    p90_ms: float
    spread_ms: float
    repeat: int
    images_per_second: float | None = None
    peak_memory_mib: float | None = None
    gflop: float | None = None
    limit_share: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """Rows of two reports with the same key are compared. The model counts where a report has several; else it is
        the config that tells whether it is the same."""
        return self.part, self.name, self.model if self.part == "export" else "", self.batch, self.size


@dataclass(frozen=True)
class Report:
    """Everything that one call of the command found.

    Attributes:
        date: ISO 8601, of the day.
        machine: processor, cores, memory, device, threads, peak arithmetic.
        versions: package -> version.
        config: what was asked for, and the network's fields.
        rows: the measurements.
        notes: sentences that explain them.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    config: dict[str, Any]
    rows: list[Row]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the schema is described in docs/benchmarks.md."""
        return {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **asdict(self)}


def read_report(path: str | Path) -> Report:
    """What an earlier call wrote. Raises `DataError` for any other file."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}; give a file that --json wrote", path=path) from error
    except ValueError as error:
        raise DataError("is not JSON; give a file that `maskrcnn benchmark --json` wrote", path=path) from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise DataError("was not written by `maskrcnn benchmark --json`; give a file that was", path=path)
    version = value.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(f"has schema version {version}, this maskrcnn reads {SCHEMA_VERSION}; measure again", path=path)
    try:
        names = [f.name for f in fields(Report)]
        rows = [Row(**{**row, "size": row["size"] and tuple(row["size"])}) for row in value["rows"]]
        return Report(**{name: value[name] for name in names} | {"rows": rows})
    except (KeyError, TypeError) as error:
        raise DataError(f"is damaged ({error}); measure again", path=path) from error


def check_writable(path: str | Path) -> None:
    """Raises `DataError` before minutes of measuring, not after."""
    path = Path(path)
    there = next(parent for parent in (path, *path.parents, Path(".")) if parent.exists())
    if path.is_dir() or (there != path and not there.is_dir()):
        raise DataError("is no file that can be written; choose another --json", path=path)


def write_report(report: Report, path: str | Path) -> None:
    """As JSON. Raises `DataError` where that is impossible."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}; choose another --json", path=path) from error


# ---------------------------------------------------------------- two reports


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side.

    Attributes:
        pairs: (now, earlier) rows of the same thing.
        only_now, only_earlier: rows without a partner.
        differences: (name, earlier value, value now) of the machine, the versions and the config.
    """

    pairs: list[tuple[Row, Row]]
    only_now: list[Row]
    only_earlier: list[Row]
    differences: list[tuple[str, Any, Any]]

    @property
    def comparable(self) -> bool:
        """Whether the numbers were measured on the same machine with the same config; versions may differ."""
        return all(name.startswith("versions.") for name, _, _ in self.differences)


NOT_COMPARED = ("machine.peak_gflops", "config.parts", "config.sizes", "config.batches", "config.repeat")
"""Measured anew each time, or part of the row's key."""


def compare(now: Report, earlier: Report) -> Comparison:
    """Rows matched by `Row.key`."""
    before = {row.key: row for row in earlier.rows}
    pairs = [(row, before[row.key]) for row in now.rows if row.key in before]
    keys = {row.key for row in now.rows}
    differences = []
    for group in ("machine", "versions", "config"):
        new, old = (dict(_flat(getattr(report, group), f"{group}.")) for report in (now, earlier))
        for name in sorted(new.keys() | old.keys()):
            if old.get(name) != new.get(name) and not name.startswith(NOT_COMPARED):
                differences.append((name, old.get(name), new.get(name)))
    return Comparison(
        pairs,
        [row for row in now.rows if row.key not in before],
        [row for row in earlier.rows if row.key not in keys],
        differences,
    )


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Nested tables -> dotted names; tuples as the lists that JSON makes of them."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.loads(json.dumps(value))
