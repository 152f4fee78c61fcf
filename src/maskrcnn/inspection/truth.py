"""The truth of one image as training would hand it to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.inspection.trace import Truth
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.structures import Record, Targets


def targets_of(model: MaskRCNN, image: Any, record: Record, classes: Sequence[str] | None) -> tuple[Targets, list[str]]:
    """Targets of a batch of one, and a sentence for each thing that was left out.

    Args:
        model: its classes and preprocessing count.
        image: what the model is given; a path, a record, or pixels that stand for the record's own.
        record: the annotations.
        classes: what its labels mean; None: the model's classes.

    Raises:
        DataError: labels out of range, or an image of another size than was annotated.
    """
    record, notes = _relabelled(model, record, model.classes if classes is None else classes)
    if not isinstance(image, (str, bytes, Record)) and not hasattr(image, "__fspath__"):
        record = replace(record, make=lambda: image)
    if record.keypoints is not None and model.keypoints is None:
        record = replace(record, keypoints=None)
    elif record.keypoints is not None and record.keypoints.shape[1] != len(model.keypoints.names):  # type: ignore[union-attr]
        notes.append(
            f"the truth has {record.keypoints.shape[1]} keypoints, the model finds {len(model.keypoints.names)}: "  # type: ignore[union-attr]
            "those of the truth are left out"
        )
        record = replace(record, keypoints=None)
    schema = model.keypoints if record.keypoints is not None else None
    dataset = Dataset([record], model.classes, model.category_ids, keypoints=schema)
    loader = Loader(dataset, replace(model.data, workers=0), batch_size=1)
    batch = next(loader.steps(0))[0]
    assert batch.targets is not None
    return batch.targets, notes


def _relabelled(model: MaskRCNN, record: Record, classes: Sequence[str]) -> tuple[Record, list[str]]:
    """With the model's labels, without the objects of classes that it does not know."""
    if len(record) and not 0 <= record.labels.min() <= record.labels.max() < len(classes):
        raise DataError(
            f"label {int(record.labels.max())}, but there are {len(classes)} classes; give the classes of these labels",
            path=record.path,
            image=record.image_id,
        )
    known = {name: label for label, name in enumerate(model.classes)}
    labels = np.array([known.get(classes[label], -1) for label in record.labels], np.int64)
    keep = np.flatnonzero(labels >= 0)
    if len(keep) == len(labels):
        return replace(record, labels=labels), []
    unknown = sorted({classes[label] for label in record.labels[labels < 0]})
    note = f"{len(labels) - len(keep)} objects of classes that the model does not know are left out: "
    kept = replace(
        record,
        boxes=record.boxes[keep],
        labels=labels[keep],
        masks=tuple(record.masks[i] for i in keep) if record.masks else (),
        crowd=record.crowd[keep],
        areas=record.areas[keep],
        annotation_ids=record.annotation_ids[keep],
        keypoints=None if record.keypoints is None else record.keypoints[keep],
    )
    return kept, [note + ", ".join(unknown)]


def truth_of(targets: Targets) -> Truth:
    """The objects of a batch of one."""
    rows = targets.valid[0].nonzero()[:, 0]
    masks = targets.masks[0][rows]
    return Truth(
        boxes=targets.boxes[0][rows].numpy(),
        labels=targets.labels[0][rows].numpy(),
        masks=masks.numpy() if masks.shape[-1] else None,
        keypoints=None if targets.keypoints is None else targets.keypoints[0][rows].numpy(),
        rows=rows.numpy(),
        crowds=targets.boxes[0][targets.crowd[0]].numpy(),
    )
