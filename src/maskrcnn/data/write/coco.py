"""A data set -> `annotations/instances_SPLIT.json` and the folder `SPLIT` of its images, for each split.

Without splits: `annotations/instances.json` and `images`. Ids, crowds, areas, keypoints and polygons stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.data.write.lost import note, note_pairs, number_of, rows_of_splits, segmentation_of
from maskrcnn.dataset import Dataset
from maskrcnn.structures import Record

CANNOT_HOLD = "left-right pairs of keypoints that are not called left... and right..."
UNNAMED = "instances"  # the file, and so the split, of images without a split


def write(dataset: Dataset, folder: Path, *, lost: Skipped | None = None) -> None:
    """Write a data set that pycocotools opens, one annotation in memory at a time.

    Args:
        folder: is there and empty.
        lost: counts what changes.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    lost = Skipped() if lost is None else lost
    rows = rows_of_splits(dataset, lost)
    _note(dataset, rows, lost)
    (folder / "annotations").mkdir(exist_ok=True)
    for split, chosen in rows.items():
        images = ImageFolder(folder / (split or "images"), lost)
        listed = [_image(dataset[row], images.put(dataset[row])) for row in chosen]
        file = folder / "annotations" / (f"{UNNAMED}_{split}.json" if split else f"{UNNAMED}.json")
        records = (dataset[row] for row in chosen)
        with file.open("w", encoding="utf-8") as stream:
            stream.write('{"info": {"description": "written by maskrcnn"}, "licenses": [],\n"categories": ')
            stream.writelines(_list(_categories(dataset)))
            stream.write(',\n"images": ')
            stream.writelines(_list(listed))
            stream.write(',\n"annotations": ')
            stream.writelines(_list(_annotations(records, dataset.category_ids, lost)))
            stream.write("}\n")


def _note(dataset: Dataset, rows: dict[str, list[int]], lost: Skipped) -> None:
    """Count what concerns the whole data set."""
    note_pairs(dataset, lost)
    if len(rows) > 1 and "" in rows:
        kind = f"images without a split, beside others that have one: theirs is now {UNNAMED!r}"
        lost.add(kind, Path(dataset.name), None, None, str(dataset[rows[""][0]].path), "kept", len(rows[""]))


def _list(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A JSON list, an item a line."""
    yield "["
    for number, item in enumerate(items):
        yield (",\n" if number else "\n") + json.dumps(item)
    yield "]"


def _categories(dataset: Dataset) -> Iterator[dict[str, Any]]:
    points = {} if dataset.keypoints is None else {"keypoints": list(dataset.keypoints.names), "skeleton": []}
    for number, name in zip(dataset.category_ids, dataset.classes, strict=True):
        yield {"id": int(number), "name": name, "supercategory": name} | points


def _image(record: Record, file: Path) -> dict[str, Any]:
    return {"id": record.image_id, "file_name": file.name, "height": record.height, "width": record.width}


def _annotations(records: Iterable[Record], category_ids: tuple[int, ...], lost: Skipped) -> Iterator[dict[str, Any]]:
    """Ids that were there before become the first free ones, as pycocotools keeps one annotation an id."""
    taken: set[int] = set()
    again: list[dict[str, Any]] = []
    for record in records:
        for index in range(len(record)):
            annotation = _annotation(record, index, category_ids)
            if annotation["id"] in taken:
                note(lost, "renumbered", "annotation ids that others have too", record, index, str(annotation["id"]))
                again.append(annotation)
            else:
                taken.add(annotation["id"])
                yield annotation
    for number, annotation in enumerate(again, max(taken, default=0) + 1):
        yield annotation | {"id": number}


def _annotation(record: Record, index: int, category_ids: tuple[int, ...]) -> dict[str, Any]:
    x0, y0, x1, y1 = record.boxes[index].tolist()  # float64 from here on: their differences are exact
    annotation: dict[str, Any] = {
        "id": number_of(record, index),
        "image_id": record.image_id,
        "category_id": int(category_ids[record.labels[index]]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(record.areas[index]),
        "iscrowd": int(record.crowd[index]),
    }
    if record.masks:
        annotation["segmentation"] = segmentation_of(record, index)
    if record.keypoints is not None:
        points = record.keypoints[index]
        annotation["keypoints"] = [v for x, y, seen in points.tolist() for v in (x, y, int(seen))]
        annotation["num_keypoints"] = int(np.count_nonzero(points[:, 2] > 0))
    return annotation
