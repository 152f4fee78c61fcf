"""Lines of a `Journal` with tracks -> files of the multiple object tracking benchmarks, and what was counted.

Boxes and masks: original frame, pixels; frames from 1.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from maskrcnn.errors import DataError
from maskrcnn.predict.whole import write_whole

Line = Mapping[str, Any]


def write_boxes(lines: Iterable[Line], folder: Path) -> list[Path]:
    """`SEQUENCE_mot.txt`: frame, id, left, top, width, height, score, -1, -1, -1 (MOT16, arXiv 1603.00831)."""
    return _write(lines, folder, "mot", _box)


def write_masks(lines: Iterable[Line], folder: Path) -> list[Path]:
    """`SEQUENCE_mots.txt`: frame, id, category id, height, width, RLE (MOTS, arXiv 1902.03604).

    Masks of the benchmark share no pixels; ours are written as they were found.
    """
    return _write((line for line in lines if line["masks"]), folder, "mots", _mask)


def write_counts(lines: Iterable[Line], path: Path) -> Path:
    """A dict of sequences: `frames`, `objects` by class, `lines` and `zones`, see `maskrcnn.tracks.Counts`."""
    last = {line["tracks"]["sequence"]: line["tracks"] for line in _tracked(lines)}
    counted = {name: {"frames": tracks["frame"] + 1, **tracks["counts"]} for name, tracks in last.items()}
    return write_whole(path, lambda file: file.write(json.dumps(counted, indent=1).encode()))


def _write(lines: Iterable[Line], folder: Path, kind: str, row: Callable[[int, Line, Mapping], str]) -> list[Path]:
    """A file for each sequence; their frames may come in turns."""
    parts: dict[str, Path] = {}
    try:
        for name, frames in groupby(_tracked(lines), key=lambda line: line["tracks"]["sequence"]):
            new = name not in parts
            parts[name] = folder / f".{_as_file(name)}_{kind}.part"
            with parts[name].open("wb" if new else "ab") as file:
                for line in frames:
                    for found in sorted(line["instances"], key=lambda found: found["track_id"]):
                        file.write(f"{row(line['tracks']['frame'] + 1, line, found)}\n".encode())
        paths = {name: folder / f"{_as_file(name)}_{kind}.txt" for name in parts}
        for name, path in paths.items():
            os.replace(parts[name], path)
    except OSError as error:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise DataError(f"cannot write: {error.strerror or error}; free some space", path=folder) from error
    return list(paths.values())


def _as_file(name: str) -> str:
    return re.sub(r'[\\/:*?"<>|\0]', "_", name) or "film"


def _tracked(lines: Iterable[Line]) -> Iterator[Line]:
    return (line for line in lines if line["tracks"])


def _box(frame: int, line: Line, found: Mapping) -> str:
    box = ",".join(f"{value:.2f}" for value in found["bbox"])
    return f"{frame},{found['track_id']},{box},{found['score']:.4f},-1,-1,-1"


def _mask(frame: int, line: Line, found: Mapping) -> str:
    rle = found["segmentation"]
    return f"{frame} {found['track_id']} {found['category_id']} {rle['size'][0]} {rle['size'][1]} {rle['counts']}"
