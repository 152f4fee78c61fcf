"""Records -> columns: what each column holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record, Span

NONE = np.iinfo(np.int64).min
"""Stands for None in an integer column."""
NO_MASK, POLYGONS, RLES, FILES = -1, 0, 1, 2
"""Values of `mask_kind`; NO_MASK is for readers that are not done yet."""

Columns = dict[str, np.ndarray]


def pack(records: Sequence[Record]) -> Columns:
    masks = [mask for record in records for mask in record.masks]
    splits = list(dict.fromkeys(record.split for record in records)) or [""]
    points = max((record.keypoints.shape[1] for record in records if record.keypoints is not None), default=0)
    return {
        "image_id": np.array([record.image_id for record in records], np.int64),
        "height": np.array([record.height for record in records], np.int64),
        "width": np.array([record.width for record in records], np.int64),
        "span": spans_of([record.span for record in records]),
        "split": np.array([splits.index(record.split) for record in records], np.int64),
        "has_keypoints": np.array([record.keypoints is not None for record in records], bool),
        "objects": ends_of([len(record) for record in records]),
        "masks": ends_of([len(record.masks) for record in records]),
        "boxes": _joined([record.boxes for record in records], np.float32, (4,)),
        "labels": _joined([record.labels for record in records], np.int64),
        "crowd": _joined([record.crowd for record in records], np.bool_),
        "areas": _joined([record.areas for record in records], np.float32),
        "annotation_ids": _joined([record.annotation_ids for record in records], np.int64),
        "keypoints": _joined([_points_of(record, points) for record in records], np.float32, (points, 3)),
        **text_of("paths", [str(record.path) for record in records]),
        **text_of("split_names", splits),
        **_pack_masks(masks),
    }


def _pack_masks(masks: Sequence[Mask]) -> Columns:
    polygons = [mask for mask in masks if isinstance(mask, Polygons)]
    rles = [mask for mask in masks if isinstance(mask, RLE)]
    files = [mask for mask in masks if isinstance(mask, MaskFile)]
    rings = [ring for mask in polygons for ring in mask.rings]
    kinds = np.array([_kind(mask) for mask in masks], np.int8)
    at = np.zeros(len(masks), np.int64)
    for kind in (POLYGONS, RLES, FILES):
        at[kinds == kind] = np.arange((kinds == kind).sum())
    values = [(NONE if m.value is None else m.value, *((NONE, NONE) if m.raw is None else m.raw)) for m in files]
    return {
        "mask_kind": kinds,
        "mask_at": at,
        "polygon_rings": ends_of([len(mask.rings) for mask in polygons]),
        "ring_points": ends_of([len(ring) for ring in rings]),
        "points": _joined(rings, np.float64, (2,)),
        "rle_size": np.array([mask.size for mask in rles], np.int64).reshape(-1, 2),
        "rle_ends": ends_of([len(mask.counts) for mask in rles]),
        "rle_bytes": np.frombuffer(b"".join(mask.counts for mask in rles), np.uint8),
        "file_value": np.array(values, np.int64).reshape(-1, 3),
        "file_span": spans_of([mask.span for mask in files]),
        **text_of("file_paths", [str(mask.path) for mask in files]),
    }


def _kind(mask: Mask) -> int:
    return POLYGONS if isinstance(mask, Polygons) else RLES if isinstance(mask, RLE) else FILES


def _points_of(record: Record, points: int) -> np.ndarray:
    empty = np.zeros((len(record), points, 3), np.float32)
    return empty if record.keypoints is None else record.keypoints


def ends_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """(N + 1,) where each piece starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


def _joined(parts: Sequence[np.ndarray], dtype: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape), dtype), *parts], dtype=dtype, casting="unsafe")


def spans_of(spans: Sequence[Span | None]) -> np.ndarray:
    """(N, 2) start and length; -1 for None."""
    return np.array([(-1, -1) if s is None else (s.start, s.length) for s in spans], np.int64).reshape(-1, 2)


def span_of(pair: np.ndarray) -> Span | None:
    start, length = pair.tolist()
    return None if start < 0 else Span(start, length)


def text_of(name: str, texts: Sequence[str]) -> Columns:
    """Strings as one run of bytes. `surrogateescape`: file names need not be valid UTF-8."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    joined = np.frombuffer(b"".join(encoded), np.uint8)
    return {f"{name}_bytes": joined, f"{name}_ends": ends_of([len(text) for text in encoded])}


def string_of(columns: Columns, name: str, index: int) -> str:
    first, stop = columns[f"{name}_ends"][index : index + 2].tolist()
    return columns[f"{name}_bytes"][first:stop].tobytes().decode("utf-8", "surrogateescape")


def strings_of(columns: Columns, name: str) -> list[str]:
    joined, ends = columns[f"{name}_bytes"].tobytes(), columns[f"{name}_ends"].tolist()
    return [joined[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(ends)]
