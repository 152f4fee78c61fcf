"""Every problem of a data set, found before the first step, each with file, image, annotation, value and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from maskrcnn.data.sample import load_record
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle, rle_area
from maskrcnn.structures import Record

MANY = 100  # objects in one image: COCO's AP counts no more
UNUSABLE = ("missing image", "unreadable image", "wrong image size", "unreadable mask", "wrong mask size", "mask count")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or worth knowing; `str(problem)` is one line.

    Attributes:
        kind: a short fixed name, such as "unreadable image".
        message: value and remedy.
        path, image, annotation: where; None where it does not apply.
        severity: an "error" keeps an image or object out of training, a "warning" does not.
    """

    kind: str
    message: str
    path: Path | None = None
    image: int | None = None
    annotation: int | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = [str(self.path)] if self.path else []
        where += [f"image {self.image}"] if self.image is not None else []
        where += [f"annotation {self.annotation}"] if self.annotation is not None else []
        return ": ".join([self.severity, self.kind, *([", ".join(where)] if where else []), self.message])


def check_dataset(dataset: Dataset, decode: bool = True) -> list[Problem]:
    """All problems of a data set, errors first.

    Args:
        dataset: what `open_dataset` gave.
        decode: also read every image and mask, which takes a while.
    """
    problems = [Problem("skipped by the reader", warning, severity="warning") for warning in dataset.warnings]
    problems += _ids_and_classes(dataset)
    for record in dataset:
        problems += _boxes(record, len(dataset.classes))
    if decode:
        with ThreadPoolExecutor() as pool:
            for found in pool.map(_files, dataset):
                problems += found
    return sorted(problems, key=lambda problem: problem.severity)


def drop_broken(dataset: Dataset, problems: Sequence[Problem]) -> Dataset:
    """The data set without the images that cannot be used."""
    broken = {p.path for p in problems if p.kind in UNUSABLE}
    return replace(dataset, records=[record for record in dataset if record.path not in broken])


def _ids_and_classes(dataset: Dataset) -> Iterator[Problem]:
    for number, count in Counter(record.image_id for record in dataset).items():
        if count > 1:
            yield Problem("duplicate image id", f"used by {count} images; give each its own", image=number)
    counts = dataset.class_counts()
    for name, count in zip(dataset.classes, counts, strict=True):
        if count == 0:
            message = f"class {name!r} has no object; nothing can be learned about it"
            yield Problem("class without object", message, severity="warning")
    empty = sum(len(record) == 0 for record in dataset)
    if empty:
        yield Problem(
            "images without object", f"{empty} of {len(dataset)}; they are kept as background", severity="warning"
        )
    crowded = [record for record in dataset if (~record.crowd).sum() > MANY]
    if crowded:
        worst = max(crowded, key=len)
        message = (
            f"{len(crowded)} images have more than {MANY} objects; detections_per_image must allow for {len(worst)}"
        )
        yield Problem("many objects", message, worst.path, worst.image_id, severity="warning")


def _boxes(record: Record, classes: int) -> Iterator[Problem]:
    if len(record.masks) not in (0, len(record)):
        message = f"{len(record.masks)} masks for {len(record)} boxes; give each object its own, or none"
        yield Problem("mask count", message, record.path, record.image_id)
    limit = np.array([record.width, record.height], np.float32)
    for box, label, number in zip(record.boxes, record.labels, record.annotation_ids, strict=True):
        where = (record.path, record.image_id, int(number))
        if not (box[2:] > box[:2]).all():
            yield Problem("degenerate box", f"{box.tolist()} has no area; draw it again", *where)
        elif (box[:2] < 0).any() or (box[2:] > limit).any():
            yield Problem("box outside the image", f"{box.tolist()} in {record.width}x{record.height}; move it", *where)
        if not 0 <= label < classes:
            yield Problem("label out of range", f"label {label} of {classes} classes; export the data again", *where)


def _files(record: Record) -> list[Problem]:
    """What only the pixels tell."""
    try:
        height, width = load_record(record).shape[1:]
    except DataError as error:
        kind = "unreadable image" if record.path.exists() else "missing image"
        return [Problem(kind, error.message, record.path, record.image_id)]
    if (height, width) != record.size:
        turned = (
            "; the annotations describe the image before its EXIF rotation" if (width, height) == record.size else ""
        )
        message = f"{width}x{height} pixels, annotated as {record.width}x{record.height}{turned}; export the data again"
        return [Problem("wrong image size", message, record.path, record.image_id)]
    problems = []
    for mask, number in zip(record.masks, record.annotation_ids, strict=False):  # () where there are boxes alone
        where = (record.path, record.image_id, int(number))
        try:
            rle = mask_to_rle(mask, record.size)
            if tuple(rle["size"]) != record.size:
                message = (
                    f"{rle['size'][1]}x{rle['size'][0]} in an image of {record.width}x{record.height}; export it again"
                )
                problems.append(Problem("wrong mask size", message, *where))
            elif rle_area(rle) == 0:
                problems.append(Problem("empty mask", "covers no pixel; draw it again", *where))
        except DataError as error:
            problems.append(Problem("unreadable mask", error.message, *where))
    return problems
