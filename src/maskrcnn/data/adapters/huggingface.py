"""Hugging Face `datasets` objects: a `Dataset`, or a `DatasetDict` with its splits.

Known by what they can do; the `datasets` package itself is not imported. Images stay where they are and are decoded
when they are needed; at opening only their header is read, and not even that beside columns `width` and `height`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn.data.adapters.huggingface_objects import Classes, Columns, Names, from_column, from_label_image
from maskrcnn.data.adapters.huggingface_values import file_of, is_number, picture, size_of
from maskrcnn.data.formats.assemble import Found, assemble
from maskrcnn.data.formats.layout import MOST_PIXELS, split_of_name
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.merge import merge_datasets
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

FORMAT = "huggingface"
UNREADABLE = "images that cannot be opened"
NO_OBJECTS = "splits without objects"


def from_huggingface(
    dataset_or_dict: Any,
    *,
    image: str = "image",
    objects: str = "objects",
    masks: str | None = None,
    classes: Classes | None = None,
    box_format: str = "xywh",
    split: str = "",
) -> Dataset:
    """Images and objects of a Hugging Face data set.

    Args:
        dataset_or_dict: a `Dataset`, or a mapping of split names to such.
        image: column of the images: PIL images, {"bytes", "path"}, paths or arrays.
        objects: column of the objects, a list of dicts or a dict of lists: `bbox`, `category`, and if there `area`,
            `segmentation` (COCO polygons or RLE, or a bitmap), `iscrowd`, `id`.
        masks: column of label images, in place of `objects`: (H, W) numbers the objects, 0 is background; in
            (H, W, 3) the first channel holds the class, the second the number of the object.
        classes: names by category number, or name -> number; None: those of the column's ClassLabel, or as found.
        box_format: "xywh" as COCO has it, or "xyxy"; pixels.
        split: "train", "val" or "test" for all images; of a mapping, only this split.

    Raises:
        DataError: a missing column, no image that can be used, a class name that is there twice, or a stream.
    """
    if box_format not in ("xywh", "xyxy"):
        raise DataError(f'unknown box_format {box_format!r}; give "xywh" or "xyxy"')
    columns = Columns(image, objects, masks, box_format)
    if not isinstance(dataset_or_dict, Mapping):
        return _one(dataset_or_dict, columns, classes, split)
    skipped, parts = Skipped(), []
    named = {key: split_of_name(str(key)) or str(key) for key in dataset_or_dict}
    for key, name in named.items():
        if split and name != (split_of_name(split) or split):
            continue
        if _lacks_objects(dataset_or_dict[key], columns):
            skipped.add(NO_OBJECTS, Path(str(key)), None, None, f"no column {columns.truth!r}", verb="left out")
        else:
            parts.append(_one(dataset_or_dict[key], columns, classes, name))
    if not parts:
        reason = skipped.sentences()[0] if skipped else f"no split {split!r}; known splits: {', '.join(named.values())}"
        raise DataError(f"holds no split that can be used: {reason}", path="dataset")
    merged = merge_datasets(parts)
    return replace(merged, name="dataset", warnings=(*merged.warnings, *skipped.sentences()))


def _lacks_objects(dataset: Any, columns: Columns) -> bool:
    names = _column_names(dataset)
    return columns.truth not in names and columns.image in names


def _column_names(dataset: Any) -> list[str]:
    return list(getattr(dataset, "column_names", None) or [])


def _one(dataset: Any, columns: Columns, classes: Classes | None, split: str) -> Dataset:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        message = f"a {type(dataset).__name__} has no length; load the data without streaming"
        raise DataError(message, path=split or "dataset")
    for name in (columns.image, columns.truth):
        if name not in _column_names(dataset):
            known = ", ".join(_column_names(dataset)) or "none"
            message = f"has no column {name!r}, only: {known}; name it with image=, objects= or masks="
            raise DataError(message, path=split or "dataset")
    skipped, names = Skipped(), Names.of(classes, getattr(dataset, "features", None) or {}, columns)
    found: list[Found] = []
    ids: list[Any] = []
    for index, row, image in _images(dataset, columns, split, skipped):
        read = from_column if columns.masks is None else from_label_image
        image.objects = read(row, index, image, columns, names, skipped)
        found.append(image)
        ids.append(row.get("image_id"))
    order, category_ids = names.known({o.name for image in found for o in image.objects})
    made = assemble(
        found,
        path=Path(split or "dataset"),
        format=FORMAT,
        skipped=skipped,
        classes=order,
        category_ids=category_ids,
    )
    if not all(is_number(i) and i >= 0 for i in ids) or len(set(ids)) != len(ids):
        return made
    return replace(made, records=[replace(record, image_id=int(i)) for record, i in zip(made, ids, strict=True)])


# ---------------------------------------------------------------- images


def _images(
    dataset: Any, columns: Columns, split: str, skipped: Skipped
) -> Iterator[tuple[int, dict[str, Any], Found]]:
    """Index, row and frame of each image that can be opened; images are not decoded."""
    rows = _undecoded(dataset, columns)
    pictures = rows.select_columns([columns.image]) if hasattr(rows, "select_columns") else rows
    if {"width", "height"} <= set(_column_names(rows)) and hasattr(rows, "remove_columns"):
        rows = rows.remove_columns(columns.image)  # sizes are known: not even the files' bytes are read
    for index in range(len(rows)):
        where = Path(split or "dataset") / str(index)
        try:
            row = rows[index]
            size, value = _stated(row), row.get(columns.image)
            if value is None and size is None:
                value = pictures[index][columns.image]
            file = file_of(value)
            size = size_of(value) if size is None else size
            if file is not None and not file.is_file():
                raise DataError("image file not found; check the path", path=file)
        except Exception as error:  # its decoders raise whatever they like
            skipped.add(UNREADABLE, where, index, None, f"{type(error).__name__}: {error}")
            continue
        if file is not None:
            yield index, row, Found(file, size, split=split)
        else:
            make = partial(_load_image, pictures, index, columns.image)
            yield index, row, Found(where, size, split=split, make=make)


def _undecoded(dataset: Any, columns: Columns) -> Any:
    """The data set with plain Python rows, whose images are {"bytes", "path"}."""
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None)
    features = getattr(dataset, "features", None) or {}
    for name in (columns.image, columns.masks):
        feature: Any = features.get(name)
        if hasattr(feature, "decode") and hasattr(dataset, "cast_column"):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset


def _load_image(pictures: Any, index: int, column: str) -> Any:
    """What `Record.make` calls; at the top of the module, so that it can go to another process."""
    return picture(pictures[index][column])


def _stated(row: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    if not (is_number(height) and is_number(width) and 0 < min(height, width) <= max(height, width) < MOST_PIXELS):
        return None
    return int(height), int(width)
