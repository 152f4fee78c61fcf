from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import keeps_uint8, pad_to, resize_image, resized_size
from maskrcnn.exporting.graph import content_size, corner_in, letterbox

SIDES = st.integers(2, 300)
ROUNDINGS = list(product(["short", "square"], ["nearest", "floor"]))


def content_in(size: tuple[int, int], photo: tuple[int, int], data: DataConfig) -> tuple[int, int]:
    return tuple(content_size(torch.tensor(photo), size, data).tolist())  # type: ignore[return-value]


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from(ROUNDINGS), st.integers(32, 200), st.integers(0, 200))
def test_where_it_fits_the_content_is_as_large_as_outside_the_graph(height, width, how, min_size, more):
    data = DataConfig(resize=how[0], size_rounding=how[1], min_size=min_size, max_size=min_size + more)
    wanted = resized_size(height, width, data)
    got = content_in((4096, 4096), (height, width), data)
    # A half is decided by the last bit of a float there, in whole numbers here.
    assert max(abs(one - other) for one, other in zip(got, wanted, strict=True)) <= 1
    exact = [
        side * min(limit)
        for side, limit in ((height, _scales(height, width, data)), (width, _scales(height, width, data)))
    ]
    for one, other, value in zip(got, wanted, exact, strict=True):
        part = value % 1
        undecided = min(abs(part - 0.5), part, 1 - part) < 1e-9
        assert one == other or undecided


def _scales(height: int, width: int, data: DataConfig) -> list[float]:
    short = [data.min_size / min(height, width)] if data.resize == "short" else []
    return [*short, data.max_size / max(height, width)]


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from(["short", "square"]), st.integers(32, 200), st.integers(0, 200))
def test_tensorflow_sizes_are_the_same_in_a_graph(height, width, resize, min_size, more):
    data = DataConfig(resize=resize, size_rounding="tensorflow", min_size=min_size, max_size=min_size + more)
    assert content_in((40960, 40960), (height, width), data) == resized_size(height, width, data)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(32, 200), st.integers(0, 200))
def test_what_grows_is_as_large_as_outside_the_graph(height, width, min_size, more):
    data = DataConfig(resize="grow", size_rounding="even", min_size=min_size, max_size=min_size + more)
    got, wanted = content_in((4096, 4096), (height, width), data), resized_size(height, width, data)
    scale = min(max(min_size / min(height, width), 1), (min_size + more) / max(height, width))
    for one, other, side in zip(got, wanted, (height, width), strict=True):
        assert one == other or (abs(one - other) == 1 and abs(side * scale % 1 - 0.5) < 1e-9)


def test_halves_are_even_in_a_graph():
    data = DataConfig(min_size=50, max_size=1000, size_rounding="even")
    assert content_in((4096, 4096), (100, 101), data) == (50, 50)
    assert content_in((4096, 4096), (100, 103), data) == (50, 52)


def test_a_fixed_size_is_fixed_in_a_graph():
    data = DataConfig(resize="fixed", min_size=64, max_size=48)
    assert content_in((64, 64), (10, 300), data) == resized_size(10, 300, data) == (64, 48)


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from([(64, 96), (96, 64), (128, 128), (64, 320)]))
def test_content_never_leaves_the_input_and_fills_it_one_way(height, width, size):
    data = DataConfig(min_size=1000, max_size=2000)
    content = content_in(size, (height, width), data)
    assert 1 <= content[0] <= size[0]
    assert 1 <= content[1] <= size[1]
    assert content[0] == size[0] or content[1] == size[1]


@settings(deadline=None, max_examples=60)
@given(
    *(SIDES, SIDES, st.sampled_from([(64, 96), (96, 64), (160, 160)]), st.sampled_from(ROUNDINGS)),
    *(st.sampled_from(["antialias", "bilinear", "tensorflow", "opencv", "skimage", "pillow"]),),
    *(st.sampled_from(["rgb8", "raw"]), st.sampled_from(["corner", "centre"]), st.integers(0, 99)),
)
def test_pixels_are_those_of_the_resize_outside(height, width, size, how, interpolation, pixels, place, seed):
    data = DataConfig(
        **{"resize": how[0], "size_rounding": how[1], "min_size": 80, "max_size": 120},
        **{"interpolation": interpolation, "pixels": pixels, "pad_place": place},
    )
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    if pixels == "raw":
        image = image.float()
    image[:, 0, 0] = 0  # scikit-image makes nothing darker than the darkest pixel
    resized, content, photo = letterbox(image[None], size, data)
    assert photo.tolist() == [height, width]
    assert resized.shape == (1, 3, *size)
    assume(content.min() > 1)  # PyTorch 2.8 resizes to a single column wrongly
    wanted = pad_to(resize_image(image, tuple(content.tolist()), interpolation), size, place).float()
    whole = keeps_uint8(interpolation) and pixels == "rgb8"  # rounded, outside after each axis
    assert (resized[0] - wanted).abs().max() <= (1.0 if whole else 1e-3 * 255)
    if whole:
        assert torch.equal(resized, resized.round())
    top, left = corner_in(size, content, data).tolist()
    outside = torch.ones(size, dtype=torch.bool)
    outside[top : top + int(content[0]), left : left + int(content[1])] = False
    assert not resized[:, :, outside].any()


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear", "opencv", "skimage"])
def test_a_photo_that_fits_is_left_as_it_is(interpolation):
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    data = DataConfig(min_size=64, max_size=96, interpolation=interpolation)
    resized, content, _ = letterbox(image, (64, 96), data)
    assert content.tolist() == [64, 96]
    torch.testing.assert_close(resized, image.float(), atol=1e-3, rtol=0)
