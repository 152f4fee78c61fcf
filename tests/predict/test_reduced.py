"""Pictures of very large images: made smaller, against pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.rle import decode_rle, encode_mask
from maskrcnn.ops.rle_runs import rle_runs, runs_to_rle, sample_runs
from maskrcnn.predict import reduced as room
from maskrcnn.predict.reduced import factor_of, reduced
from maskrcnn.predict.results import save_results
from maskrcnn.tracks import Counts, LineCount, Tracks, ZoneCount


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 7), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_sampled_runs_are_the_middles_of_the_blocks(high: int, wide: int, factor: int, seed: int, part: float) -> None:
    mask = np.random.default_rng(seed).random((high, wide)) < part
    size = (-(-high // factor), -(-wide // factor))
    padded = np.zeros((size[0] * factor, size[1] * factor), bool)
    padded[:high, :wide] = mask
    runs = sample_runs(rle_runs(encode_mask(mask)), high, size, factor)
    np.testing.assert_array_equal(
        decode_rle(runs_to_rle(runs, size)), padded[factor // 2 :: factor, factor // 2 :: factor]
    )


@pytest.mark.parametrize(
    ("size", "factor"), [((8192, 8192), 1), ((8192, 8193), 3), ((20_000, 20_000), 5), ((1, 1 << 28), 16), ((3, 3), 1)]
)
def test_pictures_of_more_than_67_megapixels_get_at_most_17(size: tuple[int, int], factor: int) -> None:
    assert factor_of(size) == factor
    assert factor == 1 or -(-size[0] // factor) * -(-size[1] // factor) <= room.REDUCED_PIXELS


def found(path: Path | None = None) -> Instances:
    """A square of 24 pixels and a single pixel in an image of 60 x 90."""
    masks = np.zeros((2, 60, 90), bool)
    masks[0, 12:36, 30:54] = True
    masks[1, 59, 89] = True
    return Instances(
        boxes=np.array([[30, 12, 54, 36], [89, 59, 90, 60]], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        labels=np.array([0, 1]),
        classes=("a", "b"),
        size=(60, 90),
        path=None if path is None else str(path),
        keypoints=np.ones((2, 1, 3), np.float32) * 6,
        _rle=[encode_mask(mask) for mask in masks],
    )


@pytest.mark.parametrize("kind", ["tif", "png", "array"])
def test_image_and_objects_become_smaller_together(kind: str, tmp_path: Path) -> None:
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[12:36, 30:54] = 200, 100, 0
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, pixels, tile=(16, 16), photometric="rgb")
    elif kind == "png":
        Image.fromarray(pixels).save(path)
    small, picture = reduced(found(None if kind == "array" else path), pixels if kind == "array" else None, 3)
    np.testing.assert_array_equal(picture, pixels[::3, ::3])
    assert small.size == (20, 30)
    assert small.boxes[0].tolist() == [10, 4, 18, 12]
    np.testing.assert_array_equal(decode_rle(small.rle[0]), pixels[::3, ::3, 0] > 0)
    assert decode_rle(small.rle[1]).sum() == 1  # no middle of a block, and still to be seen
    assert small.keypoints is not None
    assert small.keypoints[0].tolist() == [[2, 2, 6]]


@pytest.mark.parametrize(
    ("channels", "kind", "planes"), [(5, np.uint8, {"planarconfig": "contig"}), (1, np.uint16, {})]
)
def test_images_of_other_depths_and_channels_are_stretched(
    channels: int, kind: type, planes: dict[str, Any], tmp_path: Path
) -> None:
    values = (np.arange(60 * 90 * channels).reshape(60, 90, channels) // (90 * channels)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", values.squeeze(), tile=(16, 16), photometric="minisblack", **planes)
    picture = reduced(found(tmp_path / "a.tif"), None, 3)[1]
    assert picture.shape == (20, 30, 3)
    assert picture.min() == 0
    assert picture.max() == 255


def test_overlay_and_splash_of_a_large_image_are_small_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (90, 60), (9, 9, 9)).save(tmp_path / "a.png")
    instances = found(tmp_path / "a.png")
    whole = save_results([instances], tmp_path / "whole", ("overlay", "splash"))
    assert not whole.reduced
    assert Image.open(whole.overlays[0]).size == (90, 60)
    monkeypatch.setattr(factor_of, "__defaults__", (1000, 600))
    saved = save_results([instances], tmp_path / "small", ("overlay", "splash", "masks"))
    assert [Image.open(path).size for path in (*saved.overlays, *saved.others)] == [(30, 20), (30, 20)]
    assert Image.open(saved.masks[0]).size == (90, 60)
    assert "2 of them show an image of more than 67 megapixels made smaller" in str(saved)


def test_a_wrong_image_is_one_sentence() -> None:
    with pytest.raises(DataError, match="image is 40 x 50 pixels but the instances are of one of 90 x 60"):
        reduced(found(), np.zeros((50, 40, 3), np.uint8), 3)
    with pytest.raises(DataError, match="give the image to draw on"):
        reduced(found(), None, 3)


def test_trails_lines_and_zones_are_made_smaller_too() -> None:
    line, zone = LineCount("door", (8, 0, 8, 12)), ZoneCount("yard", ((0, 0), (12, 0), (12, 8)))
    tracks = Tracks(np.array([1]), [np.array([[4, 8], [6, 8]], np.float32)], counts=Counts({}, (line,), (zone,)))
    found = Instances(np.array([[2, 2, 8, 8]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), ("cat",),
                      (12, 16), tracks=tracks)  # fmt: skip
    smaller = reduced(found, np.zeros((12, 16, 3), np.uint8), 4)[0].tracks
    assert smaller is not None
    np.testing.assert_allclose(smaller.trails[0], [[1, 2], [1.5, 2]])
    assert smaller.counts.lines[0].ends == (2, 0, 2, 3)
    assert smaller.counts.zones[0].corners == ((0, 0), (3, 0), (3, 2))
