"""Blur, noise, JPEG and cutout: pixels only, and each from its own numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as V

from maskrcnn.config import DataConfig
from maskrcnn.data.pixels import _blurred, finish
from maskrcnn.data.transforms import augment
from tests.data.painted import ellipse, record_of

EACH = [{"blur": 1.0}, {"noise": 20.0}, {"jpeg": 1.0}, {"cutout": 1.0}]


def photo(size: tuple[int, int] = (60, 80), channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (channels, *size), np.uint8))


def test_nothing_is_on_by_default():
    assert finish(photo(), DataConfig(), 3) is not None
    assert torch.equal(finish(photo(), DataConfig(), 3), photo())


@pytest.mark.parametrize("change", EACH)
def test_labels_stay_and_the_same_key_gives_the_same_pixels(change: dict):
    data, plain = DataConfig(min_size=48, max_size=96, **change), DataConfig(min_size=48, max_size=96)
    record = record_of([ellipse((40, 30), (15, 20))], (60, 80))
    image, objects = augment(photo(), record, data, 5, (64, 96))
    again, _ = augment(photo(), record, data, 5, (64, 96))
    other, _ = augment(photo(), record, data, 6, (64, 96))
    before, same = augment(photo(), record, plain, 5, (64, 96))
    assert image.dtype == torch.uint8
    assert torch.equal(image, again)
    assert not torch.equal(image, before)
    assert not torch.equal(image, other)
    assert np.array_equal(objects.boxes, same.boxes)
    assert np.array_equal(objects.masks, same.masks)


@pytest.mark.parametrize("change", EACH)
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2)])
def test_tiny_images(change: dict, size: tuple[int, int]):
    for key in range(10):
        assert finish(photo(size), DataConfig(**change), key).shape == (3, *size)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_equals_torchvisions(sigma: float):
    kernel = 2 * int(np.ceil(3 * sigma)) + 1
    expected = V.gaussian_blur(photo().float(), [kernel, kernel], [sigma, sigma])
    assert torch.allclose(_blurred(photo().float(), sigma), expected, atol=1e-2)
    assert (_blurred(photo(), sigma).float() - expected).abs().max() <= 0.51


def test_noise_has_the_deviation_it_says():
    grey = torch.full((3, 100, 100), 128, dtype=torch.uint8)
    deviations = [float((finish(grey, DataConfig(noise=20), key).float() - 128).std()) for key in range(40)]
    assert max(deviations) < 21
    assert 8 < np.mean(deviations) < 12  # drawn from 0 to 20


def test_noise_of_raw_images_follows_their_range():
    data = DataConfig(noise=20, pixels="raw")
    small = photo(channels=5).float()
    change = finish(small, data, 1) - small
    large = finish(small * 100, data, 1) - small * 100
    assert large.dtype == torch.float32
    assert torch.allclose(large, change * 100, atol=1)


@pytest.mark.parametrize("change", [{"blur": 1.0}, {"noise": 20.0}, {"cutout": 1.0}])
def test_raw_images_of_many_channels(change: dict):
    image = photo(channels=6).float() * 257
    changed = finish(image, DataConfig(pixels="raw", **change), 2)
    assert changed.shape == image.shape
    assert changed.dtype == torch.float32
    assert not torch.equal(changed, image)
    assert changed.max() > 30000


def test_jpeg_of_a_float_image_in_bytes_range():
    image = photo().float()
    changed = finish(image, DataConfig(jpeg=1, interpolation="bilinear"), 2)
    assert changed.dtype == torch.float32
    assert 0 < (changed - image).abs().mean() < 60


def test_cutout_covers_two_to_thirty_percent_with_the_mean():
    image = torch.zeros((3, 200, 200), dtype=torch.uint8)
    image[:, :100] = 200
    before = image.clone()
    for key in range(30):
        cut = finish(image, DataConfig(cutout=1), key)
        part = float((cut == 100).all(dim=0).float().mean())
        assert 0.004 <= part <= 0.31  # a quarter of the smallest, where the corner cuts it, to three of the largest
        assert bool(((cut == image) | (cut == 100)).all())
    assert torch.equal(image, before)


def test_one_more_does_not_change_the_others():
    one = finish(photo(), DataConfig(cutout=1), 4)
    two = finish(photo(), DataConfig(cutout=1, jpeg=1e-12, noise=1e-9, blur=1e-12), 4)
    assert torch.equal(one, two)
    both = replace(DataConfig(cutout=1), noise=20.0)
    hidden = (one != photo()).all(dim=0)
    noisy = finish(photo(), both, 4)
    assert (noisy[:, hidden].float().std(dim=1) == 0).all()  # the rectangles lie where they did
