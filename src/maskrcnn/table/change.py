"""Tables with other columns, and several tables as one. No record is unpacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskrcnn.table import Table
from maskrcnn.table.pack import Columns

ENDS = ("objects", "masks", "polygon_rings", "ring_points", "rle_ends", "paths_ends", "file_paths_ends")
"""Columns that say where each piece ends; one longer than what they count."""
OF_OBJECTS = ("boxes", "labels", "crowd", "areas", "annotation_ids", "keypoints")
OF_MASKS = ("mask_kind", "mask_at")
"""Columns with a row for each object, and for each mask."""
KINDS = ("polygon_rings", "rle_ends", "file_value")
"""The columns that `mask_at` points into, for each kind of mask."""


def concat(tables: Sequence[Table]) -> Table:
    """All rows of all tables, one after the other. The columns are copied once; keypoints are padded with zeros."""
    if len(tables) == 1:
        return tables[0]
    all_columns = [table.columns for table in tables]
    points = max(columns["keypoints"].shape[1] for columns in all_columns)
    joined: Columns = {}
    for name in all_columns[0]:
        parts = [columns[name] for columns in all_columns]
        if name in ENDS or name == "split_names_ends":
            parts = [np.zeros(1, np.int64), *_shifted([part[1:] for part in parts], [part[-1] for part in parts])]
        elif name == "split":
            parts = _shifted(parts, [len(columns["split_names_ends"]) - 1 for columns in all_columns])
        elif name == "mask_at":
            parts = _mask_places(all_columns)
        elif name == "keypoints":
            parts = [np.pad(part, ((0, 0), (0, points - part.shape[1]), (0, 0))) for part in parts]
        joined[name] = np.concatenate(parts)
    rows = np.concatenate(_shifted([t.rows for t in tables], [len(c["image_id"]) for c in all_columns]))
    if not any(table.makers for table in tables):
        return Table(joined, rows)
    makers = [maker for t in tables for maker in (t.makers or [None] * len(t.columns["image_id"]))]
    return Table(joined, rows, makers)


def _shifted(parts: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
    """Each part plus the lengths of those before it."""
    before = np.cumsum([0, *lengths])
    return [part + start for part, start in zip(parts, before, strict=False)]


def _mask_places(all_columns: Sequence[Columns]) -> list[np.ndarray]:
    before, places = np.zeros(len(KINDS), np.int64), []
    for columns in all_columns:
        places.append(columns["mask_at"] + before[columns["mask_kind"]])
        before += [len(columns[name]) - (name in ENDS) for name in KINDS]
    return places


def with_columns(table: Table, **columns: np.ndarray) -> Table:
    """The same rows with other columns, each as long as those they replace."""
    return Table({**table.columns, **columns}, table.rows, table.makers)


def mask_places(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(masks, objects), (M,) each: where in the columns the mask of an object lies, and which object of the table that
    is. Objects are left out where an image has not as many masks as objects."""
    objects = np.flatnonzero((table.counts == table.mask_counts)[table.image_of])
    first = table.columns["masks"][table.rows]
    before = np.cumsum(table.counts) - table.counts
    return (np.arange(table.counts.sum()) + np.repeat(first - before, table.counts))[objects], objects


def with_boxes(table: Table, boxes: np.ndarray, keep: np.ndarray) -> Table:
    """The table with these boxes, (N, 4), and of its objects and their masks only those to keep, (N,)."""
    columns, objects = table.columns, table.objects
    all_boxes = np.array(columns["boxes"])
    all_boxes[objects] = boxes
    if keep.all():
        return with_columns(table, boxes=all_boxes)
    masks, paired = mask_places(table)
    kept_objects, kept_masks = np.ones(len(all_boxes), bool), np.ones(len(columns["mask_kind"]), bool)
    kept_objects[objects], kept_masks[masks] = keep, keep[paired]
    changed = {"boxes": all_boxes}
    for names, ends, kept in ((OF_OBJECTS, "objects", kept_objects), (OF_MASKS, "masks", kept_masks)):
        changed |= {name: changed.get(name, columns[name])[kept] for name in names}
        changed[ends] = np.concatenate([[0], np.cumsum(kept)])[columns[ends]]
    return with_columns(table, **changed)


def with_splits(table: Table, splits: Sequence[str]) -> Table:
    """The same images with these splits, one a row; "" for none."""
    names = list(dict.fromkeys(splits))
    number = {name: i for i, name in enumerate(names)}
    split = np.zeros(len(table.columns["split"]), np.int64)
    split[table.rows] = [number[name] for name in splits]
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    return with_columns(
        table,
        split=split,
        split_names_bytes=np.frombuffer(b"".join(encoded), np.uint8),
        split_names_ends=np.cumsum([0, *map(len, encoded)]),
    )


def image_files(table: Table) -> tuple[list[str], list[int], list[bool]]:
    """Of each image: its path, where in the file it starts (-1: at the beginning), whether a function makes it."""
    columns, rows = table.columns, table.rows
    ends, text = columns["paths_ends"], columns["paths_bytes"].tobytes()
    pieces = zip(ends[rows].tolist(), ends[rows + 1].tolist(), strict=True)
    paths = [text[first:stop].decode("utf-8", "surrogateescape") for first, stop in pieces]
    made = [bool(table.makers) and table.makers[row] is not None for row in rows.tolist()]
    return paths, columns["span"][rows, 0].tolist(), made
