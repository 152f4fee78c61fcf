"""Tar shards as our own reader finds them."""

from __future__ import annotations

import tarfile
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.data.formats import tar as reader
from maskrcnn.data.open import open_dataset
from maskrcnn.data.write.tar import write
from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema, Polygons
from tests.data.write.test_tfrecord import assert_same, made


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_round_trip_loses_nothing(tmp_path, suffix):
    dataset = made(tmp_path / "images", 4, suffix=suffix)
    dataset = replace(dataset, classes=(*dataset.classes, "pot"), category_ids=(*dataset.category_ids, 91))
    written = write(dataset, tmp_path / "out", images=2)
    assert [file.name for file in written] == [
        "val-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
        "categories.json",
    ]
    again = open_dataset(tmp_path / "out")
    assert again.format == "tar"
    assert_same(dataset, again)
    record = next(record for record in again if record.image_id == 7)
    assert record.span.read(record.path) == dataset[0].path.read_bytes()
    assert np.array_equal(record.boxes, dataset[0].boxes)
    assert isinstance(record.masks[0], Polygons)
    assert all(np.array_equal(a, b) for a, b in zip(record.masks[0].rings, dataset[0].masks[0].rings, strict=True))


def test_keypoints_and_plain_tarfile(tmp_path):
    dataset = made(tmp_path / "images", 1)
    points = np.array([[[3.5, 4, 2], [0, 0, 0]], [[1, 1, 1], [9, 9, 2]]], np.float32)
    record = replace(dataset[0], masks=(), keypoints=points)
    dataset = replace(dataset, records=[record], keypoints=KeypointSchema(("left_ear", "right_ear"), ((0, 1),)))
    write(dataset, tmp_path / "out")
    again = reader.read(tmp_path / "out")
    assert_same(dataset, again)
    assert np.array_equal(again[0].keypoints, points)
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as archive:
        assert archive.getnames() == ["000000000.png", "000000000.json"]


def test_what_cannot_be_written(tmp_path):
    dataset = made(tmp_path / "images")
    with pytest.raises(DataError, match="0 images in a shard; give at least 1"):
        write(dataset, tmp_path / "out", images=0)
    write(dataset, tmp_path / "out")
    with pytest.raises(DataError, match=r"already holds train-000000\.tar; give another folder"):
        write(dataset, tmp_path / "out")
    dataset[0].path.unlink()
    with pytest.raises(DataError, match="image file not found"):
        write(dataset, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
