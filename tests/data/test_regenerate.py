"""Boxes from masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.open import open_dataset
from maskrcnn.data.regenerate import boxes_from_masks
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import encode_mask
from maskrcnn.structures import RLE, KeypointSchema, Mask, MaskFile, Polygons, Record
from maskrcnn.table import Table
from tests.data.contract import assert_dataset

SIZE = (20, 30)


def bitmap(*block: int) -> np.ndarray:
    """y0, x0, y1, x1 are set."""
    mask = np.zeros(SIZE, bool)
    if block:
        mask[block[0] : block[2], block[1] : block[3]] = True
    return mask


def rle(*block: int) -> RLE:
    return RLE(SIZE, encode_mask(bitmap(*block))["counts"])


def ring(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def record(folder: Path, image_id: int, *masks: Mask, **changes: object) -> Record:
    """Boxes are the whole image; labels, areas and ids count from 0."""
    path = folder / f"{image_id}.png"
    Image.new("L", SIZE[::-1]).save(path)
    count = len(masks)
    made = Record(
        path=path,
        image_id=image_id,
        height=SIZE[0],
        width=SIZE[1],
        boxes=np.tile(np.array([0, 0, 30, 20], np.float32), (count, 1)),
        labels=np.arange(count),
        masks=masks,
        crowd=np.arange(count) == 1,
        areas=np.arange(1, count + 1, dtype=np.float32),
        annotation_ids=np.arange(count) + 10 * image_id,
    )
    return replace(made, **changes)


def made(*records: Record, **changes: object) -> Dataset:
    return Dataset(records, ("a", "b", "c", "d"), (1, 2, 3, 4), name="set", **changes)


def test_boxes_fit_masks_of_every_kind(tmp_path):
    Image.fromarray(bitmap(3, 4, 9, 8).astype(np.uint8) * 7).save(tmp_path / "mask.png")
    masks = [
        Polygons((ring((1.5, 2.25), (9, 3), (4, 8.75)), ring((20, 1), (22, 1), (22, 3)))),
        rle(2, 5, 6, 11),
        MaskFile(tmp_path / "mask.png"),
        MaskFile(tmp_path / "mask.png", 7),
    ]
    data = boxes_from_masks(
        made(record(tmp_path, 1, *masks), record(tmp_path, 2), record(tmp_path, 3, rle(0, 0, 1, 1)))
    )
    assert_dataset(data)
    assert data[0].boxes.tolist() == [[1.5, 1, 22, 8.75], [5, 2, 11, 6], [4, 3, 8, 9], [4, 3, 8, 9]]
    assert data[2].boxes.tolist() == [[0, 0, 1, 1]]
    assert data[0].areas.tolist() == [1, 2, 3, 4]
    assert data.warnings == ()


def test_polygons_are_cut_to_the_image(tmp_path):
    data = boxes_from_masks(made(record(tmp_path, 1, Polygons((ring((-5, 2), (40, 2), (40, 50)),)))))
    assert data[0].boxes.tolist() == [[0, 2, 30, 20]]


def test_objects_without_an_inside_are_left_out_and_counted(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    outside = Polygons((ring((40, 1), (50, 1), (50, 9)),))
    masks = [rle(1, 1, 4, 4), rle(), outside, rle(5, 5, 9, 9)]
    schema = KeypointSchema(("nose",))
    points = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    first = record(tmp_path, 1, *masks, keypoints=points)
    second = record(tmp_path, 2, MaskFile(tmp_path / "broken.png"), rle(2, 3, 4, 5), keypoints=points[:2])
    data = boxes_from_masks(made(first, record(tmp_path, 3), second, keypoints=schema, warnings=("before",)))
    assert_dataset(data)
    assert data[0].boxes.tolist() == [[1, 1, 4, 4], [5, 5, 9, 9]]
    assert data[0].labels.tolist() == [0, 3]
    assert data[0].masks == (masks[0], masks[3])
    assert data[0].annotation_ids.tolist() == [10, 13]
    assert data[0].keypoints.tolist() == points[[0, 3]].tolist()
    assert data[2].boxes.tolist() == [[3, 2, 5, 4]]
    assert data[2].crowd.tolist() == [True]
    assert data.warnings[0] == "before"
    assert "skipped 1 masks that cannot be read, first: " in data.warnings[1]
    assert "broken.png, image 2, annotation 20: the mask file" in data.warnings[1]
    assert (
        f"skipped 2 objects with an empty mask, first: {tmp_path / '1.png'}, image 1, annotation 11" in data.warnings[2]
    )
    assert first.boxes[0].tolist() == [0, 0, 30, 20]


def test_chosen_and_mapped_rows(tmp_path):
    data = made(record(tmp_path, 1, rle(), rle(1, 1, 2, 2)), record(tmp_path, 2, rle(3, 3, 5, 6), rle()))
    assert [r.boxes.tolist() for r in boxes_from_masks(data.take([1]))] == [[[3, 3, 6, 5]]]
    data.table.save(tmp_path / "table")
    mapped = replace(data, records=Table.open(tmp_path / "table"))
    assert [r.boxes.tolist() for r in boxes_from_masks(mapped.take([1, 0]))] == [[[3, 3, 6, 5]], [[1, 1, 2, 2]]]


def test_without_masks_there_is_nothing_to_take(tmp_path):
    with pytest.raises(DataError, match="set: has boxes but no masks to take them from; leave boxes as given"):
        boxes_from_masks(made(record(tmp_path, 1, rle(), masks=())))
    with pytest.raises(DataError, match="set, image 1: 1 masks for 2 objects; give each its mask"):
        boxes_from_masks(made(record(tmp_path, 1, rle(), rle(), masks=(rle(),))))
    empty = made(record(tmp_path, 1))
    assert boxes_from_masks(empty) is empty


def test_real_boxes_were_nearly_right(data_dir):
    data = open_dataset(data_dir / "coco-mini")
    again = boxes_from_masks(data)
    assert_dataset(again)
    assert again.table.counts.tolist() == data.table.counts.tolist()
    outline = ~data.table.crowd
    assert np.abs(again.table.boxes - data.table.boxes)[outline].max() < 2
