"""Masks with the names of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import mask_folder
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle, rle_area
from maskrcnn.structures import RLE
from tests.data.contract import assert_dataset

SIZE = (24, 32)


def squares(value: int = 255, count: int = 2) -> np.ndarray:
    pixels = np.zeros(SIZE, np.uint8)
    for place in range(count):
        pixels[3:7, 2 + 6 * place : 7 + 6 * place] = value
    return pixels


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def photo(file: Path) -> None:
    save(file, np.full((*SIZE, 3), 90, np.uint8))


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize(
    ("image", "mask"), [("images/a.jpg", "masks/a.png"), ("a.jpg", "a_mask.png"), ("train/a.jpg", "train/a_mask.png")]
)
def test_connected_parts_of_a_mask_of_one_value(tmp_path, image, mask, value):
    photo(tmp_path / image)
    save(tmp_path / mask, squares(value))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert (dataset.format, dataset.classes) == ("mask_folder", ("object",))
    assert dataset[0].boxes.tolist() == [[2, 3, 7, 7], [8, 3, 13, 7]]
    assert dataset[0].areas.tolist() == [20, 20]
    assert all(isinstance(m, RLE) and rle_area(mask_to_rle(m, SIZE)) == 20 for m in dataset[0].masks)
    (warning,) = dataset.warnings
    assert warning.startswith("took 1 masks of one value apart: their connected parts are the objects, first: ")
    assert warning.endswith(": 2 parts")


def test_touching_corners_are_one_object(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    pixels = np.zeros(SIZE, np.uint8)
    pixels[2:4, 2:4] = pixels[4:6, 4:6] = 255
    save(tmp_path / "masks" / "a.png", pixels)
    assert open_dataset(tmp_path)[0].boxes.tolist() == [[2, 2, 6, 6]]


def test_one_mask_with_two_numbers_makes_all_of_them_label_images(tmp_path):
    """Even where `sniff` has not seen it."""
    for number in range(12):
        photo(tmp_path / "images" / f"{number:02}.jpg")
        save(tmp_path / "masks" / f"{number:02}.png", squares(1) + (squares(1, 1) if number == 11 else 0))
    dataset = open_dataset(tmp_path)
    assert dataset.format == "mask_folder"
    assert_dataset(dataset)
    assert [len(record) for record in dataset] == [1] * 11 + [2]
    assert not dataset.warnings


def test_photos_without_masks_beside_them_are_counted(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / name)
    save(tmp_path / "a_mask.png", squares())
    dataset = open_dataset(tmp_path)
    assert [record.path.name for record in dataset] == ["a.jpg"]
    assert any("skipped 1 images without a mask" in w and "b.jpg" in w for w in dataset.warnings)


def test_plain_photos_are_no_masks(tmp_path):
    for name in ("a.jpg", "b_mask.jpg", "images/a.jpg", "labels/b.jpg"):
        photo(tmp_path / name)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert not mask_folder.sniff(tmp_path)
    with pytest.raises(DataError, match="holds no image that can be used"):
        mask_folder.read(tmp_path)


def test_jpeg_masks(tmp_path):
    photo(tmp_path / "images" / "a.png")
    pixels = np.zeros(SIZE, np.uint8)
    pixels[8:16, 8:24] = 255
    save(tmp_path / "masks" / "a.jpg", pixels)
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset[0].boxes.tolist() == [[8, 8, 24, 16]]


def test_real_masks_of_colours(data_dir):
    dataset = open_dataset(data_dir / "tfrecord-masks" / "source", format="mask_folder")
    assert_dataset(dataset)
    assert (len(dataset), sum(map(len, dataset)), dataset.splits) == (32, 49, ("train",))
    assert not dataset.warnings


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["images/a.png", "masks/a.png"]), st.binary(max_size=60), st.integers(0, 400), st.booleans())
def test_any_bytes_in_any_file(tmp_path_factory, name, inserted, place, replace):
    root = tmp_path_factory.mktemp("fuzz")
    photo(root / "images" / "a.png")
    save(root / "masks" / "a.png", squares())
    data = (root / name).read_bytes()
    place %= len(data)
    (root / name).write_bytes(inserted if replace else data[:place] + inserted + data[place + len(inserted) :])
    try:
        assert_dataset(open_dataset(root))
    except DataError:
        return
