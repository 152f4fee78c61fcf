"""Mask images, each read once: the objects of a label image (one number an object), or the connected parts of a mask.

Everything goes by runs of equal pixels along a line, so that work follows the outlines and not pixels times objects.
Boxes are x0 y0 x1 y1 in the original frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from maskrcnn.data.formats.assemble import Object
from maskrcnn.data.sample import image_size, opened
from maskrcnn.errors import DataError
from maskrcnn.ops.rle import counts_of
from maskrcnn.structures import RLE, MaskFile

MOST_OBJECTS = 1 << 16  # in one image: all that 16 bits can number
MOST_COLOURS = 1024  # of a mask in colours; a photo has more
LOSSY = ("JPEG", "MPO", "WEBP")  # their pixels are near what was drawn
VOID = 255  # in a palette image beside smaller numbers: VOC's border
STRIP = 1 << 22  # pixels looked at in one go: bounds the memory of runs

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Labels:
    """A label image.

    Attributes:
        path: its file.
        pixels: (H, W) unsigned or int64; 0 is background.
        in_file: whether the pixels of the file equal these numbers, so that a `MaskFile` can name them.
        whole_in_file: whether those above 0 in the file are the same, as a `MaskFile` without a number takes them.
        palette: whether they are indices of colours.
    """

    path: Path
    pixels: np.ndarray
    in_file: bool
    whole_in_file: bool = True
    palette: bool = False


@dataclass(frozen=True, slots=True)
class Regions:
    """The objects of one image.

    Attributes:
        values: (N,) int64, ascending; the number of the object in its label image.
        boxes: (N, 4) int64.
        areas: (N,) int64, pixels.
    """

    values: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray


class WrongSizeError(DataError):
    """A mask of another size than its image."""


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in the order of the items. Few threads: each holds one decoded image."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def read_size(path: Path) -> tuple[int, int] | DataError:
    """(height, width) of an image, EXIF applied, or what is wrong with it. For `in_threads`."""
    try:
        return image_size(path)
    except DataError as error:
        return error


def read_labels(path: Path, size: tuple[int, int]) -> Labels:
    """A mask image as numbers; colours become numbers too, lossy files 0 and 1.

    Args:
        size: (height, width) that it must have; checked before anything is decoded.

    Raises:
        DataError: unreadable, of another size, or not a mask.
    """
    with opened(path) as image:
        if (image.height, image.width) != size:
            found = f"{image.width}x{image.height} instead of {size[1]}x{size[0]}"
            raise WrongSizeError(f"the mask is {found}; save it in the size of its image", path=path)
        if image.mode not in ("1", "L", "P", "I", "RGB", "RGBA", "LA") and not image.mode.startswith("I;16"):
            raise DataError(f"the mask has pixels of type {image.mode}; save whole numbers as PNG", path=path)
        if image.format in LOSSY:  # WebP can be exact, but does not say so
            return Labels(
                path, (np.asarray(image.convert("L")) >= 128).view(np.uint8), in_file=False, whole_in_file=False
            )
        pixels, palette = np.asarray(image), image.mode == "P"
    if pixels.ndim == 3:
        return _from_colours(path, pixels)
    if pixels.dtype == bool:
        return Labels(path, pixels.astype(np.uint8), in_file=True)  # Pillow's True is 255 inside
    if pixels.dtype.kind == "i":
        return Labels(path, np.maximum(pixels, 0), in_file=True)
    return Labels(path, pixels, in_file=True, palette=palette)


def _from_colours(path: Path, pixels: np.ndarray) -> Labels:
    """(H, W, 2..4): alpha is dropped; grey stays what it is, a colour is numbered by its bytes."""
    if pixels.shape[2] == 2:
        return Labels(path, np.ascontiguousarray(pixels[..., 0]), in_file=False, whole_in_file=False)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return Labels(path, np.ascontiguousarray(red), in_file=True)
    numbers = red.astype(np.uint32) << 16
    numbers |= green.astype(np.uint32) << 8
    numbers |= blue
    return Labels(path, numbers, in_file=False)


def without_border(labels: Labels) -> Labels:
    """Without VOC's border: 255 in a palette image, where the other numbers are smaller than 254."""
    if not labels.palette:
        return labels
    present = np.flatnonzero(np.bincount(labels.pixels.ravel(), minlength=256))
    if present[-1] != VOID or len(present) < 2 or not 0 < present[-2] < VOID - 1:
        return labels
    return replace(labels, pixels=np.where(labels.pixels == VOID, np.uint8(0), labels.pixels))


def as_one(labels: Labels) -> Labels:
    """Everything above 0 as one object, number 1."""
    return replace(labels, pixels=(labels.pixels > 0).view(np.uint8), in_file=False)


