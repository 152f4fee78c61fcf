"""Several images in one: simple copy-paste (Ghiasi 2021) and mosaic (Bochkovskiy 2020).

Every partner is placed by a key of its own, made from the sample's key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.data.buckets import sample_key
from maskrcnn.data.objects import Objects, joined, place_objects
from maskrcnn.data.occlusion import behind, covered_by
from maskrcnn.data.pixels import mean_colour, place_image
from maskrcnn.data.placement import chances_of, place, stream
from maskrcnn.errors import DataError
from maskrcnn.structures import Record

T = TypeVar("T")

_PARTNERS, _PASTED, _PICKED = (111, 112, 113), 114, 115  # purposes of keys made from the sample's key


class Others(Protocol):
    """The other images of the data set."""

    def __call__(self, number: int, use: Callable[[Tensor, Record], T]) -> T:
        """`use(image, record)` of the image that `number` chooses; where that raises `DataError`, of the next one."""


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    image: Tensor
    objects: Objects


# ---------------------------------------------------------------- mosaic


def mosaic(
    image: Tensor,
    record: Record,
    data: DataConfig,
    key: int,
    canvas: tuple[int, int],
    others: Others,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Objects]:
    """Four images around a random point of the canvas, each sized to its quarter, jittered, and cut by it.

    Args:
        image, record: the first of them, original frame.
        canvas: (height, width) of the result, input frame, at least 2 x 2. What no image fills has the mean colour.

    Returns:
        (C, *canvas) image and its objects.
    """
    chances = chances_of(key)
    quarters = _quarters(canvas, chances["mosaic_y"], chances["mosaic_x"])
    turn = int(4 * chances["mosaic_turn"])
    pixels: Tensor | None = None
    truth: list[Objects] = []
    for number, part_key in enumerate([key, *(sample_key(key, purpose) for purpose in _PARTNERS)]):
        top, left, bottom, right = quarters[(turn + number) % 4]
        room = (bottom - top, right - left)

        def put(image: Tensor, record: Record, key: int = part_key, room: tuple[int, int] = room) -> _Placed:
            chances = chances_of(key)
            placement = place(record.size, data, room, chances, fills=True)
            objects = place_objects(record, placement, data, flip_pairs)
            return _Placed(place_image(image, placement, data, chances), objects)

        part = put(image, record) if number == 0 else others(part_key, put)
        height, width = part.image.shape[-2:]
        if pixels is None:
            colour = mean_colour(part.image).to(part.image.dtype)
            pixels = colour[:, None, None].expand(-1, *canvas).clone()
        top, left = (bottom - height if top == 0 else top), (right - width if left == 0 else left)
        pixels[:, top : top + height, left : left + width] = part.image
        truth.append(part.objects.shifted(top, left))
    assert pixels is not None
    return pixels, joined(truth)


def _quarters(canvas: tuple[int, int], y: float, x: float) -> list[tuple[int, int, int, int]]:
    """(y0, x0, y1, x1) clockwise around a centre in the middle half of both sides."""
    height, width = canvas
    row = min(max(round(height * (0.25 + 0.5 * y)), 1), height - 1)
    column = min(max(round(width * (0.25 + 0.5 * x)), 1), width - 1)
    return [(0, 0, row, column), (0, column, row, width), (row, column, height, width), (row, 0, height, column)]


# ---------------------------------------------------------------- copy-paste


def paste(
    image: Tensor,
    objects: Objects,
    data: DataConfig,
    key: int,
    others: Others,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Objects]:
    """A random half of another image's objects over this content, placed by a jitter and a mirror of their own.

    Args:
        image, objects: (C, h, w) content and its truth, input frame; not changed.

    Returns:
        image of the same size; what is left of the objects, and after them the pasted ones.
    """
    height, width = image.shape[-2:]
    chances = chances_of(key)

    def put(other: Tensor, record: Record) -> _Placed | None:
        if len(other) != len(image):
            raise DataError(f"has {len(other)} channels, other images {len(image)}; make them equal", path=record.path)
        chosen = np.flatnonzero((stream(key, _PICKED).random(len(record)) < 0.5) & ~record.crowd)
        their = chances_of(sample_key(key, _PASTED))
        placement = place(record.size, data, (height, width), their)
        placed = place_objects(_only(record, chosen), placement, data, flip_pairs)
        return _Placed(place_image(other, placement, data, their), placed) if len(placed) else None

    part = others(sample_key(key, _PASTED), put)
    if part is None:
        return image, objects
    high, wide = part.image.shape[-2:]
    top, left = int(chances["paste_y"] * (height - high + 1)), int(chances["paste_x"] * (width - wide + 1))
    pasted = part.objects.shifted(top, left)
    covered = covered_by(pasted, (height, width))
    place_there = np.s_[..., top : top + high, left : left + wide]
    result = image.clone()
    result[place_there] = torch.where(torch.from_numpy(covered[place_there]), part.image, result[place_there])
    return result, joined([behind(objects, covered, data), pasted])


def _only(record: Record, rows: np.ndarray) -> Record:
    """The record with these of its objects."""
    return replace(
        record,
        boxes=record.boxes[rows],
        labels=record.labels[rows],
        masks=tuple(record.masks[row] for row in rows.tolist()),
        crowd=record.crowd[rows],
        areas=record.areas[rows],
        annotation_ids=record.annotation_ids[rows],
        keypoints=None if record.keypoints is None else record.keypoints[rows],
    )
