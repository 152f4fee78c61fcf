"""Boxes from masks, whatever the annotation file says. Works on columns; no record is unpacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from maskrcnn.structures import RLE, MaskFile, Polygons
from maskrcnn.table import Table
from maskrcnn.table.change import image_files, mask_places, with_boxes
from maskrcnn.table.pack import POLYGONS, Columns

EMPTY = "objects with an empty mask"
UNREADABLE = "masks that cannot be read"


def boxes_from_masks(dataset: Dataset) -> Dataset:
    """Every box becomes the tight box of its mask: of a polygon its corners, of RLE and bitmaps their pixels.

    All are cut to the image. An object without an inside is left out and counted in the warnings, as is one whose mask
    file cannot be read. Areas stay as annotated.

    Raises:
        DataError: the data set has no masks.
    """
    table = dataset.table
    if not table.counts.any():
        return dataset
    if not table.mask_counts.any():
        raise DataError("has boxes but no masks to take them from; leave boxes as given", path=dataset.name or None)
    if len(wrong := np.flatnonzero(table.counts != table.mask_counts)):
        message = f"{table.mask_counts[wrong[0]]} masks for {table.counts[wrong[0]]} objects; give each its mask"
        raise DataError(message, path=dataset.name or None, image=table.image_ids[wrong[0]])
    skipped = Skipped()
    masks = mask_places(table)[0]
    boxes = _bounds(table, masks, skipped)
    limit = table.sizes[table.image_of][:, [1, 0, 1, 0]]
    boxes = np.clip(boxes, 0, limit).astype(np.float32)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # NaN, "unreadable", fails too
    _count_empty(table, np.flatnonzero(~keep & ~np.isnan(boxes[:, 0])), skipped)
    records = with_boxes(table, boxes, keep)
    return replace(dataset, records=records, warnings=(*dataset.warnings, *skipped.sentences()))


def _bounds(table: Table, masks: np.ndarray, skipped: Skipped) -> np.ndarray:
    """(N, 4) float64 of these masks; zeros for an empty one."""
    columns = table.columns
    boxes = np.zeros((len(masks), 4))
    kinds, places = columns["mask_kind"][masks], columns["mask_at"][masks]
    outlines = kinds == POLYGONS
    if outlines.any():
        boxes[outlines] = _polygon_bounds(columns)[places[outlines]]
    for row in np.flatnonzero(~outlines).tolist():
        mask = table.mask(int(masks[row]))
        assert not isinstance(mask, Polygons)
        try:
            boxes[row] = _pixel_bounds(mask)
        except DataError as error:
            image, number = table.image_of[row], table.annotation_ids[row]
            skipped.add(UNREADABLE, error.path or Path(), table.image_ids[image], number, error.message)
            boxes[row] = np.nan
    return boxes


def _polygon_bounds(columns: Columns) -> np.ndarray:
    """(polygons, 4): the smallest and largest coordinates of all rings; zeros where there is no point."""
    ends = columns["ring_points"][columns["polygon_rings"]]
    filled = np.flatnonzero(np.diff(ends) > 0)
    bounds = np.zeros((len(ends) - 1, 4))
    if len(filled):
        points = columns["points"]
        bounds[filled, :2] = np.minimum.reduceat(points, ends[filled])
        bounds[filled, 2:] = np.maximum.reduceat(points, ends[filled])
    return bounds


def _pixel_bounds(mask: RLE | MaskFile) -> np.ndarray:
    """(4,) float64; zeros where no pixel is set. Raises `DataError` where a file cannot be read."""
    if isinstance(mask, RLE):
        x, y, width, height = coco_mask.to_bbox({"size": list(mask.size), "counts": mask.counts})
        return np.array([x, y, x + width, y + height])
    pixels = load_mask_file(mask)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1.0]) if len(rows) else np.zeros(4)


def _count_empty(table: Table, objects: np.ndarray, skipped: Skipped) -> None:
    if not len(objects):
        return
    paths = image_files(table)[0]
    images, numbers, boxes = table.image_of, table.annotation_ids, table.boxes
    for row in objects.tolist():
        value = f"box {boxes[row].tolist()} as given"
        skipped.add(EMPTY, Path(paths[images[row]]), table.image_ids[images[row]], numbers[row], value)
