"""TFRecord shards as TensorFlow and our own reader find them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats import tfrecord as reader
from maskrcnn.data.open import open_dataset
from maskrcnn.data.sample import load_record
from maskrcnn.data.write import tfrecord
from maskrcnn.data.write.tfrecord import write
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle
from maskrcnn.structures import RLE, KeypointSchema, Polygons, Record
from tests.data.contract import assert_dataset

RINGS = np.array([[2.5, 3.0], [8.0, 3.0], [8.0, 9.0], [2.0, 9.0]]), np.array([[12.0, 1], [15.0, 1], [15.0, 4]])


def made(folder: Path, count: int = 3, *, suffix: str = ".png", size: tuple[int, int] = (10, 20)) -> Dataset:
    """Images 7, 8, ... with a polygon of two parts and a crowd as RLE, classes with sparse ids."""
    folder.mkdir(parents=True, exist_ok=True)
    crowd = np.zeros(size, bool)
    crowd[:4, 9:] = True
    records = []
    for number in range(count):
        file = folder / f"image{number}{suffix}"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(file)
        records.append(
            Record(
                path=file,
                image_id=7 + number,
                height=size[0],
                width=size[1],
                boxes=np.array([[2, 3, 8, 9], [9, 0, size[1], 4.25]], np.float32),
                labels=np.array([1, 0]),
                masks=(Polygons(RINGS), RLE(size, encode_mask(crowd)["counts"])),
                crowd=np.array([False, True]),
                areas=np.array([36.5, 44], np.float32),
                annotation_ids=np.array([100 + number, 200 + number]),
                split="train" if number else "val",
            )
        )
    return Dataset(records, ("jug", 'a "cup"'), (3, 90))


def assert_same(one: Dataset, other: Dataset) -> None:
    assert_dataset(other)
    assert (other.classes, other.category_ids, other.keypoints) == (one.classes, one.category_ids, one.keypoints)
    assert other.warnings == ()
    found = {record.image_id: record for record in other}
    assert len(one) == len(other) == len(found)
    for record in one:
        again = found[record.image_id]
        assert (again.size, again.split) == (record.size, record.split)
        assert np.allclose(again.boxes, record.boxes, rtol=2e-7, atol=0)  # one float32 step
        for name in ("labels", "crowd", "areas", "annotation_ids"):
            assert np.array_equal(getattr(again, name), getattr(record, name)), name
        assert len(again.masks) == len(record.masks)
        for a, b in zip(again.masks, record.masks, strict=True):
            assert np.array_equal(*(decode_rle(mask_to_rle(mask, record.size)) for mask in (a, b)))
        assert np.array_equal(load_record(again), load_record(record))


@pytest.mark.parametrize("mask_type", ["png", "numerical"])
def test_a_round_trip_loses_nothing(tmp_path, mask_type):
    dataset = made(tmp_path / "images", 5)
    written = write(dataset, tmp_path / "out", mask_type=mask_type, shards=2)
    assert [file.name for file in written] == [
        "val.record-00000-of-00002",
        "val.record-00001-of-00002",
        "train.record-00000-of-00002",
        "train.record-00001-of-00002",
        "label_map.pbtxt",
    ]
    assert sorted(written) == sorted((tmp_path / "out").iterdir())  # no unfinished file
    assert_same(dataset, reader.read(tmp_path / "out"))
    assert open_dataset(tmp_path / "out").format == "tfrecord"


def test_boxes_and_keypoints_without_masks(tmp_path):
    dataset = made(tmp_path / "images", 1)
    points = np.array([[[3.5, 4, 2], [0, 0, 0]], [[1, 1, 1], [9, 9, 2]]], np.float32)
    record = replace(dataset[0], masks=(), keypoints=points, split="")
    dataset = replace(dataset, records=[record], keypoints=KeypointSchema(("left_ear", "right_ear"), ((0, 1),)))
    written = write(dataset, tmp_path / "out")
    assert written[0].name == "data.record-00000-of-00001"
    again = reader.read(tmp_path / "out")
    assert_same(dataset, again)
    assert np.array_equal(again[0].keypoints, points)


def test_an_image_without_objects(tmp_path):
    dataset = made(tmp_path / "images", 2)
    empty = {
        name: getattr(dataset[0], name)[:0] for name in ("boxes", "labels", "masks", "crowd", "areas", "annotation_ids")
    }
    dataset = replace(dataset, records=[replace(dataset[0], **empty), dataset[1]])
    for mask_type in ("png", "numerical"):
        write(dataset, tmp_path / mask_type, mask_type=mask_type)
        assert_same(dataset, reader.read(tmp_path / mask_type))


def test_images_are_copied_where_tensorflow_sees_what_we_see(tmp_path):
    jpeg = made(tmp_path / "a", 1, suffix=".jpg")
    write(jpeg, tmp_path / "jpeg")
    record = reader.read(tmp_path / "jpeg")[0]
    assert record.span.read(record.path) == jpeg[0].path.read_bytes()
    for suffix in (".bmp", ".webp"):
        other = made(tmp_path / "b", 1, suffix=suffix)
        write(other, tmp_path / suffix)
        record = reader.read(tmp_path / suffix)[0]
        assert record.span.read(record.path).startswith(b"\x89PNG")
        assert_same(other, reader.read(tmp_path / suffix))


def test_turned_images_become_upright(tmp_path):
    dataset = made(tmp_path / "images", 1, suffix=".jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = dataset[0].path
    Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file, exif=exif, quality=95)
    write(dataset, tmp_path / "out")
    record = reader.read(tmp_path / "out")[0]
    assert record.span.read(record.path).startswith(b"\x89PNG")
    assert_same(dataset, reader.read(tmp_path / "out"))


def test_made_images_and_records_inside_shards(tmp_path):
    dataset = made(tmp_path / "images", 1)
    pixels = load_record(dataset[0])
    write(replace(dataset, records=[replace(dataset[0], make=lambda: pixels)]), tmp_path / "made")
    again = reader.read(tmp_path / "made")
    assert_same(dataset, again)
    write(again, tmp_path / "twice")
    assert_same(dataset, reader.read(tmp_path / "twice"))


def test_ids_below_one_are_renumbered(tmp_path):
    dataset = replace(made(tmp_path / "images"), category_ids=(0, 5))
    write(dataset, tmp_path / "out")
    assert reader.read(tmp_path / "out").category_ids == (1, 2)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    dataset = made(tmp_path / "images")
    with pytest.raises(DataError, match="mask_type 'rle', shards 1: give 'png' or 'numerical'"):
        write(dataset, tmp_path / "out", mask_type="rle")
    with pytest.raises(DataError, match="at least 1 shard"):
        write(dataset, tmp_path / "out", shards=0)
    write(dataset, tmp_path / "out")
    with pytest.raises(DataError, match=r"already holds train\.record-00000-of-00001; give another folder"):
        write(dataset, tmp_path / "out")
    monkeypatch.setattr(tfrecord, "LARGEST", 1000)
    with pytest.raises(DataError, match=r"image 7: the record becomes .* GB, more than protobuf's 2; write PNG masks"):
        write(dataset, tmp_path / "large", mask_type="numerical")
    assert list((tmp_path / "large").iterdir()) == []
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(DataError, match=r'needs google-crc32c; pip install "maskrcnn\[tf\]"'):
        write(dataset, tmp_path / "none")


def test_a_mask_of_another_size(tmp_path):
    dataset = made(tmp_path / "images", 1)
    wrong = replace(dataset[0], masks=(dataset[0].masks[0], RLE((5, 5), encode_mask(np.ones((5, 5)))["counts"])))
    with pytest.raises(DataError, match="image 7, annotation 200: a mask has 5x5 pixels, its image 20x10"):
        write(replace(dataset, records=[wrong]), tmp_path / "out")


# ---------------------------------------------------------------- TensorFlow itself


@pytest.mark.slow
@pytest.mark.parametrize("mask_type", ["png", "numerical"])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_tensorflow_reads_the_same(tmp_path, mask_type, suffix):
    python = os.environ.get("MASKRCNN_TEST_TENSORFLOW")
    if not python:
        pytest.skip("set MASKRCNN_TEST_TENSORFLOW to a python that has tensorflow")
    dataset = made(tmp_path / "images", 4, suffix=suffix)
    files = [str(file) for file in write(dataset, tmp_path / "out", mask_type=mask_type, shards=2)[:-1]]
    script = Path(__file__).parent / "tensorflow_reads.py"
    result = subprocess.run([python, script, mask_type, *files], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    found = {image["id"]: image for image in json.loads(result.stdout)}
    assert set(found) == {record.image_id for record in dataset}
    for record in dataset:
        image = found[record.image_id]
        pixels = np.ascontiguousarray(load_record(record).permute(1, 2, 0).numpy())
        assert image["pixels"] == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert (image["filename"], image["format"], image["size"]) == (record.path.name, "png", [10, 20])
        scaled = np.array(image["boxes"])[:, [1, 0, 3, 2]] * [20, 10, 20, 10]
        assert np.allclose(scaled, record.boxes, rtol=2e-7, atol=0)
        assert image["texts"] == [dataset.classes[label] for label in record.labels]
        assert image["labels"] == [dataset.category_ids[label] for label in record.labels]
        assert image["crowd"] == [0, 1]
        assert image["areas"] == [36.5, 44]
        truth = [decode_rle(mask_to_rle(mask, record.size)) for mask in record.masks]
        assert image["masks"] == [hashlib.sha256(mask.tobytes()).hexdigest() for mask in truth]
        assert image["shapes"] == [[10, 20]] * 2
