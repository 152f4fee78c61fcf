"""The label map that a pipeline.config names: its items, and data sets with its classes, numbered as the API does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.errors import ConfigError, DataError
from maskrcnn.pipeline.read import Pipeline, Reader

if TYPE_CHECKING:
    from maskrcnn.data.formats.label_map import Item
    from maskrcnn.dataset import Dataset

PLACEHOLDER = re.compile(r"TO_BE_CONFIGURED|PATH_TO|\bYOUR_|path/to/|<[^<>]+>|\$\{?[A-Z_]+\}?")
"""What stands in published files for the paths of the user."""
CONTRADICTED = "class/text is not what the label map says"
"""What the reader of records warns of, which the notes of `with_label_map` say better."""


def places(given: str, config: Path) -> list[Path]:
    """A path as it stands, and beside the pipeline.config."""
    path = Path(given).expanduser()
    return [path] if path.is_absolute() else [path, config.parent / path]


def is_there(path: Path) -> bool:
    """Whether it is a file or folder, a pattern of some, or the name that the files of a checkpoint begin with."""
    if any(sign in path.name for sign in "*?["):
        return any(path.parent.glob(path.name))
    return path.exists() or path.parent.joinpath(f"{path.name}.index").exists()


def label_map_of(pipeline: Pipeline, reader: Reader, notes: list[str]) -> list[Item]:
    """The items of a reader's label map, by id. Raises `ConfigError` where the model has fewer classes."""
    where = f"{pipeline.path}:{reader.lines.get('label_map_path', reader.lines[''])}: {reader.field}.label_map_path"
    if not reader.label_map:
        raise ConfigError(f"{where} is missing; it names the classes")
    file = next((place for place in places(reader.label_map, pipeline.path) if place.is_file()), None)
    if file is None:
        remedy = "mend the path, or use `maskrcnn convert config` with --label-map"
        raise ConfigError(f"{where}: no file {reader.label_map!r}; {remedy}")
    items = read_items(file)
    largest, classes = items[-1].id, pipeline.num_classes
    if largest > classes:
        raise ConfigError(
            f"{where}: ids in {file} go up to {largest}, but model.faster_rcnn.num_classes is {classes}; make "
            "num_classes the largest id"
        )
    if largest < classes:
        note = f"ids in {file} go up to {largest}, num_classes is {classes}: ids without a name get no class here"
        notes += [note] if note not in notes else []
    return items


def read_items(file: Path) -> list[Item]:
    """The classes of a label map, by id. Raises `DataError` for a damaged one, or one without classes."""
    from maskrcnn.data.formats.label_map import read_label_map

    items = sorted(read_label_map(file), key=lambda item: item.id)
    if not items or items[0].id < 1:
        raise DataError("has no class with an id from 1 on; name at least one", path=file)
    return items


def with_label_map(dataset: Dataset, items: Sequence[Item], notes: list[str]) -> Dataset:
    """The data set with the classes of a label map, whatever classes it had; no splits are left.

    A class is found by its name or display name; by its id only where the label map does not know the name, which is
    noted. Objects of classes that are not in the label map are left out, as the API does, and counted in `notes`.
    """
    from maskrcnn.table.change import with_boxes, with_columns, with_splits

    index = {item.shown: i for i, item in enumerate(items)}
    index = {item.name: i for i, item in enumerate(items)} | index
    by_id = {item.id: i for i, item in enumerate(items)}
    new = np.full(max(len(dataset.classes), 1), -1, np.int64)
    counts = dataset.class_counts()
    told = False
    for label, (name, number) in enumerate(zip(dataset.classes, dataset.category_ids, strict=True)):
        new[label] = index.get(name, by_id.get(number, -1))
        if name not in index and counts[label]:
            met = f"taken for {items[new[label]].shown!r}, whose id it has" if new[label] >= 0 else "left out"
            note = f"class {name!r} (id {number}, {counts[label]} objects) is not in the label map: {met}"
            notes += [note] if note not in notes else []
            told = True
    table = dataset.table
    labels = table.columns["labels"]
    known = (labels >= 0) & (labels < len(new))
    table = with_columns(table, labels=np.where(known, new[np.where(known, labels, 0)], -1))
    table = with_boxes(table, table.boxes, table.labels >= 0)
    return replace(
        dataset,
        records=with_splits(table, [""] * len(table)),
        classes=tuple(item.shown for item in items),
        category_ids=tuple(item.id for item in items),
        warnings=tuple(w for w in dataset.warnings if not told or CONTRADICTED not in w),
    )
