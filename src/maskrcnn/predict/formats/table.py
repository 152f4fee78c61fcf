"""Lines of a `Journal` -> `predictions.csv`, one row an instance, for spreadsheets. Original frame, pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from maskrcnn.predict.coco import address_of
from maskrcnn.predict.journal import instances_of
from maskrcnn.predict.whole import write_whole

HEADER = (
    "image",
    "file",
    "frame",
    "seconds",
    "track",
    "class",
    "score",
    "x0",
    "y0",
    "x1",
    "y1",
    "area",
    "centroid_x",
    "centroid_y",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(lines: Iterable[Mapping[str, Any]], path: Path) -> Path:
    """UTF-8; a text that a spreadsheet would take for a formula gets a quote in front. `file` is the address
    of what was downloaded; bytes of a name that are no UTF-8 are written as \\udcXX."""

    def rows(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(HEADER)
        for line in lines:
            instances = instances_of(line)
            file_name = address_of(line) or line["path"] or line["file"] or ""
            start = [_plain(line["name"]), _plain(file_name), line["frame"], line["seconds"]]
            ids = instances.tracks.ids.tolist() if instances.tracks else [None] * len(instances)
            arrays = (instances.scores, instances.boxes, instances.areas, instances.centroids)
            parts = zip(ids, instances.names, *(array.tolist() for array in arrays), strict=True)
            for number, name, score, box, area, centroid in parts:
                numbers = [f"{value:.6g}" for value in (score, *box)]
                writer.writerow(
                    [*start, number, _plain(name), *numbers, f"{area:.10g}", *(f"{v:.10g}" for v in centroid)]
                )
        text.flush()
        text.detach()

    return write_whole(path, rows)


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
