"""COCO JSON: one file, or a folder with one file a split.

Polygons, compressed and uncompressed RLE, crowds, keypoints and sparse ids. What cannot be used is skipped and counted
in `Dataset.warnings`; only a file that gives nothing at all is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.config import KeypointSchema
from maskrcnn.data.formats.coco_files import Source, find_sources, image_finder, is_coco
from maskrcnn.data.formats.tally import Tally, image_size, load_json, stack_boxes
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle, rle_area
from maskrcnn.ops.rle import counts_of, parse_counts
from maskrcnn.structures import RLE, Dataset, Mask, Polygons, Record

LOOKED_FOR = "COCO JSON (instances_train.json, train/_annotations.coco.json, annotations/instances_train2017.json)"
UNMASKED = "annotations without a segmentation read as regions to ignore"
CLIPPED = "boxes clipped that reached more than a pixel outside the image"


def sniff(path: Path) -> bool:
    """Whether `path` is a COCO JSON, or a folder that holds one."""
    return is_coco(path) if path.is_file() else bool(find_sources(path))


def read(path: Path) -> Dataset:
    """Every split found at `path`. Raises `DataError` when there is no image to show for it."""
    sources = find_sources(path)
    if not sources:
        raise DataError(f"no COCO JSON found; looked for {LOOKED_FOR}", path=path)
    documents = [_load(source.path) for source in sources]
    names, category_ids = _categories(list(zip(sources, documents, strict=True)))
    schema, speaking = _keypoint_schema(documents)
    tally = Tally()
    reader = _Reader({category: i for i, category in enumerate(category_ids)}, schema, speaking, tally)
    records: list[Record] = []
    for source, document in zip(sources, documents, strict=True):
        records += reader.records(source, document)
    if not records:
        raise DataError(f"no usable image ({'; '.join(tally.sentences()) or 'the list of images is empty'})", path=path)
    if not reader.masks_seen:
        records = [_without_masks(record) for record in records]
    return Dataset(tuple(records), names, category_ids, schema, str(path), "coco", tally.sentences())


class _Reader:
    """Turns documents into records; remembers the image ids given out, since they must be unique over all splits."""

    def __init__(self, labels: dict[int, int], schema: KeypointSchema | None, speaking: set[int], tally: Tally) -> None:
        self.labels, self.schema, self.speaking, self.tally = labels, schema, speaking, tally
        self.masks_seen = False
        self.used: set[int] = set()

    def records(self, source: Source, document: dict) -> list[Record]:
        images = self._images(source.path, document["images"])
        grouped = self._grouped(source.path, document.get("annotations") or [], images)
        numbers = self._numbers(images)
        find = image_finder(source, [str(entry["file_name"]) for entry in images.values()])
        found = []
        for key, entry in images.items():
            path = find(str(entry["file_name"]))
            if path is None:
                kind = "images skipped: the file is missing"
                self.tally.add(kind, source.path, image=key, value=entry["file_name"])
                continue
            size = self._size(source.path, key, entry, path)
            if size is not None:
                found.append(self._record(source, key, path, numbers[key], size, grouped.get(key, [])))
        return found

    def _images(self, path: Path, entries: list) -> dict[Any, dict]:
        images: dict[Any, dict] = {}
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str) or not entry.get("file_name"):
                self.tally.add("images skipped: no id or no file_name", path, value=entry)
            elif entry["id"] in images:
                kind = "images skipped: the id is taken by an earlier image"
                self.tally.add(kind, path, image=entry["id"], value=entry["file_name"])
            else:
                images[entry["id"]] = entry
        return images

    def _grouped(self, path: Path, entries: list, images: dict[Any, dict]) -> dict[Any, list[dict]]:
        """Annotations by image, each with a usable category and an id of its own."""
        grouped: dict[Any, list[dict]] = {}
        numbers = [entry["id"] for entry in entries if isinstance(entry, dict) and _is_int(entry.get("id"))]
        spare, seen = max(numbers, default=0) + 1, dict[int, dict]()
        for entry in entries:
            if not isinstance(entry, dict):
                self.tally.add("annotations skipped: not an object", path, value=entry)
                continue
            number, image, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
            if not isinstance(image, int | str) or image not in images:
                kind = "annotations skipped: unknown image_id"
                self.tally.add(kind, path, annotation=number, value=image)
                continue
            if not _is_int(category) or category not in self.labels:
                kind = "annotations skipped: unknown category_id"
                self.tally.add(kind, path, image=image, annotation=number, value=category)
                continue
            if _is_int(number) and number in seen:
                first = seen[number]
                if all(first.get(key) == entry.get(key) for key in ("image_id", "category_id", "bbox", "segmentation")):
                    self.tally.add("annotations skipped: given twice", path, image=image, annotation=number)
                    continue
                kind = "annotations renumbered: the id is taken by an earlier one"
                self.tally.add(kind, path, image=image, annotation=number)
            if not _is_int(number) or number in seen:
                number, spare = spare, spare + 1
                entry = {**entry, "id": number}
            seen[number] = entry
            grouped.setdefault(image, []).append(entry)
        return grouped

    def _numbers(self, images: dict[Any, dict]) -> dict[Any, int]:
        """Image id in the file -> id in the data set: the same, unless another split has it or it is no integer."""
        whole = [key for key in images if _is_int(key)]
        spare = max([0, *self.used, *whole]) + 1
        numbers = {}
        for key in images:
            if _is_int(key) and key not in self.used:
                numbers[key] = key
            else:
                numbers[key], spare = spare, spare + 1
        self.used.update(numbers.values())
        return numbers

    def _size(self, source: Path, key: object, entry: dict, path: Path) -> tuple[int, int] | None:
        height, width = entry.get("height"), entry.get("width")
        if _is_int(height) and _is_int(width) and height > 0 and width > 0:
            return height, width
        try:
            return image_size(path)
        except DataError as error:
            self.tally.add("images skipped: no size given and the file is unreadable", source, image=key, value=error)
            return None

    def _record(
        self, source: Source, key: object, path: Path, number: int, size: tuple[int, int], entries: list[dict]
    ) -> Record:
        boxes, labels, masks, crowd, areas, numbers, keypoints = [], [], [], [], [], [], []
        for entry in entries:
            try:
                mask = _mask(entry.get("segmentation"), size)
                box, outside = _box(entry.get("bbox"), mask, size)
                points = self._keypoints(entry)
            except _Unusable as problem:
                kind = f"annotations skipped: {problem.kind}"
                self.tally.add(kind, source.path, image=key, annotation=entry["id"], value=problem.value)
                continue
            if outside > 1:
                self.tally.add(CLIPPED, source.path, image=key, annotation=entry["id"], value=entry.get("bbox"))
            boxes.append(box)
            labels.append(self.labels[entry["category_id"]])
            areas.append(_area(entry.get("area"), mask, box, size))
            crowd.append(bool(entry.get("iscrowd")))
            numbers.append(entry["id"])
            keypoints.append(points)
            masks.append(mask)
        if any(mask is not None for mask in masks):
            self.masks_seen = True
        for i, mask in enumerate(masks):
            if mask is None:  # undone in the end when the whole data set has boxes only
                masks[i] = _BoxMask(boxes[i])
        count = len(self.schema.names) if self.schema else 0
        return Record(
            path=path,
            image_id=number,
            height=size[0],
            width=size[1],
            boxes=stack_boxes(boxes),
            labels=np.array(labels, np.int64),
            masks=tuple(masks),
            crowd=np.array(crowd, bool),
            areas=np.array(areas, np.float32),
            annotation_ids=np.array(numbers, np.int64),
            keypoints=np.array(keypoints, np.float32).reshape(-1, count, 3) if self.schema else None,
            split=source.split,
        )
