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
from maskrcnn.table import Table
from maskrcnn.table.change import concat, image_files, with_columns, with_splits

NO_MASK = "objects without a mask, whose box stands in for it"
TWICE = "images that another data set holds too"
NO_SPLIT = "images without a split, beside data with splits"


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
    if schema is not None and table.columns["keypoints"].shape[1] == len(schema.names):  # zeros: not labelled
        table = with_columns(table, has_keypoints=np.ones(len(table.columns["has_keypoints"]), bool))
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
    labels = table.columns["labels"]
    known = (labels >= 0) & (labels < len(new))  # rows that were not chosen may hold anything
    return with_columns(table, labels=np.where(known, new[np.where(known, labels, 0)], -1) if len(new) else labels)


def _with_box_masks(table: Table, dataset: Dataset, skipped: Skipped) -> Table:
    """A rectangle as the mask of each object, where the table has boxes only."""
    if table.mask_counts.any() or not table.counts.any():
        return table
    for number, box in zip(table.annotation_ids.tolist(), table.boxes.tolist(), strict=True):
        skipped.add(NO_MASK, Path(dataset.name or "dataset"), None, number, f"box {box}", verb="kept")
    boxes = table.columns["boxes"].astype(np.float64)
    count = len(boxes)
    empty = Table.of([]).columns
    return with_columns(
        table,
        **{name: empty[name] for name in empty if name.startswith(("rle_", "file_"))},
        masks=table.columns["objects"],
        mask_kind=np.zeros(count, np.int8),
        mask_at=np.arange(count),
        polygon_rings=np.arange(count + 1),
        ring_points=4 * np.arange(count + 1),
        points=boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2),
    )


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


def _unique_ids(table: Table) -> Table:
    if len(np.unique(table.rows)) < len(table):  # an image chosen twice: each has columns of its own
        table = Table.of(list(table))
    columns = table.columns
    image_id, annotation_ids = columns["image_id"].copy(), columns["annotation_ids"].copy()
    image_id[table.rows] = _unique(table.image_ids)
    annotation_ids[table.objects] = _unique(table.annotation_ids)
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
