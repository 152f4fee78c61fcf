"""Statistics of the channels: equal to numpy's over all pixels together, in the files' own numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskrcnn.data.statistics import channel_statistics
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Record


def save(folder: Path, arrays: list[np.ndarray]) -> Dataset:
    none = np.zeros(0)
    records = []
    for i, array in enumerate(arrays):
        path = folder / f"{i}.npy"
        np.save(path, array)
        size = array.shape[:2]
        records.append(Record(path, i, *size, np.zeros((0, 4), np.float32), none, (), none, none, none))
    return Dataset(records, ("a",), (1,), name="made")


def test_statistics_are_those_of_all_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maskrcnn.data.statistics._STRIP_VALUES", 200)  # several strips an image
    rng = np.random.default_rng(0)
    arrays = [rng.integers(i * 5000, 60_000, (10 + i, 30, 5), np.uint16) for i in range(6)]
    mean, std, channels, kind, images, not_finite, skipped = channel_statistics(save(tmp_path, arrays))
    pixels = np.concatenate([array.reshape(-1, 5) for array in arrays]).astype(np.float64)
    assert mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert std == pytest.approx(pixels.std(axis=0), rel=1e-12)
    assert (channels, kind, images, not_finite, skipped) == (5, "uint16", 6, 0, ())


def test_a_large_offset_does_not_cancel(tmp_path: Path):
    array = np.random.default_rng(0).normal(1e6, 1.0, (40, 40))
    seen = channel_statistics(save(tmp_path, [array, array]))
    assert seen.std[0] == pytest.approx(array.astype(np.float32).astype(np.float64).std(), rel=1e-9)


def test_what_is_no_number_is_zero_and_counted(tmp_path: Path):
    array = np.array([[1.0, np.nan], [np.inf, 3.0]], np.float32)
    seen = channel_statistics(save(tmp_path, [array]))
    assert seen.mean == (1.0,)
    assert seen.std == (pytest.approx(np.std([1, 0, 0, 3])),)
    assert seen.not_finite == 2


def test_a_constant_channel_is_divided_by_one(tmp_path: Path):
    assert channel_statistics(save(tmp_path, [np.full((4, 4), 7, np.uint8)])).std == (1.0,)


def test_a_few_images_drawn_by_the_seed(tmp_path: Path):
    data = save(tmp_path, [np.full((2, 2), i, np.uint8) for i in range(50)])
    means = [channel_statistics(data, 5, seed).mean for seed in (0, 0, 1)]
    assert means[0] == means[1] != means[2]
    assert channel_statistics(data, 5).images == 5


def test_an_image_with_other_channels_is_named(tmp_path: Path):
    data = save(tmp_path, [np.zeros((4, 4, 2)), np.zeros((4, 4, 3))])
    with pytest.raises(DataError, match="image has 3 channels, those before it have 2; leave it out") as caught:
        channel_statistics(data)
    assert (caught.value.path, caught.value.image) == (tmp_path / "1.npy", 1)


def test_images_that_cannot_be_read_are_skipped(tmp_path: Path):
    data = save(tmp_path, [np.zeros((4, 4)), np.ones((4, 4))])
    (tmp_path / "1.npy").write_bytes(b"nothing")
    seen = channel_statistics(data)
    assert (seen.images, len(seen.skipped)) == (1, 1)
    assert "1.npy" in seen.skipped[0]
    (tmp_path / "0.npy").unlink()
    with pytest.raises(DataError, match=r"none of the images can be read: .*not found"):
        channel_statistics(data)
