"""An evaluation on disk: numbers as JSON and CSV, the results themselves, and the explanation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskrcnn.errors import DataError
from maskrcnn.evaluation.bootstrap import Difference
from maskrcnn.evaluation.explain import Explanation
from maskrcnn.evaluation.findings import Findings
from maskrcnn.evaluation.metrics import Metrics
from maskrcnn.predict.whole import write_whole


def write_evaluation(
    out: str | Path,
    metrics: Metrics,
    *,
    findings: Findings | None = None,
    explanation: Explanation | None = None,
    comparison: Mapping[str, Difference] | None = None,
) -> list[Path]:
    """Write what there is into a folder; each file is there whole or not at all.

    `metrics.json` (all numbers), `metrics.csv` (kind, metric, value), `per_class.csv` (kind, class, and a column for
    each number), `results.json` (COCO results, which `maskrcnn evaluate` takes again), `explanation.json` and
    `comparison.json`.

    Raises:
        DataError: the folder cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make this folder: {error.strerror or error}; choose another --out"
        raise DataError(message, path=out) from error
    texts = {
        "metrics.json": json.dumps(metrics.to_dict(), indent=1),
        "metrics.csv": metrics_csv(metrics),
        "per_class.csv": class_csv(metrics),
    }
    if findings is not None:
        texts["results.json"] = json.dumps(findings.results)
    if explanation is not None:
        texts["explanation.json"] = json.dumps(explanation.to_dict())
    if comparison:
        texts["comparison.json"] = json.dumps({kind: asdict(found) for kind, found in comparison.items()}, indent=1)
    return [_written(out / name, text) for name, text in texts.items()]


def metrics_csv(metrics: Metrics) -> str:
    """Rows of kind, metric and value; -1 where there is no object to find."""
    rows: list[list[Any]] = [["kind", "metric", "value"]]
    rows += [[kind, name, value] for kind, numbers in metrics.kinds().items() for name, value in numbers.items()]
    for count, row in metrics.by_count.items():
        rows += [[kind, f"ap with {count} objects", row[kind]] for kind in ("box", "mask") if kind in row]
    return _csv(rows)


def class_csv(metrics: Metrics) -> str:
    """A row for each kind and class."""
    names = list(dict.fromkeys(name for kind in metrics.by_class.values() for one in kind.values() for name in one))
    rows: list[list[Any]] = [["kind", "class", *names]]
    for kind, classes in metrics.by_class.items():
        rows += [[kind, name, *(numbers.get(column, "") for column in names)] for name, numbers in classes.items()]
    return _csv(rows)


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _written(path: Path, text: str) -> Path:
    return write_whole(path, lambda file: file.write(text.encode("utf-8")))
