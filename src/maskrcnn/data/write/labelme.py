"""A data set -> `SPLIT/NAME.json` beside each image, as labelme writes it.

A polygon of one ring is a shape; its further rings are shapes of the same `group_id`; what polygons cannot say is a
`mask` shape. A region to ignore has the flag "crowd".
"""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np
from PIL import Image

from maskrcnn.data.formats.labelme import NO_OBJECTS
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.data.write.lost import full_rle, note, note_ids, note_objects, plain_names, split_of
from maskrcnn.dataset import Dataset
from maskrcnn.ops.rle import decode_window
from maskrcnn.structures import Polygons, Record

CANNOT_HOLD = "ids, keypoints, classes without objects, and boxes or areas that are not those of the masks"
VERSION = "5.4.1"  # the first versions with `mask` shapes are 5.3


def write(dataset: Dataset, folder: Path, *, lost: Skipped | None = None) -> None:
    """Write a data set that labelme opens, folder by folder.

    Args:
        folder: is there and empty.
        lost: counts what is left out or changed.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    lost = Skipped() if lost is None else lost
    note_ids(dataset, lost, unused=True)
    names = plain_names(dataset, lost, NO_OBJECTS)
    folders: dict[str, ImageFolder] = {}
    for record in dataset:
        split = split_of(record, lost)
        if split not in folders:
            folders[split] = ImageFolder(folder / split, lost)
        image = folders[split].put(record)
        kept = [index for index in range(len(record)) if not _is_empty(record, index, lost)]
        note_objects(record, kept, {"outlines"}, lost)
        content = page(record, image.name, kept, names)
        image.with_suffix(".json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _is_empty(record: Record, index: int, lost: Skipped) -> bool:
    if not record.masks or isinstance(record.masks[index], Polygons) or coco_mask.area(full_rle(record, index)):
        return False
    note(lost, "left out", "empty masks", record, index, "no pixel")
    return True


def page(
    record: Record, name: str, kept: list[int], names: list[str], descriptions: list[str] | None = None
) -> dict[str, Any]:
    """The JSON of one image.

    Args:
        name: of the image file, as seen from the JSON.
        kept: indices of the objects.
        names: of the classes.
        descriptions: of all objects of the record.
    """
    told = descriptions or [""] * len(record)
    return {
        "version": VERSION,
        "flags": {},
        "shapes": [shape for index in kept for shape in _shapes(record, index, names, told[index])],
        "imagePath": name,
        "imageData": None,
        "imageHeight": record.height,
        "imageWidth": record.width,
    }


def _shapes(record: Record, index: int, names: list[str], description: str) -> list[dict[str, Any]]:
    """The shapes of one object."""
    mask = record.masks[index] if record.masks else None
    common = {"label": names[record.labels[index]], "description": description,
              "flags": {"crowd": True} if record.crowd[index] else {}}  # fmt: skip
    if mask is None:
        x0, y0, x1, y1 = record.boxes[index].tolist()
        return [common | {"shape_type": "rectangle", "points": [[x0, y0], [x1, y1]], "group_id": None, "mask": None}]
    if isinstance(mask, Polygons):
        group = index + 1 if len(mask.rings) > 1 else None
        polygon = common | {"shape_type": "polygon", "group_id": group, "mask": None}
        return [polygon | {"points": ring.tolist()} for ring in mask.rings]
    points, data = _bitmap(full_rle(record, index))
    return [common | {"shape_type": "mask", "points": points, "group_id": None, "mask": data}]


def _bitmap(rle: dict) -> tuple[list[list[float]], str]:
    """First and last pixel (x, y), both inside, and what is between them as a PNG of zeros and ones in base64."""
    x, y, width, height = (int(v) for v in coco_mask.to_bbox(rle))
    window = decode_window(rle, y, x, y + height, x + width)
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(window).view(np.uint8)).save(stream, "PNG")
    points = [[float(x), float(y)], [float(x + width - 1), float(y + height - 1)]]
    return points, base64.b64encode(stream.getvalue()).decode()
