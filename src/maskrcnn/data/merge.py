"""Several data sets as one: classes united by name, ids made unique. Works on columns; no record is unpacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema
from maskrcnn.table import Columns, Table

NO_MASK = "objects without a mask, whose box stands in for it"
TWICE = "images that another data set holds too"
NO_SPLIT = "images without a split, beside data with splits"
ENDS = ("objects", "masks", "polygon_rings", "ring_points", "rle_ends", "paths_ends", "file_paths_ends")
"""Columns that say where each piece ends; one longer than what they count."""
KINDS = ("polygon_rings", "rle_ends", "file_value")
"""The columns that `mask_at` points into, for each kind of mask."""


def merge_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """One data set of all images.

    Classes are united by their exact names, in order of first appearance, and keep their category id unless another
    class has it; image and annotation ids change only where they are taken. An image file that is there twice stays
    once, with the objects of the first. Boxes stand in for masks where only some data sets have masks. Beside data
    with splits, images without a split go to "train". Whatever was mended is in the warnings.

    Raises:
        DataError: nothing to merge, other keypoints, or a label without a class.
    """
    datasets = list(datasets)
    if not datasets:
        raise DataError("no data set to merge; give at least one")
    if len(datasets) == 1:
        return datasets[0]
    skipped = Skipped()
    schema = _schema(datasets)
    classes = tuple(dict.fromkeys(name for dataset in datasets for name in dataset.classes))
    tables = [_relabelled(dataset, classes) for dataset in datasets]
    if any(table.mask_counts.any() for table in tables):
        pairs = zip(datasets, tables, strict=True)
        tables = [_with_box_masks(table, dataset, skipped) for dataset, table in pairs]
    table = concat(tables)
    first = _first_of_each_file(datasets, table, skipped)
    table = _unique_ids(table if first is None else table.take(first))
    if schema is not None and table._columns["keypoints"].shape[1] == len(schema.names):  # zeros: not labelled
        table = with_columns(table, has_keypoints=np.ones(len(table._columns["has_keypoints"]), bool))
    table = _in_a_split(table, skipped)
    warnings = [*(w for dataset in datasets for w in dataset.warnings), *_alike(classes), *skipped.sentences()]
    return Dataset(
        records=table,
        classes=classes,
        category_ids=_category_ids(datasets, classes),
        keypoints=schema,
        name=" + ".join(dataset.name for dataset in datasets if dataset.name),
        format=", ".join(dict.fromkeys(dataset.format for dataset in datasets if dataset.format)),
        warnings=tuple(dict.fromkeys(warnings)),
    )


# ---------------------------------------------------------------- what the data sets agree on


def _schema(datasets: Sequence[Dataset]) -> KeypointSchema | None:
    """The keypoints of those that have any."""
    known = [dataset for dataset in datasets if dataset.keypoints is not None]
    for dataset in known:
        if dataset.keypoints != known[0].keypoints:
            ours, other = dataset.keypoints, known[0].keypoints
            message = (
                f"has keypoints {_named(ours)}, {known[0].name or 'another data set'} has {_named(other)}; "
                "data sets can only be merged where these are the same"
            )
            raise DataError(message, path=dataset.name or None)
    return known[0].keypoints if known else None


def _named(schema: KeypointSchema | None) -> str:
    names = () if schema is None else schema.names
    return f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} ({len(names)})"


def _category_ids(datasets: Sequence[Dataset], classes: tuple[str, ...]) -> tuple[int, ...]:
    """Each class keeps the id it had first; one that is taken gives way to an id above all others."""
    wanted: dict[str, int] = {}
    for dataset in datasets:
        for name, number in zip(dataset.classes, dataset.category_ids, strict=True):
            wanted.setdefault(name, number)
    spare = max([0, *(number for dataset in datasets for number in dataset.category_ids)])
    chosen: list[int] = []
    for name in classes:
        number = wanted[name]
        if number in chosen:
            number = spare = spare + 1
        chosen.append(number)
    return tuple(chosen)


def _alike(classes: Sequence[str]) -> list[str]:
    """A warning for each pair of names that are probably one class."""
    seen: dict[str, str] = {}
    warnings = []
    for name in classes:
        key = "".join(character for character in name.casefold() if character not in " _-\t")
        other = seen.setdefault(key, name)
        if other != name:
            warnings.append(f"kept classes {other!r} and {name!r} apart; rename one if they mean the same")
    return warnings


# ---------------------------------------------------------------- changes of one table


def with_columns(table: Table, **columns: np.ndarray) -> Table:
    """The same rows with other columns, each as long as those they replace."""
    return Table({**table._columns, **columns}, table._rows, table._makers)


def _relabelled(dataset: Dataset, classes: tuple[str, ...]) -> Table:
    """The records with labels into `classes`."""
    table = dataset.table
    used = table.labels
    wrong = np.flatnonzero((used < 0) | (used >= len(dataset.classes)))
    if len(wrong):
        image = int(table.image_ids[table.image_of[wrong[0]]])
        message = f"label {used[wrong[0]]} is not one of 0 to {len(dataset.classes) - 1}; mend the annotation"
        raise DataError(message, path=dataset.name or None, image=image)
    new = np.array([classes.index(name) for name in dataset.classes], np.int64)
    labels = table._columns["labels"]
    known = (labels >= 0) & (labels < len(new))  # rows that were not chosen may hold anything
    return with_columns(table, labels=np.where(known, new[np.where(known, labels, 0)], -1) if len(new) else labels)


def _with_box_masks(table: Table, dataset: Dataset, skipped: Skipped) -> Table:
    """A rectangle as the mask of each object, where the table has boxes only."""
    if table.mask_counts.any() or not table.counts.any():
        return table
    for number, box in zip(table.annotation_ids.tolist(), table.boxes.tolist(), strict=True):
        skipped.add(NO_MASK, Path(dataset.name or "dataset"), None, number, f"box {box}", verb="kept")
    boxes = table._columns["boxes"].astype(np.float64)
    count = len(boxes)
    empty = Table.of([])._columns
    return with_columns(
        table,
        **{name: empty[name] for name in empty if name.startswith(("rle_", "file_"))},
        masks=table._columns["objects"],
        mask_kind=np.zeros(count, np.int8),
        mask_at=np.arange(count),
        polygon_rings=np.arange(count + 1),
        ring_points=4 * np.arange(count + 1),
        points=boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2),
    )


# ---------------------------------------------------------------- many tables, one


def concat(tables: Sequence[Table]) -> Table:
    """All rows of all tables, one after the other. The columns are copied once; keypoints are padded with zeros."""
    all_columns = [table._columns for table in tables]
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
    rows = np.concatenate(_shifted([t._rows for t in tables], [len(c["image_id"]) for c in all_columns]))
    if not any(table._makers for table in tables):
        return Table(joined, rows)
    makers = [maker for t in tables for maker in (t._makers or [None] * len(t._columns["image_id"]))]
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


def _first_of_each_file(datasets: Sequence[Dataset], table: Table, skipped: Skipped) -> np.ndarray | None:
    """Rows without the image files that an earlier row names too; None: all rows stay."""
    seen: set[tuple[str, int]] = set()
    keep, row = [], 0
    for dataset in datasets:
        keys = set()
        for path, start, made in zip(*image_files(dataset.table), strict=True):
            key = os.path.abspath(path), start
            if not made and key in seen:
                skipped.add(TWICE, Path(dataset.name or "dataset"), None, None, path, verb="left out")
            else:
                keys.add(key)
                keep.append(row)
            row += 1
        seen |= keys
    return None if len(keep) == len(table) else np.array(keep, np.int64)


def image_files(table: Table) -> tuple[list[str], list[int], list[bool]]:
    """Of each image: its path, where in the file it starts (-1: at the beginning), whether a function makes it."""
    columns, rows = table._columns, table._rows
    ends, text = columns["paths_ends"], columns["paths_bytes"].tobytes()
    pieces = zip(ends[rows].tolist(), ends[rows + 1].tolist(), strict=True)
    paths = [text[first:stop].decode("utf-8", "surrogateescape") for first, stop in pieces]
    made = [bool(table._makers) and table._makers[row] is not None for row in rows.tolist()]
    return paths, columns["span"][rows, 0].tolist(), made


def _unique_ids(table: Table) -> Table:
    columns = table._columns
    image_id, annotation_ids = columns["image_id"].copy(), columns["annotation_ids"].copy()
    image_id[table._rows] = _unique(table.image_ids)
    annotation_ids[table._objects] = _unique(table.annotation_ids)
    return with_columns(table, image_id=image_id, annotation_ids=annotation_ids)


def _unique(ids: np.ndarray) -> np.ndarray:
    """Ids that were there before become new ones, above all."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    unique = ids.copy()
    unique[again] = max(int(ids.max(initial=0)), 0) + 1 + np.arange(again.sum())
    return unique


def _in_a_split(table: Table, skipped: Skipped) -> Table:
    """Images without a split join "train", where others have splits: without one they would be used for nothing."""
    splits = table.splits
    lacking = splits == ""
    if not lacking.any() or not set(splits) & {"train", "val"}:
        return table
    for path in image_files(table.take(np.flatnonzero(lacking)))[0]:
        skipped.add(NO_SPLIT, Path(path), None, None, 'now in "train"', verb="trained on")
    return with_splits(table, ["train" if name == "" else name for name in splits.tolist()])


def with_splits(table: Table, splits: Sequence[str]) -> Table:
    """The same images with these splits, one a row; "" for none."""
    names = list(dict.fromkeys(splits))
    number = {name: i for i, name in enumerate(names)}
    split = np.zeros(len(table._columns["split"]), np.int64)
    split[table._rows] = [number[name] for name in splits]
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    return with_columns(
        table,
        split=split,
        split_names_bytes=np.frombuffer(b"".join(encoded), np.uint8),
        split_names_ends=np.cumsum([0, *map(len, encoded)]),
    )
