"""What only the pixels tell: one image and its masks, read and compared with the annotation."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.check.outlines import disagreement, disagrees
from maskrcnn.data.check.problem import DROP_IMAGE, DROP_OBJECT, TURN, Problem
from maskrcnn.data.sample import load_record
from maskrcnn.data.turn import orientation_of
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle, rle_area
from maskrcnn.structures import Mask, Polygons, Record


@dataclass(frozen=True, slots=True)
class Looked:
    """One image: its problems, and a hash of its decoded pixels (None where they cannot be read)."""

    problems: list[Problem]
    digest: bytes | None


def check_files(record: Record, row: int) -> Looked:
    """Read the image and all masks of a record; nothing raises."""
    where: dict[str, Any] = {"path": record.path, "image": record.image_id, "row": row}
    try:
        pixels = load_record(record).permute(1, 2, 0).numpy()
    except DataError as error:
        missing = record.make is None and not record.path.exists()
        kind = "missing image" if missing else "unreadable image"
        return Looked([Problem(kind, error.message, repair=DROP_IMAGE, **where)], None)
    form = repr((pixels.shape, pixels.dtype.str)).encode()
    digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=form).digest()
    problems = _size(record, pixels.shape[:2], where)
    if any(problem.repair == DROP_IMAGE for problem in problems):
        return Looked(problems, digest)
    sizes = {record.size, *(record.size[::-1] for problem in problems)}  # mask files of a turned photo may be upright
    for index, mask in enumerate(record.masks[: len(record)]):  # () where there are boxes alone
        number = int(record.annotation_ids[index])
        problems += _mask(record, index, mask, sizes, {**where, "annotation": number, "index": index})
    return Looked(problems, digest)


def _size(record: Record, size: tuple[int, ...], where: dict[str, Any]) -> list[Problem]:
    """The image has not the size that the annotation says."""
    if size == record.size:
        return []
    message = f"{size[1]}x{size[0]} pixels, annotated as {record.width}x{record.height}"
    if size == record.size[::-1] and orientation_of(record) >= 5:
        message += "; the annotations describe the image before its EXIF rotation; export the data again"
        return [Problem("annotations not rotated", message, repair=TURN, **where)]
    return [Problem("wrong image size", message + "; export the data again", repair=DROP_IMAGE, **where)]


def _mask(record: Record, index: int, mask: Mask, sizes: set[tuple[int, int]], where: dict[str, Any]) -> list[Problem]:
    """Problems of one mask, which may be of any of `sizes`."""
    try:
        rle = mask_to_rle(mask, record.size)
        area = rle_area(rle)
        height, width = rle["size"]
        if (height, width) not in sizes:
            message = f"{width}x{height} in an image of {record.width}x{record.height}; export it again"
            return [Problem("wrong mask size", message, repair=DROP_IMAGE, **where)]
        if area == 0:
            return [Problem("empty mask", "covers no pixel; draw it again", repair=DROP_OBJECT, **where)]
        # Outlines are compared elsewhere, without drawing them.
        if isinstance(mask, Polygons) or record.crowd[index] or (height, width) != record.size:
            return []
        x0, y0, across, down = (float(value) for value in coco_mask.to_bbox(rle))
    except DataError as error:
        return [Problem("unreadable mask", error.message, repair=DROP_IMAGE, **where)]
    except Exception as error:  # counts that are no run lengths
        message = f"no mask can be made of it ({type(error).__name__}: {error}); export it again"
        return [Problem("unreadable mask", message, repair=DROP_IMAGE, **where)]
    bounds = np.array([[x0, y0, x0 + across, y0 + down]])
    if disagrees(record.boxes[index : index + 1], bounds)[0]:
        return [disagreement(record.boxes[index], bounds[0], **where)]
    return []
