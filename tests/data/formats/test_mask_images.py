"""Objects of mask images against scipy and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from maskrcnn.data.formats.mask_images import Labels, masks_of, parts_of, read_labels, regions_as_rle, regions_of
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file, mask_to_rle
from maskrcnn.ops.rle import decode_rle, encode_mask
from maskrcnn.structures import RLE


def labels(pixels: np.ndarray) -> Labels:
    return Labels(Path("mask.png"), pixels, in_file=False)


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def pixels_of(mask: RLE) -> np.ndarray:
    return decode_rle({"size": list(mask.size), "counts": mask.counts})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_parts_are_those_of_scipy(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    regions, masks = parts_of(labels(mask.view(np.uint8)))
    expected, count = ndimage.label(mask, np.ones((3, 3)))
    assert len(regions.values) == len(masks) == count
    seen = set()
    for rle, box, area in zip(masks, regions.boxes.tolist(), regions.areas.tolist(), strict=True):
        (number,) = np.unique(expected[pixels_of(rle)])
        seen.add(number)
        part = expected == number
        assert rle.counts == encode_mask(part)["counts"]  # canonical: what COCO's own encoder writes
        assert (box, area) == (box_of(part), part.sum())
    assert len(seen) == count


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([np.uint8, np.uint16, np.int32]), st.integers(0, 999))
def test_regions_are_those_of_a_loop(height, width, dtype, seed):
    pixels = np.random.default_rng(seed).integers(0, 7, (height, width)).astype(dtype)
    pixels[pixels > 4] = 120 if dtype is np.uint8 else 60_000
    regions = regions_of(labels(pixels))
    assert regions.values.tolist() == [value for value in np.unique(pixels) if value]
    masks = regions_as_rle(labels(pixels), regions)
    for value, box, area, rle in zip(regions.values, regions.boxes.tolist(), regions.areas, masks, strict=True):
        assert (box, area) == (box_of(pixels == value), (pixels == value).sum())
        assert rle.counts == encode_mask(pixels == value)["counts"]


def test_regions_meet_across_strips(monkeypatch):
    monkeypatch.setattr("maskrcnn.data.formats.mask_images.STRIP", 20)
    pixels = np.zeros((9, 10), np.uint8)
    pixels[1:8, 3:5] = 4
    regions = regions_of(labels(pixels))
    assert (regions.values.tolist(), regions.boxes.tolist(), regions.areas.tolist()) == ([4], [[3, 1, 5, 8]], [14])


def test_a_long_snake_is_one_part():
    mask = np.zeros((301, 100), np.uint8)
    mask[::4] = 1
    for number, row in enumerate(range(0, 300, 4)):
        mask[row : row + 5, 99 if number % 2 else 0] = 1
    assert parts_of(labels(mask))[0].areas.tolist() == [mask.sum()]


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "I", "RGB", "RGBA", "LA", "colour"])
def test_every_mode_gives_the_mask_that_its_file_holds(tmp_path, mode):
    numbers = np.zeros((12, 14), np.int32)
    numbers[2:7, 3:9] = 1
    if mode != "1":
        numbers[8:11, 1:13] = 200
    file = tmp_path / "mask.png"
    save(file, numbers, mode)
    found = read_labels(file, (12, 14))
    regions = regions_of(found)
    assert regions.boxes.tolist() == [[3, 2, 9, 7], [1, 8, 13, 11]][: len(regions.values)]
    assert len(regions.values) == len(np.unique(numbers)) - 1
    for mask, value in zip(masks_of(found, regions), np.unique(numbers)[1:], strict=True):
        assert (decode_rle(mask_to_rle(mask, (12, 14))) == (numbers == value)).all()


def save(file: Path, numbers: np.ndarray, mode: str) -> None:
    if mode == "1":
        Image.fromarray(numbers > 0).save(file)
    elif mode == "I;16":
        Image.fromarray(numbers.astype(np.uint16)).save(file)
    elif mode == "I":
        Image.fromarray(numbers).save(file.with_suffix(".tif"))
        file.with_suffix(".tif").rename(file)
    elif mode == "P":
        image = Image.fromarray(numbers.astype(np.uint8))
        image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
        image.save(file)
    elif mode == "colour":  # the brightest channel is the same in both
        colours = np.zeros((256, 3), np.uint8)
        colours[1], colours[200] = (0, 0, 230), (230, 10, 0)
        Image.fromarray(colours[numbers]).save(file)
    else:
        Image.fromarray(numbers.astype(np.uint8)).convert(mode).save(file)


def test_jpeg_masks_are_cut_at_half(tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 16:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.jpg", quality=60)
    found = read_labels(tmp_path / "mask.jpg", (32, 48))
    assert np.array_equal(found.pixels, mask > 0)
    (rle,) = masks_of(found, regions_of(found))
    assert np.array_equal(pixels_of(rle), mask > 0)


def test_what_is_no_mask_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    with pytest.raises(DataError, match=r"photo.png: has 4\d+ colours or numbers, more than 1024; is it a photo"):
        regions_of(read_labels(tmp_path / "photo.png", (64, 64)))
    with pytest.raises(DataError, match="the mask is 64x64 instead of 50x40; save it in the size of its image"):
        read_labels(tmp_path / "photo.png", (40, 50))
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="the mask has pixels of type F; save whole numbers as PNG"):
        read_labels(tmp_path / "float.tif", (4, 4))
    noise = np.zeros((600, 600), np.uint8)
    noise[::2, ::2] = 1
    with pytest.raises(DataError, match="the mask falls into 90000 parts; is it noise"):
        parts_of(labels(noise))


def test_a_mask_in_the_file_is_read_back_the_same(tmp_path):
    numbers = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    Image.fromarray(numbers).save(tmp_path / "mask.png")
    found = read_labels(tmp_path / "mask.png", (6, 8))
    masks = masks_of(found, regions_of(found))
    assert [mask.value for mask in masks] == list(range(1000, 48000, 1000))
    assert all(load_mask_file(mask).sum() == 1 for mask in masks)
