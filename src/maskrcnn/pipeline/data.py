"""The records that a pipeline.config names, opened as our data sets: paths, label map, classes as the API numbers them.

Every check happens before the first record is read, so that a wrong path ends in a sentence at once.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.errors import ConfigError, DataError
from maskrcnn.pipeline.read import Pipeline, Reader

if TYPE_CHECKING:
    from maskrcnn.data.formats.label_map import Item
    from maskrcnn.dataset import Dataset

PLACEHOLDER = re.compile(r"TO_BE_CONFIGURED|PATH_TO|\bYOUR_|path/to/|<[^<>]+>|\$\{?[A-Z_]+\}?")
INPUT = "tf_record_input_reader.input_path"


def open_pipeline_data(
    pipeline: Pipeline, *, train: Sequence[str] = (), val: Sequence[str] = (), masks: bool = True
) -> tuple[Dataset, Dataset | None, list[str]]:
    """(train, val, notes): the data of the input readers, classes as in the label map, in the order of their ids.

    Args:
        pipeline: a file that was read.
        train, val: records in place of those of the readers.
        masks: whether the masks will be trained on; False for boxes alone.

    Raises:
        ConfigError: a reader, path or label map that is missing or still a placeholder, masks that are not loaded, or
            a label map with other ids than `num_classes`.
        DataError: records or label map that cannot be read, or without masks.
    """
    if masks:
        check_masks(pipeline)
    check_placeholders(pipeline, train=not train, val=not val, weights=False)
    if pipeline.train_data is None:
        raise ConfigError(f"{pipeline.path}: has no train_input_reader; add one, or name the records behind the file")
    readers = [(pipeline.train_data, train), (pipeline.val_data, val)]
    opened: list[Dataset | None] = []
    notes: list[str] = []
    files = [_files(pipeline, reader, given) for reader, given in readers]
    items = [_label_map(pipeline, reader or pipeline.train_data) for reader, _ in readers]
    for (reader, _), paths, known in zip(readers, files, items, strict=True):
        dataset = _open(paths, known, notes) if paths else None
        if dataset is not None and masks and not dataset.has_masks:
            name = reader.field if reader else "the records"
            raise DataError(
                f"{name} loads instance masks, but no record has image/object/mask; write the records with masks, or "
                "add --model.mask null to train boxes only",
                path=dataset.name,
            )
        opened.append(dataset)
    assert opened[0] is not None
    return opened[0], opened[1], notes


def fine_tune_checkpoint(pipeline: Pipeline) -> Path | None:
    """Where the weights to start from lie; None where the file names none. Raises `ConfigError` for a wrong path."""
    given = pipeline.fine_tune_checkpoint
    if not given:
        return None
    line = f"{pipeline.path}:{_line(pipeline, 'fine_tune_checkpoint')}: train_config.fine_tune_checkpoint"
    for path in _places(given, pipeline.path):
        if path.exists() or path.with_name(path.name + ".index").exists():
            return path
    raise ConfigError(f"{line}: no checkpoint {given!r}; mend the path, or give --weights PATH (none: random weights)")


# ---------------------------------------------------------------- checks of the file


def check_masks(pipeline: Pipeline) -> None:
    """Raises `ConfigError` naming what is missing for masks, and the command that adds it."""
    recipe = f"`maskrcnn convert config {shlex.quote(str(pipeline.path))} mask_rcnn.config --add-masks`"
    if pipeline.config.model.mask is None:
        raise ConfigError(
            f"{pipeline.path}: describes Faster R-CNN, without masks; {recipe} makes a Mask R-CNN of it, and "
            "--model.mask null trains boxes only"
        )
    for reader in filter(None, (pipeline.train_data, pipeline.val_data)):
        if not reader.masks:
            line = reader.lines.get("load_instance_masks", reader.lines[""])
            raise ConfigError(
                f"{pipeline.path}:{line}: {reader.field} does not load masks (load_instance_masks is false); set it to "
                f"true, as {recipe} does"
            )


def check_placeholders(pipeline: Pipeline, *, train: bool = True, val: bool = True, weights: bool = True) -> None:
    """Raises `ConfigError` naming every path that is still to be filled in; records and weights only where asked."""
    found = list(_placeholders(pipeline, train, val))
    if weights and PLACEHOLDER.search(given := pipeline.fine_tune_checkpoint):
        found.append(("train_config.fine_tune_checkpoint", _line(pipeline, "fine_tune_checkpoint"), given))
    if found:
        places = ", ".join(f"{field} (line {line})" for field, line, _ in found)
        raise ConfigError(
            f"{pipeline.path}:{found[0][1]}: {found[0][2]!r} is still a placeholder; put real paths into {places}, or "
            "use `maskrcnn convert config` with --train-records, --val-records, --label-map and --checkpoint"
        )


def _placeholders(pipeline: Pipeline, train: bool, val: bool) -> Iterator[tuple[str, int, str]]:
    for reader, paths in ((pipeline.train_data, train), (pipeline.val_data, val)):
        if reader is None:
            continue
        fields = [(INPUT, path) for path in reader.paths if paths] + [("label_map_path", reader.label_map)]
        for field, text in fields:
            if PLACEHOLDER.search(text):
                yield f"{reader.field}.{field}", reader.lines.get(field, reader.lines[""]), text


def _line(pipeline: Pipeline, field: str) -> int:
    entry = pipeline.message.part("train_config").first(field)
    return entry.line if entry else 1


def _places(given: str, config: Path) -> list[Path]:
    """A path as it stands, and beside the pipeline.config."""
    path = Path(given).expanduser()
    return [path] if path.is_absolute() else [path, config.parent / path]


# ---------------------------------------------------------------- records and label map


def _files(pipeline: Pipeline, reader: Reader | None, given: Sequence[str]) -> list[Path]:
    """Files and patterns that are there. Raises `ConfigError` for the first that is not."""
    if given:
        return [Path(path) for path in given]
    if reader is None:
        return []
    where = f"{pipeline.path}:{reader.lines[INPUT]}: {reader.field}.{INPUT}"
    if not any(reader.paths):
        raise ConfigError(f"{where} is empty; name the TFRecords")
    found = []
    for text in reader.paths:
        places = [place for place in _places(text, pipeline.path) if _matches(place)]
        if not places:
            raise ConfigError(
                f"{where}: no file {text!r}; mend the path, or use `maskrcnn convert config` with --train-records and "
                "--val-records"
            )
        found.append(places[0])
    return found


def _matches(path: Path) -> bool:
    if any(sign in path.name for sign in "*?["):
        return any(path.parent.glob(path.name))
    return path.exists()


def _label_map(pipeline: Pipeline, reader: Reader) -> list[Item]:
    """The items with an id that the model knows, by id. Raises `ConfigError` where the ids are others."""
    from maskrcnn.data.formats.label_map import read_label_map

    where = f"{pipeline.path}:{reader.lines.get('label_map_path', reader.lines[''])}: {reader.field}.label_map_path"
    if not reader.label_map:
        raise ConfigError(f"{where} is missing; it names the classes")
    file = next((place for place in _places(reader.label_map, pipeline.path) if place.is_file()), None)
    if file is None:
        remedy = "mend the path, or use `maskrcnn convert config` with --label-map"
        raise ConfigError(f"{where}: no file {reader.label_map!r}; {remedy}")
    items = sorted((item for item in read_label_map(file) if item.id), key=lambda item: item.id)  # 0: background
    if not items or items[0].id < 1:
        raise ConfigError(f"{where}: {file} has no class with an id from 1 on")
    if items[-1].id != pipeline.num_classes:
        raise ConfigError(
            f"{where}: ids in {file} go up to {items[-1].id}, but model.faster_rcnn.num_classes is "
            f"{pipeline.num_classes}; make num_classes the largest id"
        )
    return items


def _open(paths: list[Path], items: list[Item], notes: list[str]) -> Dataset:
    from maskrcnn.data.cache import cached
    from maskrcnn.data.formats import tfrecord
    from maskrcnn.data.merge import merge_datasets

    opened = []
    for path in paths:
        if not tfrecord.sniff(path):
            raise DataError(f"holds no TFRecords; {tfrecord.LOOKS_FOR} are read", path=path)
        # The reader takes the same label map, so that an id that the records do not have is none of the map's.
        name = f"tfrecord {[(item.id, item.name, item.shown) for item in items]}"
        opened.append(cached(path, name, partial(tfrecord.read, path, items)))
    return with_label_map(merge_datasets(opened), items, notes)


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
    for label, (name, number) in enumerate(zip(dataset.classes, dataset.category_ids, strict=True)):
        new[label] = index.get(name, by_id.get(number, -1))
        if name not in index and counts[label]:
            met = f"taken for {items[new[label]].shown!r}, whose id it has" if new[label] >= 0 else "left out"
            note = f"class {name!r} (id {number}, {counts[label]} objects) is not in the label map: {met}"
            notes += [note] if note not in notes else []
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
    )