def regions_of(labels: Labels) -> Regions:
    """Box and area of every number in a label image, in one pass. Raises `DataError` for a photo in place of a mask."""
    pixels = labels.pixels
    rows = max(1, STRIP // pixels.shape[1])
    strips = [_strip(pixels[top : top + rows], top) for top in range(0, len(pixels), rows)]
    merged = _merged(*(np.concatenate(column) for column in zip(*strips, strict=True)))
    most = MOST_COLOURS if pixels.dtype == np.uint32 else MOST_OBJECTS
    if len(merged.values) > most:
        message = f"has {len(merged.values)} colours or numbers, more than {most}; is it a photo in place of a mask?"
        raise DataError(message, path=labels.path)
    return merged


def _strip(pixels: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, boxes and areas of some rows, each value once."""
    row, start, stop, value = _runs(pixels)
    boxes = np.stack([start, row + top, stop, row + top + 1], axis=1)
    found = _merged(value.astype(np.int64), boxes, stop - start)
    return found.values, found.boxes, found.areas


def _merged(values: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> Regions:
    """One row for each value: areas added, boxes joined."""
    if not len(values):
        return Regions(values, boxes, areas)
    order = np.argsort(values, kind="stable")
    values, boxes, areas = values[order], boxes[order], areas[order]
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    low, high = np.minimum.reduceat(boxes[:, :2], first), np.maximum.reduceat(boxes[:, 2:], first)
    return Regions(values[first], np.concatenate([low, high], axis=1), np.add.reduceat(areas, first))


def _runs(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(L, P) -> line, start, stop and value of each run of equal pixels above 0."""
    flat, length = np.ascontiguousarray(lines).ravel(), lines.shape[1]
    edge = np.empty(len(flat), bool)
    np.not_equal(flat[1:], flat[:-1], out=edge[1:])
    edge[::length] = True
    starts = np.flatnonzero(edge)
    stops = np.concatenate([starts[1:], [len(flat)]])
    values = flat[starts]
    starts, stops, values = (part[values > 0] for part in (starts, stops, values))
    line = starts // length
    return line, starts - line * length, stops - line * length, values


# ---------------------------------------------------------------- masks that a file cannot name: as RLE


def regions_as_rle(labels: Labels, regions: Regions) -> list[RLE]:
    """The mask of each region, in the order of `values`."""
    column, start, stop, value = _runs(labels.pixels.T)
    return _encoded(column, start, stop, np.searchsorted(regions.values, value), labels.pixels.shape)


def parts_of(labels: Labels) -> tuple[Regions, list[RLE]]:
    """The connected parts (8 neighbours) of everything above 0, ordered by their first column; `values` count from 1.

    Raises:
        DataError: more parts than objects can be.
    """
    column, start, stop, _ = _runs((labels.pixels > 0).T)
    roots = _joined(column, start, stop)
    _, part = np.unique(roots, return_inverse=True)
    if len(part) and part.max() >= MOST_OBJECTS:
        raise DataError(f"the mask falls into {part.max() + 1} parts; is it noise?", path=labels.path)
    boxes = np.stack([column, start, column + 1, stop], axis=1)
    return _merged(part + 1, boxes, stop - start), _encoded(column, start, stop, part, labels.pixels.shape)


def _joined(column: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """(R,) the least run that each run is connected to, by union-find over all runs at once."""
    stride = int(stop.max(initial=0)) + 2  # so that the end of a column and the start of the next do not touch
    low, high = column * stride + start, column * stride + stop
    first = np.searchsorted(high, low + stride, side="left")  # touching corners count
    count = np.maximum(np.searchsorted(low, high + stride, side="right") - first, 0)
    one = np.repeat(np.arange(len(low)), count)
    other = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    root = np.arange(len(low))
    while len(one):
        a, b = root[one], root[other]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(root, jumped := root[root]):
            root = jumped
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
    return root


def _encoded(
    column: np.ndarray, start: np.ndarray, stop: np.ndarray, group: np.ndarray, size: tuple[int, ...]
) -> list[RLE]:
    """Column runs -> one RLE for each of the groups 0, 1, 2 ..."""
    height, width = size
    order = np.argsort(group, kind="stable")
    edges = np.stack([column * height + start, column * height + stop], axis=1)[order]
    limits = np.searchsorted(group[order], np.arange(group.max(initial=-1) + 2))
    masks = []
    for first, end in pairwise(limits.tolist()):
        runs = edges[first:end].ravel()
        meets = np.flatnonzero(runs[1:-1:2] == runs[2::2])  # goes on at the top of the next column
        runs = np.delete(runs, np.concatenate([2 * meets + 1, 2 * meets + 2]))
        counts = np.diff(np.concatenate([[0], runs, [height * width]]))
        counts = counts[:-1] if counts[-1] == 0 else counts
        masks.append(RLE((height, width), counts_of(counts, (height, width))["counts"]))
    return masks


def masks_of(labels: Labels, regions: Regions) -> Sequence[RLE | MaskFile]:
    """A mask for each region: its number in the file where that says it, else an RLE."""
    if not labels.in_file:
        return regions_as_rle(labels, regions)
    return [MaskFile(labels.path, value) for value in regions.values.tolist()]


def objects_of(regions: Regions, masks: Sequence[RLE | MaskFile], name: str = "object") -> list[Object]:
    """What `assemble` takes; with box and area given, it does not read the masks again."""
    rows = zip(masks, regions.boxes.tolist(), regions.areas.tolist(), strict=True)
    return [Object(name, mask, box, area=area) for mask, box, area in rows]
