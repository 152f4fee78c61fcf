"""Lines of a `Journal` with tracks -> files of the multiple object tracking benchmarks, and what was counted.

Boxes and masks: original frame, pixels; frames from 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

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
    counted = {name: {"frames": last["frame"] + 1, **last["counts"]} for name, last in _last(lines)}
    return write_whole(path, lambda file: file.write(json.dumps(counted, indent=1).encode()))


def _last(lines: Iterable[Line]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, frames in groupby(_tracked(lines), key=lambda line: line["tracks"]["sequence"]):
        tracks: Mapping[str, Any] = {}
        for line in frames:
            tracks = line["tracks"]
        yield name, tracks


def _write(lines: Iterable[Line], folder: Path, kind: str, row: Callable[[int, Line, Mapping], str]) -> list[Path]:
    paths = []
    for name, frames in groupby(_tracked(lines), key=lambda line: line["tracks"]["sequence"]):
        texts = (
            f"{row(line['tracks']['frame'] + 1, line, found)}\n".encode()
            for line in frames
            for found in sorted(line["instances"], key=lambda found: found["track_id"])
        )
        paths.append(write_whole(folder / f"{name}_{kind}.txt", lambda file, texts=texts: file.writelines(texts)))  # type: ignore[misc]
    return paths


def _tracked(lines: Iterable[Line]) -> Iterator[Line]:
    return (line for line in lines if line["tracks"])


def _box(frame: int, line: Line, found: Mapping) -> str:
    box = ",".join(f"{value:.2f}" for value in found["bbox"])
    return f"{frame},{found['track_id']},{box},{found['score']:.4f},-1,-1,-1"


def _mask(frame: int, line: Line, found: Mapping) -> str:
    rle = found["segmentation"]
    return f"{frame} {found['track_id']} {found['category_id']} {rle['size'][0]} {rle['size'][1]} {rle['counts']}"
