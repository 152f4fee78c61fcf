"""Small drawings of a data set's images for a page: their truth before and after augmentation, or what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.data.check import Problem
from maskrcnn.data.objects import Objects
from maskrcnn.data.resize import resize_image, resized_size
from maskrcnn.data.sample import load_record, to_display
from maskrcnn.data.transforms import augment
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import roi_masks_to_rle
from maskrcnn.ops.rle import rle_area
from maskrcnn.structures import RLE, Polygons, Record
from maskrcnn.view.draw import draw_truth

MOST_NAMES = 12  # objects above which names would hide the picture
MOST_BOXES = 40  # the same for boxes
MARK = (255, 59, 48)  # of what a problem is about

T = TypeVar("T")


def choose(dataset: Dataset, count: int, seed: int = 0) -> list[int]:
    """Rows to show: for half of them one for each class, the rarest first, then any, those with objects first."""
    table = dataset.table
    order = np.random.default_rng(seed).permutation(len(table))
    rank = np.empty(len(table), np.int64)
    rank[order] = np.arange(len(table))
    labels, images = table.labels[~table.crowd], table.image_of[~table.crowd]
    classes, numbers = np.unique(labels, return_counts=True)
    chosen: dict[int, None] = {}
    for label in classes[np.argsort(numbers, kind="stable")].tolist():
        if len(chosen) >= count // 2:
            break
        candidates = images[labels == label]
        chosen[int(candidates[rank[candidates].argmin()])] = None
    empty = table.counts[order] == 0
    return list({**chosen, **dict.fromkeys([*order[~empty].tolist(), *order[empty].tolist()])})[:count]


# ---------------------------------------------------------------- before and after augmentation


def before_and_after(
    dataset: Dataset, rows: list[int], data: DataConfig, side: int, seed: int = 0
) -> Iterator[tuple[Record, np.ndarray, np.ndarray]]:
    """(record, before, after) of each row that can be read: drawings with sides of at most `side` pixels.

    Both show what the model is given, resized to the input frame, without and with augmentation.
    """
    load = _load_as_shown if data.pixels == "raw" else load_record
    partners = _Partners(dataset, load)
    data = replace(data, pixels="rgb8", copy_paste=data.copy_paste if dataset.has_masks else 0.0)
    pairs = () if dataset.keypoints is None else dataset.keypoints.flip_pairs
    for row in rows:
        record = dataset[row]
        canvas = _padded(record.size, data)
        try:
            image = load(record)
            plain = augment(image, record, data, None, flip_pairs=pairs)
            changed = augment(image, record, data, seed + row + 1, canvas, flip_pairs=pairs, others=partners)
        except DataError:  # among the problems
            continue
        yield record, draw_sample(*plain, dataset, side), draw_sample(*changed, dataset, side)


@dataclass(frozen=True, slots=True)
class _Partners:
    """Other images for copy-paste and mosaic: see `compose.Others`."""

    dataset: Dataset
    load: Callable[[Record], Tensor]

    def __call__(self, number: int, use: Callable[[Tensor, Record], T]) -> T:
        for step in range(min(len(self.dataset), 10)):
            record = self.dataset[(number + step) % len(self.dataset)]
            try:
                return use(self.load(record), record)
            except DataError:
                continue
        raise DataError("no image of the data set can be used")


def _load_as_shown(record: Record) -> Tensor:
    """(3, H, W) uint8 of any depth and number of channels, stretched for people's eyes."""
    return torch.from_numpy(to_display(load_record(record, "raw"))).permute(2, 0, 1)


def _padded(size: tuple[int, int], data: DataConfig) -> tuple[int, int]:
    height, width = resized_size(*size, data)
    return -(-height // data.pad_multiple) * data.pad_multiple, -(-width // data.pad_multiple) * data.pad_multiple


def draw_sample(image: Tensor, objects: Objects, dataset: Dataset, side: int) -> np.ndarray:
    """Content (3, h, w) 0..255 and objects, input frame -> (h', w', 3) uint8 with sides of at most `side`."""
    small = _shrunk(image, side)
    size = small.shape[1], small.shape[2]
    scale = np.array([size[1] / image.shape[2], size[0] / image.shape[1]])
    boxes = np.clip(objects.boxes * np.tile(scale, 2), 0, [size[1], size[0]] * 2).astype(np.float32)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    rles: list[dict] = []
    if objects.masks.shape[-1]:
        rles = roi_masks_to_rle(objects.masks.astype(np.float32) / 255, boxes, size)
        keep &= np.array([rle_area(rle) > 0 for rle in rles], bool)  # crowds have none, tiny objects none at this size
    kept = np.flatnonzero(keep)
    record = Record(
        path=Path(dataset.name or "sample"),
        image_id=0,
        height=size[0],
        width=size[1],
        boxes=boxes[kept],
        labels=objects.labels[kept],
        masks=tuple(RLE(size, rles[i]["counts"]) for i in kept) if rles else (),
        crowd=objects.crowd[kept],
        areas=np.ones(len(kept), np.float32),
        annotation_ids=kept,
    )
    pixels = np.array(small.permute(1, 2, 0).numpy(), order="C")
    drawn = draw_truth(record, dataset, pixels, boxes=len(kept) <= MOST_BOXES, labels=len(kept) <= MOST_NAMES)
    if objects.keypoints is None:
        return drawn
    points = objects.keypoints[kept].reshape(-1, 3)
    return _with_dots(drawn, points[points[:, 2] > 0, :2] * scale)


def _shrunk(image: Tensor, side: int) -> Tensor:
    """(3, h, w) uint8 or float 0..255 -> uint8 with sides of at most `side`."""
    if image.dtype != torch.uint8:
        image = image.round().clamp(0, 255).to(torch.uint8)
    scale = min(1.0, side / max(image.shape[1:]))
    return resize_image(
        image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[2] * scale))), "antialias"
    )


def _with_dots(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(pixels)
    draw = ImageDraw.Draw(canvas)
    for x, y in points.tolist():
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="white", outline="black")
    return np.asarray(canvas)


# ---------------------------------------------------------------- an image with a problem


def draw_problem(dataset: Dataset, problem: Problem, side: int) -> np.ndarray | None:
    """The image that a problem is about, (h, w, 3) uint8, with the object's box and outline marked; None where the
    problem is about no image, or the image cannot be read."""
    from PIL import Image, ImageDraw

    if problem.row is None:
        return None
    record = dataset[problem.row]
    try:
        image = load_record(record)
    except DataError:
        return None
    small = _shrunk(image, side)
    canvas = Image.fromarray(np.ascontiguousarray(small.permute(1, 2, 0).numpy()))
    draw = ImageDraw.Draw(canvas)
    if problem.index is not None:
        for line in _lines_of(record, problem.index):
            scaled = line * [small.shape[2] / image.shape[2], small.shape[1] / image.shape[1]]
            draw.line([tuple(point) for point in np.clip(scaled, -side, 2 * side).tolist()], fill=MARK, width=2)
    return np.asarray(canvas)


def _lines_of(record: Record, index: int) -> list[np.ndarray]:
    """Closed lines (P, 2) around an object, those with finite coordinates: its outline, or else its box."""
    mask = record.masks[index] if index < len(record.masks) else None
    x0, y0, x1, y1 = record.boxes[index].astype(np.float64).tolist()
    box = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    rings = [box, *mask.rings] if isinstance(mask, Polygons) else [box]
    return [np.concatenate([ring, ring[:1]]) for ring in rings if len(ring) > 1 and np.isfinite(ring).all()]
