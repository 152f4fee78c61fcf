"""What the annotations alone tell: ids, labels, boxes, counts. Arithmetic on columns; no file is opened."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from maskrcnn.data.check.problem import CUT_BOX, DROP_IMAGE, DROP_OBJECT, RENUMBER, Places, Problem
from maskrcnn.dataset import Dataset

NAMED = 10  # classes without an object that get a line each


def check_columns(dataset: Dataset, places: Places, most: int) -> Iterator[Problem]:
    """Problems of ids, classes, counts and boxes; `most` objects in one image are fine."""
    yield from _ids(dataset, places)
    yield from _classes(dataset)
    yield from _counts(dataset, places, most)
    yield from _boxes(dataset, places)
    yield from _labels(dataset, places)


def _ids(dataset: Dataset, places: Places) -> Iterator[Problem]:
    ids = dataset.table.image_ids
    values, first, counts = np.unique(ids, return_index=True, return_counts=True)
    used = dict(zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))
    again = np.ones(len(ids), bool)
    again[first] = False
    for row in np.flatnonzero(again).tolist():
        message = f"used by {used[int(ids[row])]} images; give each its own"
        yield Problem("duplicate image id", message, repair=RENUMBER, **places.image(row))


def _classes(dataset: Dataset) -> Iterator[Problem]:
    empty = [name for name, count in zip(dataset.classes, dataset.class_counts(), strict=True) if count == 0]
    kind, advice = "class without object", "nothing can be learned about"
    for name in empty if len(empty) <= NAMED else ():
        yield Problem(kind, f"class {name!r} has no object; {advice} it", severity="warning")
    if len(empty) > NAMED:
        names = ", ".join(map(repr, empty[:NAMED]))
        message = f"{len(empty)} of {len(dataset.classes)} classes have no object, among them {names}; {advice} them"
        yield Problem(kind, message, severity="warning")


def _counts(dataset: Dataset, places: Places, most: int) -> Iterator[Problem]:
    table = dataset.table
    if empty := int((table.counts == 0).sum()):
        message = f"{empty} of {len(dataset)}; they are kept as background"
        yield Problem("images without object", message, severity="warning")
    real = np.bincount(table.image_of[~table.crowd], minlength=len(table))
    if len(crowded := np.flatnonzero(real > most)):
        worst = int(real.argmax())
        message = f"{len(crowded)} images have more than {most} objects; detections_per_image must allow for "
        yield Problem("many objects", f"{message}{real[worst]}", severity="warning", **places.image(worst))
    for row in np.flatnonzero((table.mask_counts != 0) & (table.mask_counts != table.counts)).tolist():
        message = f"{table.mask_counts[row]} masks for {table.counts[row]} boxes; give each object its own, or none"
        yield Problem("mask count", message, repair=DROP_IMAGE, **places.image(row))


def _boxes(dataset: Dataset, places: Places) -> Iterator[Problem]:
    table = dataset.table
    boxes = table.boxes
    sizes = table.sizes[table.image_of]
    limit = sizes[:, [1, 0, 1, 0]]
    flat = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # NaN too
    for number in np.flatnonzero(flat).tolist():
        message = f"{boxes[number].tolist()} has no area; draw it again"
        yield Problem("degenerate box", message, repair=DROP_OBJECT, **places.object(number))
    outside = ~flat & ((boxes < 0) | (boxes > limit)).any(axis=1)
    cut = np.clip(boxes, 0, limit).astype(np.float32)
    gone = ~(cut[:, 2:] > cut[:, :2]).all(axis=1)
    for number in np.flatnonzero(outside).tolist():
        height, width = sizes[number].tolist()
        message = f"{boxes[number].tolist()} in {width}x{height}; move it"
        repair = DROP_OBJECT if gone[number] else CUT_BOX
        yield Problem("box outside the image", message, repair=repair, **places.object(number))


def _labels(dataset: Dataset, places: Places) -> Iterator[Problem]:
    labels, classes = dataset.table.labels, len(dataset.classes)
    for number in np.flatnonzero((labels < 0) | (labels >= classes)).tolist():
        message = f"label {labels[number]} of {classes} classes; export the data again"
        yield Problem("label out of range", message, repair=DROP_OBJECT, **places.object(number))
