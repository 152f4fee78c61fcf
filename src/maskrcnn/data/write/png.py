"""A data set -> `SPLIT/ID/images/NAME` and `SPLIT/ID/masks/CLASS/NUMBER.png`, one mask an object, 0 and 255.

`classes.txt` names the classes in the order of their labels, one a line; a data set of one class "object" has neither
it nor a folder CLASS, as in the Data Science Bowl 2018. A region to ignore ends in `_crowd.png`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.data.formats.pairs import MASK_SUFFIXES
from maskrcnn.data.formats.png_objects import CLASSES, CROWD, class_folders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.data.write.lost import full_rle, note, note_ids, note_objects, plain_names, split_of
from maskrcnn.dataset import Dataset
from maskrcnn.ops.rle import decode_rle, rle_area
from maskrcnn.structures import Record

CANNOT_HOLD = "ids, keypoints, outlines finer than pixels, and boxes or areas that are not those of the masks"


def write(dataset: Dataset, folder: Path, *, lost: Skipped | None = None) -> None:
    """Write a mask image for each object; a box without a mask is filled.

    Args:
        folder: is there and empty.
        lost: counts what is left out or changed.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    lost = Skipped() if lost is None else lost
    note_ids(dataset, lost, unused=False)
    names = plain_names(dataset, lost)
    places, bare = list(class_folders(names)), names == ["object"]
    if not bare:
        (folder / CLASSES).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    folders: dict[str, ImageFolder] = {}
    for record in dataset:
        split = split_of(record, lost)
        if split not in folders:
            folders[split] = ImageFolder(folder / split, lost, MASK_SUFFIXES, separate=True)
        masks = folders[split].put(record).parents[1] / "masks"
        masks.mkdir()
        kept = []
        for index in range(len(record)):
            pixels = _pixels(record, index, lost)
            if pixels is None:
                continue
            kept.append(index)
            place = masks if bare else masks / places[record.labels[index]]
            place.mkdir(exist_ok=True)
            name = f"{len(kept):05}{CROWD if record.crowd[index] else ''}.png"
            Image.fromarray(pixels.view(np.uint8) * 255).save(place / name)
        note_objects(record, kept, set(), lost)


def _pixels(record: Record, index: int, lost: Skipped) -> np.ndarray | None:
    """(H, W) bool; None for an empty mask."""
    if record.masks:
        rle = full_rle(record, index)
        if rle_area(rle):
            return decode_rle(rle)
        note(lost, "left out", "empty masks", record, index, "no pixel")
        return None
    note(lost, "filled", "boxes without a mask", record, index, str(record.boxes[index].tolist()))
    x0, y0, x1, y1 = record.boxes[index]
    pixels = np.zeros(record.size, bool)
    pixels[int(np.floor(y0)) : int(np.ceil(y1)), int(np.floor(x0)) : int(np.ceil(x1))] = True
    return pixels
