"""CropAndResize against the same arithmetic, sample by sample in plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskrcnn.ops.crop_and_resize import (
    crop_and_resize,
    crops_of_full_masks,
    multilevel_crop_and_resize,
    rounded_levels,
)

FRAME = (96, 128)
WHOLE = {"sizes": torch.tensor([FRAME, FRAME]), "cells": torch.tensor([[6, 8], [6, 8]])}


def maps(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 5, 6, 8, generator=torch.Generator().manual_seed(0))


def boxes(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in, over and outside the frame, and the image of each."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * 120 - 20
    found = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 80], -1)
    found[0] = torch.tensor([0.0, 0.0, 128.0, 96.0])
    found[1] = 0.0
    return found, torch.randint(0, 2, (count,), generator=generator)


def by_hand(feature: np.ndarray, box: np.ndarray, resolution: int) -> np.ndarray:
    """(C, H, W) at one box, in loops."""
    one = np.float32
    channels, height, width = feature.shape
    out = np.zeros((channels, resolution, resolution), np.float32)

    def places(start: np.float32, end: np.float32, length: int, side: int) -> list[np.float32]:
        start, end = start * (one(1) / one(side)), end * (one(1) / one(side))
        if resolution == 1:
            return [one(0.5) * (start + end) * one(length - 1)]
        step = (end - start) * one(length - 1) / one(resolution - 1)
        return [start * one(length - 1) + one(i) * step for i in range(resolution)]

    for i, y in enumerate(places(box[1], box[3], height, FRAME[0])):
        for j, x in enumerate(places(box[0], box[2], width, FRAME[1])):
            if y < 0 or y > height - 1 or x < 0 or x > width - 1:
                continue
            top, left = int(np.floor(y)), int(np.floor(x))
            bottom, right = int(np.ceil(y)), int(np.ceil(x))
            first = feature[:, top, left] + (feature[:, top, right] - feature[:, top, left]) * (x - left)
            second = feature[:, bottom, left] + (feature[:, bottom, right] - feature[:, bottom, left]) * (x - left)
            out[:, i, j] = first + (second - first) * (y - top)
    return out


@pytest.mark.parametrize("resolution", [1, 2, 7])
def test_equals_the_definition(resolution: int):
    feature, (box, image) = maps(), boxes()
    found = crop_and_resize(feature, box, image, **WHOLE, resolution=resolution)
    assert found.shape == (20, 5, resolution, resolution)
    for row in range(20):
        expected = by_hand(feature[image[row]].numpy(), box[row].numpy(), resolution)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-6)


def test_the_whole_image_gives_the_map_back_and_outside_is_zero():
    feature = maps(1)[:, :, :, :6]
    everything = torch.tensor([[0.0, 0.0, 96.0, 96.0], [96.5, 0.0, 130.0, 50.0], [float("nan")] * 4])
    image = torch.zeros(3, dtype=torch.int64)
    whole = {"sizes": torch.tensor([[96, 96]]), "cells": torch.tensor([[6, 6]])}
    found = crop_and_resize(feature, everything, image, **whole, resolution=6)
    torch.testing.assert_close(found[0], feature[0])
    assert (found[1:] == 0).all()


def test_gradients_are_those_of_plain_indexing():
    feature, (box, image) = maps().requires_grad_(), boxes()
    goal = torch.randn(20, 5, 4, 4, generator=torch.Generator().manual_seed(2))
    found = crop_and_resize(feature, box, image, **WHOLE, resolution=4)
    (gradient,) = torch.autograd.grad((found * goal).sum(), feature)
    # The map is linear: its transpose applied to `goal` gives the same product with any other map.
    other = torch.randn(feature.shape, generator=torch.Generator().manual_seed(3))
    forward = (crop_and_resize(other, box, image, **WHOLE, resolution=4) * goal).sum()
    torch.testing.assert_close((gradient * other).sum(), forward, rtol=1e-4, atol=1e-4)


def test_padding_takes_no_part():
    feature, (box, image) = maps(), boxes()
    padded = torch.full((2, 5, 9, 13), 100.0)
    padded[:, :, :6, :8] = feature
    found = crop_and_resize(padded, box, image, **WHOLE, resolution=5)
    assert torch.equal(found, crop_and_resize(feature, box, image, **WHOLE, resolution=5))


def test_no_boxes_give_no_crops():
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert crop_and_resize(maps(), *none, **WHOLE, resolution=3).shape == (0, 5, 3, 3)


def test_full_masks_are_resized_by_nearest_neighbour_and_then_cropped():
    masks = torch.zeros(2, 4, 6, dtype=torch.uint8)
    masks[1, :, 3:] = 1
    whole = torch.tensor([[0.0, 0.0, 12.0, 8.0]])
    found = crops_of_full_masks(masks, whole, torch.tensor([1]), frame=(8, 12), resolution=12)
    assert found.shape == (1, 12, 12)
    assert found[0].unique().tolist() == [0.0, 1.0]
    assert (found[0, :, :6] == 0).all()
    assert (found[0, :, 6:] == 1).all()


def pyramid() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(2, 5, 64 >> level, 64 >> level, generator=generator) for level in range(4)]


def test_each_box_reads_its_own_level():
    generator = torch.Generator().manual_seed(5)
    corner = torch.rand(40, 2, generator=generator) * 700
    side = 2.0 ** (5 + 5 * torch.rand(40, 2, generator=generator))
    box, image = torch.cat([corner, corner + side], 1).clamp(max=1023), torch.randint(0, 2, (40,), generator=generator)
    options = {"frame": (1024, 1024), "resolution": 7}
    found = multilevel_crop_and_resize(pyramid(), box, image, **options, rounded=True, inclusive=True)
    fractions = box / 1023
    levels = rounded_levels(fractions, (1024, 1024), 4)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    for row in range(40):
        feature, some = pyramid()[levels[row]][image[row]], fractions[row]
        last = feature.shape[1] - 1
        y = some[1] * last + torch.arange(7) * ((some[3] - some[1]) * last / 6)
        x = some[0] * last + torch.arange(7) * ((some[2] - some[0]) * last / 6)
        grid = torch.stack(torch.broadcast_tensors(x[None], y[:, None]), -1) / last * 2 - 1
        expected = torch.nn.functional.grid_sample(feature[None], grid[None], align_corners=True)[0]
        expected = torch.where((y[:, None] > last) | (x[None] > last), 0.0, expected)
        torch.testing.assert_close(found[row], expected, atol=2e-4, rtol=0)


def test_levels_are_rounded_half_to_even_on_the_side_in_pixels():
    sides = torch.tensor([0.0, 50.0, 112.0, 158.0, 159.0, 224.0, 320.0, 900.0])
    box = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1) / 1024
    assert rounded_levels(box, (1024, 1024), 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_all_levels_at_once_gives_the_same_as_each_by_itself(monkeypatch: pytest.MonkeyPatch):
    """The way of other devices and of exported graphs."""
    box, image = boxes()
    options = {"frame": (256, 256), "resolution": 3, "rounded": False}
    maps_ = [feature.requires_grad_() for feature in pyramid()]
    results = []
    for exporting in (False, True):
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda exporting=exporting: exporting)
        found = multilevel_crop_and_resize(maps_, box, image, **options)
        results.append([found, *torch.autograd.grad(found.square().sum(), maps_, allow_unused=True)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a if a is not None else torch.zeros(()), b if a is not None else torch.zeros(()))
