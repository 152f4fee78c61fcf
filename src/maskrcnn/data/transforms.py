"""One sample's way from the original frame to the input frame: image, boxes, masks and keypoints move together.

Crop window (original pixels) -> resize -> rotate -> mirror, all of it one `Placement`, so that every mask is sampled
once, from its annotation, through one affine map. Then mosaic and copy-paste, then what changes pixels only. Every
random number is a pure function of `key`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.data.compose import Others, mosaic, paste
from maskrcnn.data.objects import MIN_VISIBLE, Objects, place_objects
from maskrcnn.data.pixels import finish, place_image
from maskrcnn.data.placement import Placement, chances_of, place
from maskrcnn.structures import Record

__all__ = [
    "MIN_VISIBLE",
    "Objects",
    "Placement",
    "augment",
    "chances_of",
    "place",
    "place_image",
    "place_objects",
]


def augment(
    image: Tensor,
    record: Record,
    data: DataConfig,
    key: int | None,
    canvas: tuple[int, int] | None = None,
    *,
    flip_pairs: Sequence[tuple[int, int]] = (),
    others: Others | None = None,
    most: int | None = None,
) -> tuple[Tensor, Objects]:
    """Image (C, H, W) and record, original frame -> content (C, h, w) and objects, input frame.

    Args:
        image: uint8, or float32 for `data.pixels` "raw".
        key: source of all random numbers; None: no augmentation, as for evaluation.
        canvas: (height, width) that the content must not exceed when a key is given.
        flip_pairs: keypoints that swap when the image is mirrored.
        others: where copy-paste and mosaic find their partners; None: neither happens.
        most: of more objects than this, only the largest are kept.
    """
    if key is None:
        placement = place(record.size, data)
        return place_image(image, placement, data), place_objects(record, placement, data, flip_pairs)
    chances = chances_of(key)
    if others is not None and canvas is not None and min(canvas) > 1 and chances["mosaic"] < data.mosaic:
        content, objects = mosaic(image, record, data, key, canvas, others, flip_pairs)
    else:
        placement = place(record.size, data, canvas, chances)
        content = place_image(image, placement, data, chances)
        objects = place_objects(record, placement, data, flip_pairs)
    if others is not None and chances["copy_paste"] < data.copy_paste:
        content, objects = paste(content, objects, data, key, others, flip_pairs)
    if most is not None:
        objects = objects.largest(most)
    return finish(content, data, key), objects
