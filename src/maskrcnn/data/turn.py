"""Annotations of a photo's stored pixels, turned upright as its EXIF orientation says.

A reader gives the original frame, the image as a person sees it. Where an annotation tool ignored the orientation, the
annotations are in the frame of the stored pixels instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maskrcnn.data.decode import opened, orientation, upright
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle
from maskrcnn.structures import RLE, Mask, Polygons, Record


def orientation_of(record: Record) -> int:
    """EXIF orientation 1..8 of the image file; 1 where it has none, or is made by a function."""
    if record.make is not None:
        return 1
    try:
        with opened(record.path, record.span) as image:
            value = orientation(image)
    except DataError:
        return 1
    return value if 1 <= value <= 8 else 1


def turn_record(record: Record, turn: int) -> Record:
    """The record with size, boxes, masks and keypoints as the upright image has them.

    Args:
        record: in the frame of the stored pixels.
        turn: EXIF orientation, 1..8.

    Raises:
        DataError: a mask file cannot be read.
    """
    size, swapped = record.size, turn >= 5
    height, width = size[::-1] if swapped else size
    corners = turn_points(record.boxes.reshape(-1, 2, 2), turn, size)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    keypoints = record.keypoints
    if keypoints is not None:
        keypoints = keypoints.copy()
        labelled = keypoints[..., 2] > 0
        keypoints[labelled, :2] = turn_points(keypoints[labelled, :2], turn, size)
    masks = tuple(_turn_mask(mask, turn, size) for mask in record.masks)
    return replace(record, height=height, width=width, boxes=boxes, masks=masks, keypoints=keypoints)


def turn_points(points: np.ndarray, turn: int, size: tuple[int, int]) -> np.ndarray:
    """Points (..., 2) x, y in continuous pixels of the stored image of `size` (height, width) -> upright frame."""
    height, width = size
    x, y = np.asarray(points, np.float64)[..., 0], np.asarray(points, np.float64)[..., 1]
    if turn >= 5:  # rows are columns
        x, y, width, height = y, x, height, width
    if turn in (2, 3, 6, 7):
        x = width - x
    if turn in (3, 4, 7, 8):
        y = height - y
    return np.stack([x, y], axis=-1)


def _turn_mask(mask: Mask, turn: int, size: tuple[int, int]) -> Mask:
    if isinstance(mask, Polygons):
        return Polygons(tuple(turn_points(ring, turn, size) for ring in mask.rings))
    pixels = decode_rle(mask_to_rle(mask, size))
    turned = size[::-1] if turn >= 5 else size
    if pixels.shape == size:  # a mask file may be upright already; a square one is taken for stored
        pixels = upright(pixels[:, :, None], turn)[:, :, 0]
    elif pixels.shape != turned:
        message = f"a mask of {pixels.shape[1]}x{pixels.shape[0]} in an image of {size[1]}x{size[0]}; export it again"
        raise DataError(message)
    return RLE(turned, encode_mask(pixels)["counts"])
