"""One mask image per object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import png_objects
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.structures import MaskFile
from tests.data.contract import assert_dataset


def save(file: Path, pixels: np.ndarray, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def square(value: int = 255) -> np.ndarray:
    pixels = np.zeros((40, 50), np.uint8)
    pixels[6:30, 5:20] = value
    return pixels


def sample(root: Path, number: str = "x1", image: str = ".png", mask: str = ".png") -> Path:
    save(root / number / "images" / f"{number}{image}", np.zeros((40, 50, 3), np.uint8))
    save(root / number / "masks" / f"0{mask}", square())
    return root


@pytest.mark.parametrize("image", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("mask", [".png", ".tif", ".jpg"])
def test_any_kind_of_image(tmp_path, image, mask):
    dataset = open_dataset(sample(tmp_path, image=image, mask=mask))
    assert_dataset(dataset)
    assert dataset.format == "png_objects"
    assert dataset[0].boxes.tolist() == [[5, 6, 20, 30]]
    assert dataset[0].areas.tolist() == [15 * 24]
    (found,) = dataset[0].masks
    assert (decode_rle(mask_to_rle(found, (40, 50))) == (square() > 0)).all()
    assert isinstance(found, MaskFile) == (mask != ".jpg")  # near the edges of a JPEG are pixels just above 0


def test_size_as_a_person_sees_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    save(tmp_path / "x1" / "images" / "x1.jpg", np.zeros((50, 40, 3), np.uint8), exif=exif)
    save(tmp_path / "x1" / "masks" / "0.png", square())
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset[0].size == (40, 50)
    assert len(dataset[0]) == 1


def test_splits_one_folder_down(tmp_path):
    sample(tmp_path / "stage1_train")
    sample(tmp_path / "stage1_test", "x2")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert sorted(dataset.splits) == ["test", "train"]


def test_folders_named_like_splits_hold_whole_masks(tmp_path):
    save(tmp_path / "train" / "images" / "a.png", np.zeros((40, 50, 3), np.uint8))
    save(tmp_path / "train" / "masks" / "a.png", square())
    assert not png_objects.sniff(tmp_path)
    assert open_dataset(tmp_path).format == "mask_folder"


def test_what_does_not_fit_is_counted(tmp_path):
    sample(tmp_path)
    save(sample(tmp_path, "x2") / "x2" / "images" / "second.png", square())
    sample(tmp_path, "x3").joinpath("x3", "images", "x3.png").write_bytes(b"no picture")
    save(tmp_path / "x1" / "masks" / "1.png", square(0))
    save(tmp_path / "x1" / "masks" / "2.png", square()[:9])
    (tmp_path / "x1" / "masks" / "3.png").write_bytes(b"\x89PNG")
    (tmp_path / "x1" / "masks" / "._0.png").write_bytes(b"macOS")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert [len(record) for record in dataset] == [1]
    text = "\n".join(dataset.warnings)
    for kind in (
        "folders without exactly one image",
        "images that cannot be opened",
        "empty masks",
        "masks of another size than their image",
        "masks that cannot be read",
    ):
        assert f"skipped 1 {kind}, first: " in text


def test_nothing_that_fits(tmp_path):
    sample(tmp_path).joinpath("x1", "images", "x1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 images that cannot be opened"):
        open_dataset(tmp_path)
    assert not png_objects.sniff(tmp_path / "nowhere")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5), st.booleans())
def test_any_bytes(tmp_path_factory, changes, in_mask):
    root = sample(sample(tmp_path_factory.mktemp("fuzz")), "x2")
    file = root / "x1" / "masks" / "0.png" if in_mask else root / "x1" / "images" / "x1.png"
    data = bytearray(file.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    file.write_bytes(data)
    assert_dataset(open_dataset(root))
