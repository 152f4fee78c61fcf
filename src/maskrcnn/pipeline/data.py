"""The records that a pipeline.config names, opened as our data sets: paths, label map, classes as the API numbers them.

Every check happens before the first record is read, so that a wrong path ends in a sentence at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maskrcnn.errors import ConfigError, DataError
from maskrcnn.pipeline.labels import PLACEHOLDER, is_there, label_map_of, places, with_label_map
from maskrcnn.pipeline.read import Pipeline, Reader

if TYPE_CHECKING:
    from maskrcnn.data.formats.label_map import Item
    from maskrcnn.dataset import Dataset

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
    notes: list[str] = []
    readers = [(pipeline.train_data, train)]
    if pipeline.val_data is not None or val:
        readers.append((pipeline.val_data or pipeline.train_data, val))
    parts = [_Part(reader, _files(pipeline, reader, g), label_map_of(pipeline, reader, notes)) for reader, g in readers]
    opened = [_open(parts[0], masks, notes)]
    for part in parts[1:]:
        same = (part.paths, part.items) == (parts[0].paths, parts[0].items)
        opened.append(opened[0] if same else _open(part, masks, notes))
    return opened[0], opened[1] if len(opened) > 1 else None, notes


def open_validation(pipeline: Pipeline, records: Sequence[str] = (), label_map: str = "") -> tuple[Dataset, list[str]]:
    """(data, notes): what the `eval_input_reader` names, to measure a model on, with masks where the records have some.

    Args:
        pipeline: a file that was read.
        records: in place of those of the reader.
        label_map: in place of that of the reader.

    Raises:
        ConfigError, DataError: as `open_pipeline_data`.
    """
    if pipeline.val_data is None:
        raise ConfigError(f"{pipeline.path}: has no eval_input_reader; add one, or name the records alone")
    reader = replace(pipeline.val_data, label_map=label_map or pipeline.val_data.label_map)
    check_placeholders(replace(pipeline, train_data=None, val_data=reader), val=not records, weights=False)
    notes: list[str] = []
    part = _Part(reader, _files(pipeline, reader, records), label_map_of(pipeline, reader, notes))
    return _open(part, False, notes), notes


def fine_tune_checkpoint(pipeline: Pipeline) -> Path | None:
    """Where the weights to start from lie; None where the file names none. Raises `ConfigError` for a wrong path."""
    given = pipeline.fine_tune_checkpoint
    if not given:
        return None
    line = f"{pipeline.path}:{_line(pipeline, 'fine_tune_checkpoint')}: train_config.fine_tune_checkpoint"
    for path in places(given, pipeline.path):
        if is_there(path):
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


# ---------------------------------------------------------------- records


def _files(pipeline: Pipeline, reader: Reader, given: Sequence[str]) -> list[Path]:
    """Files and patterns that are there. Raises `ConfigError` for the first that is not."""
    if given:
        return [Path(path) for path in given]
    where = f"{pipeline.path}:{reader.lines[INPUT]}: {reader.field}.{INPUT}"
    if not any(reader.paths):
        raise ConfigError(f"{where} is empty; name the TFRecords")
    found = []
    for text in reader.paths:
        there = [place for place in places(text, pipeline.path) if is_there(place)]
        if not there:
            raise ConfigError(
                f"{where}: no file {text!r}; mend the path, or use `maskrcnn convert config` with --train-records and "
                "--val-records"
            )
        found.append(there[0])
    return found


class _Part(NamedTuple):
    """What a reader stands for, looked up and not opened yet."""

    reader: Reader
    paths: list[Path]
    items: list[Item]


def _open(part: _Part, masks: bool, notes: list[str]) -> Dataset:
    from maskrcnn.data.merge import merge_datasets

    merged = merge_datasets([open_records(path, part.items) for path in part.paths])
    dataset = with_label_map(merged, part.items, notes)
    if masks and not dataset.has_masks:
        raise DataError(
            f"{part.reader.field} loads instance masks, but no record has image/object/mask; write the records with "
            "masks, or add --model.mask null to train boxes only",
            path=dataset.name,
        )
    return dataset


def open_records(path: Path, items: Sequence[Item]) -> Dataset:
    """TFRecords, read with this label map, so that an id that they do not have is none of the map's.

    Raises:
        DataError: nothing there, or something else.
    """
    from maskrcnn.data.cache import cached
    from maskrcnn.data.formats import tfrecord

    if not tfrecord.sniff(path):
        raise DataError(f"holds no TFRecords; {tfrecord.LOOKS_FOR} are read", path=path)
    name = f"tfrecord {[(item.id, item.name, item.shown) for item in items]}"
    return cached(path, name, partial(tfrecord.read, path, items))
