"""Large images in tiles: where they lie, and that the answer is that of the whole image."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.config import DataConfig
from maskrcnn.data.windows import open_windows
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.tiles import (
    Tiling,
    choose_overlap,
    layout,
    predict_tiled,
    shrink,
    tile_size,
    tiling_line,
    trained_overlap,
)
from maskrcnn.structures import ObjectSizes
from tests.model.tiny import tiny_model
from tests.predict.test_merge import counts, seen, truth


class Reads:
    """A perfect network of images whose channel holds the number of the object."""

    device = torch.device("cpu")

    def __init__(self, object_sizes: ObjectSizes | None = None, **data: Any) -> None:
        config = SimpleNamespace(image_mean=(0.0,))
        self.model = SimpleNamespace(
            data=DataConfig(**{"pixels": "raw"} | data), config=config, object_sizes=object_sizes
        )
        self.sizes: list[tuple[int, int]] = []

    def fit(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        return (min(size[0], 64), min(size[1], 64)), (64, 64)

    def prepare(self, image: Any) -> np.ndarray:
        return np.asarray(image).reshape(np.asarray(image).shape[:2])

    def predict_prepared(self, images: list[np.ndarray], threshold: float, size: int = 8) -> list[Instances]:
        self.sizes += [image.shape for image in images]
        return [seen(image, (0, 0, *image.shape)) for image in images]


def field(height: int, width: int, step: int = 24) -> np.ndarray:
    """Discs of several sizes on a grid, numbered."""
    numbers = np.zeros((height, width, 1), np.uint16)
    rows, columns = np.mgrid[:height, :width]
    for number, place in enumerate(np.ndindex(height // step, width // step), 1):
        y, x = (np.array(place) + 0.5) * step
        numbers[(rows - y) ** 2 + (columns - x) ** 2 < (3 + number % 7) ** 2] = number
    return numbers


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 100), st.integers(0, 50))
def test_tiles_cover_the_image_and_overlap(height: int, width: int, tile: int, overlap: int) -> None:
    overlap = min(overlap, tile // 2)
    sides = (min(tile, height), min(tile, width))
    windows = layout((height, width), sides, overlap)
    for axis, length in ((0, height), (1, width)):
        spans = sorted({(window[axis], window[axis + 2]) for window in windows})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(end - start == sides[axis] for start, end in spans)
        assert all(after[0] <= before[1] - overlap for before, after in pairwise(spans))
    assert len(set(windows)) == len(windows)


@pytest.mark.parametrize("overlap", [None, 24])
@pytest.mark.parametrize("stored", ["array", "tiff", "map"])
def test_all_objects_of_an_image_in_tiles(overlap: int | None, stored: str, tmp_path: Path) -> None:
    numbers = field(250, 330)
    image: Any = numbers
    if stored == "tiff":
        image = tmp_path / "a.tif"
        tifffile.imwrite(image, numbers[:, :, 0], tile=(32, 32), compression="zlib")
    elif stored == "map":
        np.save(tmp_path / "a.npy", numbers)
        image = np.load(tmp_path / "a.npy", mmap_mode="r")
    predictor = Reads()
    found = predict_tiled(predictor, image, Tiling(64, overlap, full_image=False))  # type: ignore[arg-type]
    assert counts(found) == truth(numbers[:, :, 0])
    assert found.size == (250, 330)
    assert set(predictor.sizes) == {(64, 64)}
    assert found.path == (str(image) if stored == "tiff" else None)


def test_an_object_larger_than_a_tile_is_pieced_together() -> None:
    numbers = np.zeros((200, 300, 1), np.uint16)
    numbers[20:180, 30:290] = 1
    numbers[60:120, 80:200] = 0
    found = predict_tiled(Reads(), numbers, Tiling(64, 16, full_image=False))  # type: ignore[arg-type]
    assert counts(found) == truth(numbers[:, :, 0])


def test_an_image_no_larger_than_a_tile_is_as_without() -> None:
    predictor = Predictor(tiny_model(), "cpu")
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    alone, tiled = predictor(image), predictor.predict_tiled(image, tile=128)
    assert len(alone)
    np.testing.assert_array_equal(tiled.boxes, alone.boxes)
    assert tiled.rle == alone.rle


def test_a_network_over_tiles_gives_masks_of_the_image_whatever_the_batch() -> None:
    predictor = Predictor(tiny_model(), "cpu")
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    found = predictor.predict_tiled(image, tile=96, overlap=32)
    assert len(found)
    assert found.size == (150, 200)
    assert np.all(np.diff(found.scores) <= 0)
    for box, rle in zip(found.boxes, found.rle, strict=True):
        assert rle["size"] == [150, 200]
        assert 0 <= box[0] < box[2] <= 200
    again = predictor.predict_tiled(image, tile=96, overlap=32, batch_size=3)
    np.testing.assert_allclose(again.boxes, found.boxes, atol=1e-2)


def test_the_tile_is_what_the_network_takes_as_it_is() -> None:
    size = (5000, 6000)
    assert tile_size(Reads(resize="short", min_size=800, max_size=1333), size) == (800, 800)  # type: ignore[arg-type]
    assert tile_size(Reads(resize="fixed", min_size=600, max_size=900), size) == (600, 900)  # type: ignore[arg-type]
    assert tile_size(Reads(resize="grow", min_size=800, max_size=1024), size) == (1024, 1024)  # type: ignore[arg-type]
    assert tile_size(Reads(), size, 300) == (300, 300)  # type: ignore[arg-type]
    assert tile_size(Reads(), (200, 6000), 300) == (200, 300)  # type: ignore[arg-type]


def test_the_overlap_follows_the_objects() -> None:
    def of(*sides: float) -> Instances:
        boxes = np.array([[0, 0, side, 5] for side in sides], np.float32).reshape(-1, 4)
        scores = np.full(len(sides), 0.9, np.float32)
        return Instances(boxes, scores, np.zeros(len(sides), np.int64), ("a",), (100, 100))

    assert choose_overlap([of(*[40] * 50), of()], (640, 640), 3) == 46
    assert choose_overlap([of(5)], (640, 640), 3) == 40  # at least a sixteenth
    assert choose_overlap([of(5, 600, 600)], (640, 640), 3) == 320  # at most half
    assert choose_overlap([of()], (640, 640), 3) == 160
    unsure = of(40, 600)
    unsure.scores[1] = 0.1
    assert choose_overlap([unsure], (640, 640), 3) == 46


def test_the_tile_shows_objects_as_large_as_in_training() -> None:
    """Of training images that were made smaller or larger; the network then resizes a tile by the same factor."""
    size, model = (5000, 6000), tiny_model()
    for resize, short, long in (("short", 96, 128), ("square", 96, 128), ("fixed", 96, 128), ("grow", 96, 128)):
        for scale in (0.25, 0.5, 1.0, 1.5):
            model.data = DataConfig(resize=resize, min_size=short, max_size=long)  # type: ignore[arg-type]
            model.object_sizes = ObjectSizes(scale, 10.0, 20.0, 30.0)
            predictor = Predictor(model, "cpu")
            tile = tile_size(predictor, size)
            content = predictor.fit(tile)[0]
            assert content[0] / tile[0] == pytest.approx(scale, rel=0.02)
            assert content[1] / tile[1] == pytest.approx(scale, rel=0.02)


def test_the_overlap_is_that_of_the_training_objects_where_they_are_known() -> None:
    trained = ObjectSizes(1.0, 12.0, 20.0, 30.0)
    predictor = Reads(trained, min_size=64)
    assert trained_overlap(predictor, trained, (64, 64)) == 24  # type: ignore[arg-type]
    assert trained_overlap(predictor, trained, (128, 128)) == 44  # type: ignore[arg-type]  # shown half as large
    assert trained_overlap(predictor, ObjectSizes(1, 1, 500, 500), (64, 64)) == 32  # type: ignore[arg-type]
    numbers = field(250, 330)
    found = predict_tiled(predictor, numbers, Tiling(full_image=False))  # type: ignore[arg-type]
    assert counts(found) == truth(numbers[:, :, 0])
    assert len(predictor.sizes) == len(layout((250, 330), (64, 64), 24))  # no first look


def test_what_is_much_larger_than_any_training_object_is_not_believed() -> None:
    """Of the view of the whole image: here tiles show nothing."""

    class Far(Reads):
        def predict_prepared(self, images: list[np.ndarray], threshold: float, size: int = 8) -> list[Instances]:
            found = super().predict_prepared(images, threshold, size)
            return [one[:0] if image.shape == (64, 64) else one for one, image in zip(found, images, strict=True)]

    numbers = np.zeros((200, 300, 1), np.uint16)
    numbers[20:120, 30:130], numbers[140:180, 200:240] = 1, 2
    for trained, sides in ((None, [40, 100]), (ObjectSizes(1.0, 12.0, 20.0, 30.0), [40])):
        found = predict_tiled(Far(trained, min_size=64), numbers, Tiling(64, 16))  # type: ignore[arg-type]
        assert sorted((found.boxes[:, 2] - found.boxes[:, 0]).tolist()) == pytest.approx(sides, abs=4)


def test_one_line_says_what_was_chosen() -> None:
    trained = Reads(ObjectSizes(1.0, 12.0, 20.0, 30.0), min_size=64)
    plain = Reads(min_size=64)
    line = tiling_line(trained, Tiling())  # type: ignore[arg-type]
    assert line == (
        "tiles of 64 x 64 pixels with an overlap of 24 pixels, by the training objects: 95 of 100 are up to 20 pixels "
        "at the network's input"
    )
    assert "by a first look" in tiling_line(plain, Tiling(100))  # type: ignore[arg-type]
    assert tiling_line(trained, Tiling(100, 7)) == "tiles of 100 x 100 pixels with an overlap of 7 pixels"  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1, 3, 7, 64])
def test_shrunk_strip_by_strip_is_the_mean_of_whole_blocks(factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 130, 3), dtype=np.uint8)
    with open_windows(image) as windows:
        small = np.asarray(shrink(windows, factor))
    high, wide = -(-600 // factor), -(-130 // factor)
    assert small.shape == (high, wide, 3)
    for row, column in [(0, 0), (high - 1, wide - 1), (high // 2, 0)]:
        block = image[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        np.testing.assert_array_equal(small[row, column], np.rint(block.mean(axis=(0, 1))))


def test_wrong_sizes_are_one_sentence() -> None:
    image = np.zeros((300, 300, 1), np.uint16)
    for tiling, message in (
        (Tiling(8), "tile: 8 must be at least 32"),
        (Tiling(64, -1), "must not be negative"),
        (Tiling(64, 40), "40 is more than half of a tile of 64"),
    ):
        with pytest.raises(ConfigError, match=message):
            predict_tiled(Reads(), image, tiling)  # type: ignore[arg-type]
    huge = np.broadcast_to(np.zeros((1, 1, 1), np.uint16), (70_000, 70_000, 1))
    with pytest.raises(DataError, match="70000 x 70000 pixels"):
        predict_tiled(Reads(), huge, Tiling(64))  # type: ignore[arg-type]
