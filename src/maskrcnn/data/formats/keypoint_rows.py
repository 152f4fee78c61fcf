"""Keypoints of objects, put back after `assemble`, which knows objects by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maskrcnn.data.formats.coco import schema_of
from maskrcnn.dataset import Dataset
from maskrcnn.structures import KeypointSchema, Record

Rows = dict[int, np.ndarray]
"""Number of an object in its image -> (K, 3) x, y, visibility."""


def keypoint_schema(names: Sequence[str]) -> KeypointSchema | None:
    """Names, and the pairs that "left" and "right" make; None without names."""
    return schema_of([{"keypoints": list(names)}])


def with_keypoints(dataset: Dataset, rows: Sequence[Rows], schema: KeypointSchema | None) -> Dataset:
    """`rows`: one dict an image. Objects without a row, or with one of another length, have all points at 0."""
    if schema is None or not any(rows):
        return dataset
    records = [_with_rows(record, found, len(schema.names)) for record, found in zip(dataset, rows, strict=True)]
    return replace(dataset, records=records, keypoints=schema)


def _with_rows(record: Record, rows: Rows, count: int) -> Record:
    points = np.zeros((len(record), count, 3), np.float32)
    for i, number in enumerate(record.annotation_ids.tolist()):
        row = rows.get(number)
        if row is not None and row.shape == (count, 3) and np.isfinite(row).all():
            points[i] = row
    return replace(record, keypoints=points)
