"""Label images: Penn-Fudan and folders like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import label_png
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from maskrcnn.structures import MaskFile
from tests.data.contract import assert_dataset

SIZE = (24, 32)


def numbers(*values: int) -> np.ndarray:
    """A square of 4 x 5 pixels for each value, side by side."""
    pixels = np.zeros(SIZE, np.int32)
    for place, value in enumerate(values):
        pixels[3:7, 2 + 6 * place : 7 + 6 * place] = value
    return pixels


def picture(file: Path, size: tuple[int, int] = SIZE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(file)


def mask(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8 if pixels.max() < 256 else np.uint16)).save(file)


def penn_fudan(root: Path) -> Path:
    picture(root / "PNGImages" / "FudanPed00001.png")
    mask(root / "PedMasks" / "FudanPed00001_mask.png", numbers(1, 2))
    picture(root / "PNGImages" / "PennPed00001.png")
    mask(root / "PedMasks" / "PennPed00001_mask.png", numbers(1))
    (root / "Annotation").mkdir()
    (root / "Annotation" / "FudanPed00001.txt").write_text("# Compatible with PASCAL Annotation Version 1.00")
    return root


@pytest.mark.parametrize("inside", ["", "PennFudanPed"])
def test_penn_fudan(tmp_path, inside):
    penn_fudan(tmp_path / inside)
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert (dataset.format, dataset.classes, dataset.splits) == ("label_png", ("person",), ())
    assert [record.path.name for record in dataset] == ["FudanPed00001.png", "PennPed00001.png"]
    assert dataset[0].boxes.tolist() == [[2, 3, 7, 7], [8, 3, 13, 7]]
    assert dataset[0].areas.tolist() == [20, 20]
    assert [m.value for m in dataset[0].masks] == [1, 2]
    assert all(isinstance(m, MaskFile) and load_mask_file(m).sum() == 20 for m in dataset[0].masks)
    assert len(dataset[1]) == 1
    assert not dataset.warnings


def test_a_person_in_two_pieces_is_one_object(tmp_path):
    """Also where no image holds two persons: the numbers count, not the pieces."""
    picture(tmp_path / "PNGImages" / "a.png")
    mask(tmp_path / "PedMasks" / "a_mask.png", numbers(1, 1))
    dataset = open_dataset(tmp_path)
    assert dataset.format == "label_png"
    assert dataset[0].boxes.tolist() == [[2, 3, 13, 7]]


@pytest.mark.parametrize(
    ("images", "masks", "name"),
    [
        ("images", "masks", "a"),
        ("images", "labels", "a_label"),
        ("img", "instances", "a_instance"),
        ("train_images", "train_masks", "a"),
        ("train", "train_masks", "a_mask"),
        (".", "masks", "a"),
        ("Images", "Masks", "A_Mask"),
    ],
)
def test_folders_by_name(tmp_path, images, masks, name):
    picture(tmp_path / images / ("A.png" if name[0] == "A" else "a.png"))
    mask(tmp_path / masks / f"{name}.png", numbers(3, 9))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.format == "label_png"
    assert dataset.classes == ("object",)
    assert [m.value for m in dataset[0].masks] == [3, 9]
    assert dataset.splits == (("train",) if "train" in images else ())


@pytest.mark.parametrize("layout", ["{split}/images/{name}", "images/{split}/{name}"])
def test_splits_by_folder(tmp_path, layout):
    for split, name in (("train", "a"), ("valid", "a"), ("test", "c")):
        place = layout.format(split=split, name=name)
        picture(tmp_path / f"{place}.jpg")
        mask(tmp_path / f"{place.replace('images', 'masks')}.png", numbers(1, 2))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert sorted(dataset.splits) == ["test", "train", "val"]
    assert [len(record) for record in dataset] == [2, 2, 2]
    assert all(m.path.parent.name in str(r.path) or "masks" in str(m.path) for r in dataset for m in r.masks)


def test_sixteen_bits_and_palettes(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    mask(tmp_path / "masks" / "a.png", numbers(300, 65535))
    indexed = Image.fromarray(numbers(1, 2, 255).astype(np.uint8))
    indexed.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    indexed.save(tmp_path / "masks" / "b.png")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert [m.value for m in dataset[0].masks] == [300, 65535]
    assert [m.value for m in dataset[1].masks] == [1, 2]  # 255 of a palette image is VOC's border


def test_a_colour_for_each_object(tmp_path):
    picture(tmp_path / "images" / "a.png")
    colours = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]], np.uint8)
    (tmp_path / "masks").mkdir()
    Image.fromarray(colours[numbers(1, 2)]).save(tmp_path / "masks" / "a.png")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset[0].boxes.tolist() == [[2, 3, 7, 7], [8, 3, 13, 7]]


def test_a_turned_photo_has_the_size_that_one_sees(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (24, 32)).save(tmp_path / "images" / "a.jpg", exif=exif)  # seen: 32 wide, 24 high
    mask(tmp_path / "masks" / "a.png", numbers(1, 2))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset[0].size == (24, 32)


def test_what_does_not_fit_is_counted(tmp_path):
    penn_fudan(tmp_path)
    picture(tmp_path / "PNGImages" / "lone.png")
    mask(tmp_path / "PedMasks" / "gone_mask.png", numbers(1))
    picture(tmp_path / "PNGImages" / "small.png", (10, 10))
    mask(tmp_path / "PedMasks" / "small_mask.png", numbers(1))
    picture(tmp_path / "PNGImages" / "broken.png")
    (tmp_path / "PedMasks" / "broken_mask.png").write_bytes(b"\x89PNG")
    picture(tmp_path / "PNGImages" / "empty.png")
    mask(tmp_path / "PedMasks" / "empty_mask.png", numbers())
    (tmp_path / "PNGImages" / "._FudanPed00001.png").write_bytes(b"macOS")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert [len(r) for r in dataset] == [2, 1, 0]  # the black mask says: no objects
    text = "\n".join(dataset.warnings)
    assert "skipped 1 images without a mask (one without objects has a black one), first: " in text
    assert "skipped 1 masks without an image" in text
    assert "skipped 2 images whose mask cannot be used" in text
    assert "PedMasks/broken_mask.png: file is not an image that Pillow can read" in text


def test_nothing_that_fits(tmp_path):
    picture(tmp_path / "images" / "a.png", (9, 9))
    mask(tmp_path / "masks" / "a.png", numbers(1, 2))
    with pytest.raises(DataError, match=r"holds no image that can be used; skipped 1 images whose mask cannot be used"):
        label_png.read(tmp_path)
    with pytest.raises(DataError, match=r"holds no image that can be used$"):
        label_png.read(tmp_path / "images" / "a.png")
    assert not label_png.sniff(tmp_path / "images" / "a.png")
    assert not label_png.sniff(tmp_path / "nowhere")


def test_a_bomb_is_refused_by_its_header(tmp_path):
    penn_fudan(tmp_path)
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(tmp_path / "PedMasks" / "PennPed00001_mask.png")
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 1
    assert "the mask is 9000x9000 instead of 32x24" in dataset.warnings[0]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0, 400))
def test_any_bytes_in_a_mask(tmp_path_factory, changes, cut):
    root = penn_fudan(tmp_path_factory.mktemp("fuzz"))
    file = root / "PedMasks" / "FudanPed00001_mask.png"
    data = bytearray(file.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    file.write_bytes(data[: len(data) - cut % 60] if cut % 3 == 0 else data)
    assert_dataset(open_dataset(root))  # the other image is sound
