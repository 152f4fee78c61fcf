"""Shapes: exact, repeatable, and not trivial."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import CLASSES, LEAST_CONTRAST, LEAST_VISIBLE, draw_shapes, write_shapes
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from tests.data.contract import assert_dataset


def drawn(count: int, size: tuple[int, int] = (128, 128)) -> list[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    return [draw_shapes(size, np.random.default_rng(seed)) for seed in range(count)]


def test_written_data_opens_with_its_path_alone(tmp_path):
    dataset = open_dataset(write_shapes(tmp_path / "shapes", train=6, val=3, size=(64, 96)))
    assert_dataset(dataset)
    assert (dataset.format, dataset.splits, dataset.classes) == ("coco", ("train", "val"), CLASSES)
    assert [len(dataset.split(name)) for name in dataset.splits] == [6, 3]
    assert not dataset.warnings
    for record in dataset:
        assert record.size == (64, 96)
        assert 1 <= len(record) <= 4
        masks = np.stack([decode_rle(mask_to_rle(mask, record.size)) for mask in record.masks])
        assert masks.sum(axis=0).max() == 1, "only the visible part of each, so no pixel has two owners"
        np.testing.assert_array_equal(masks.sum(axis=(1, 2)), record.areas)
        for mask, box in zip(masks, record.boxes, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_an_image_depends_on_seed_split_and_index_alone(tmp_path):
    few = write_shapes(tmp_path / "few", train=2, val=1, size=(64, 64))
    many = write_shapes(tmp_path / "many", train=4, val=2, size=(64, 64))
    other = write_shapes(tmp_path / "other", train=2, val=1, size=(64, 64), seed=1)
    for name in ("train/images/00001.png", "val/images/00000.png"):
        assert (few / name).read_bytes() == (many / name).read_bytes()
        assert (few / name).read_bytes() != (other / name).read_bytes()
    assert (few / "train/images/00000.png").read_bytes() != (few / "val/images/00000.png").read_bytes()
    # Truth too: labels and masks, whose image ids differ with the number of images before them.
    truth = [
        [(a["category_id"], a["bbox"], a["segmentation"]) for a in json.loads((f / "val/annotations.json").read_text())[
            "annotations"] if a["image_id"] == first]
        for f, first in ((few, 3), (many, 5))
    ]  # fmt: skip
    assert truth[0] == truth[1]
    assert truth[0]


def test_shapes_vary_overlap_and_stand_out():
    images = drawn(60)
    assert {len(labels) for _, labels, _ in images} == {1, 2, 3, 4}
    assert set(np.concatenate([labels for _, labels, _ in images])) == {0, 1, 2}
    sides = [np.ptp(np.flatnonzero(mask.any(axis=1))) + 1 for _, _, masks in images for mask in masks]
    assert max(sides) == 64, "half sizes up to a quarter of the image"
    assert len(set(sides)) > 15
    for pixels, _, masks in images:
        background = pixels[~np.any(masks, axis=0)].astype(np.float64)
        assert background.std(axis=0).min() > 2, "noise and a gradient"
        for mask in masks:
            contrast = np.linalg.norm(pixels[mask].mean(axis=0) - background.mean(axis=0))
            assert contrast > LEAST_CONTRAST / 2  # clipping and the gradient take their part


def test_covered_shapes_lose_pixels_but_never_most():
    """Squares tell: alone, one fills its own box."""
    parts = []
    for _, labels, masks in drawn(80):
        for label, mask in zip(labels, masks, strict=True):
            if CLASSES[label] == "square":
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                parts.append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    assert min(parts) < 0.95, "some are partly hidden"
    assert min(parts) >= LEAST_VISIBLE


def test_smallest_and_oblong_images():
    for size in ((16, 16), (16, 200), (300, 40)):
        for pixels, labels, masks in drawn(10, size):
            assert pixels.shape == (*size, 3)
            assert pixels.dtype == np.uint8
            assert len(labels) == len(masks) > 0
            assert all(mask.any() for mask in masks)


def test_a_split_of_nothing_is_not_written_and_nonsense_is_refused(tmp_path):
    folder = write_shapes(tmp_path / "one", train=1, val=0, size=(32, 32))
    assert not (folder / "val").exists()
    with Image.open(folder / "train/images/00000.png") as image:
        assert image.size == (32, 32)
    with pytest.raises(DataError, match="at least 16 pixels a side, not 8 x 64; ask for a larger size"):
        write_shapes(tmp_path, size=(8, 64))
    with pytest.raises(DataError, match="cannot write 0 train and 0 val images; ask for at least one image"):
        write_shapes(tmp_path, train=0, val=0)
