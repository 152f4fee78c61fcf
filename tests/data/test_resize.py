"""Sizes, pixels and padding of other frameworks: small tables that their own code computed, and their golden files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import corner_of, keeps_uint8, pad_to, padded_size, resize_image, resized_size
from tests.weights.oracle import oracles

MATTERPORT = DataConfig(
    resize="grow",
    min_size=800,
    max_size=1024,
    interpolation="skimage",
    size_rounding="even",
    pad_place="centre",
    pad_value="black",
    pad_multiple=64,
)
SMALL = [[0, 91, 182, 17], [37, 141, 245, 93], [148, 9, 126, 243]]
LIGHT = [[max(value, 60) for value in row] for row in SMALL]


def resized(values: list[list[int]], size: tuple[int, int], interpolation: str) -> list[list[int]]:
    image = torch.tensor(values, dtype=torch.uint8)[None]
    return resize_image(image, size, interpolation)[0].tolist()  # type: ignore[arg-type]


# ---------------------------------------------------------------- sizes


def grow(height: int, width: int, low: int, high: int) -> tuple[int, int]:
    """Matterport's resize_image, mode "square", in its order of operations."""
    scale: float = max(1, low / min(height, width))
    if round(max(height, width) * scale) > high:
        scale = high / max(height, width)
    return round(height * scale), round(width * scale)


def test_grow_by_hand() -> None:
    assert resized_size(400, 500, MATTERPORT) == (800, 1000)
    assert resized_size(300, 600, MATTERPORT) == (512, 1024)
    assert resized_size(900, 1000, MATTERPORT) == (900, 1000)  # never shrunk to the short side
    assert resized_size(1500, 3000, MATTERPORT) == (512, 1024)
    assert padded_size(512, 1024, MATTERPORT) == (1024, 1024)


@pytest.mark.parametrize(("low", "high"), [(800, 1024), (256, 256), (320, 512)])
def test_grow_is_matterports(low: int, high: int) -> None:
    data = DataConfig(resize="grow", min_size=low, max_size=high, size_rounding="even")
    for height, width in np.random.default_rng(0).integers(20, 3000, (2000, 2)).tolist():
        assert resized_size(height, width, data) == grow(height, width, low, high)


def test_even_rounds_half_to_even() -> None:
    data = DataConfig(min_size=50, max_size=1000, size_rounding="even")
    assert resized_size(100, 101, data) == (50, 50)  # 50.5
    assert resized_size(100, 103, data) == (50, 52)  # 51.5


# ---------------------------------------------------------------- pixels


def test_opencv_by_its_own_numbers() -> None:
    """What cv2.resize gives (4.14 and 5.0 alike)."""
    larger = [
        [0, 32, 84, 136, 170, 76, 17],
        [15, 49, 104, 159, 196, 104, 47],
        [37, 74, 134, 193, 234, 147, 93],
        [104, 89, 65, 118, 174, 180, 183],
        [148, 98, 19, 67, 134, 201, 243],
    ]
    assert resized(SMALL, (5, 7), "opencv") == larger
    assert resized(SMALL, (2, 3), "opencv") == [[25, 151, 63], [107, 99, 197]]


def test_skimage_by_its_own_numbers() -> None:
    """What skimage.transform.resize 0.26 gives, cut to whole numbers: dark borders, but none below the image's own."""
    larger = [
        [0, 25, 67, 109, 136, 60, 10],
        [11, 49, 104, 159, 195, 104, 37],
        [29, 74, 133, 193, 234, 147, 73],
        [81, 88, 64, 117, 174, 179, 143],
        [93, 78, 15, 54, 107, 160, 152],
    ]
    lighter = [
        [60, 60, 71, 109, 138, 82, 60],
        [60, 78, 107, 159, 197, 121, 60],
        [60, 88, 135, 193, 234, 147, 73],
        [88, 105, 93, 132, 174, 179, 143],
        [93, 93, 60, 74, 107, 160, 152],
    ]
    assert resized(SMALL, (5, 7), "skimage") == larger
    assert resized(LIGHT, (5, 7), "skimage") == lighter
    assert resized(SMALL, (2, 3), "skimage") == [[24, 150, 62], [107, 98, 197]]
    assert resized(LIGHT, (2, 3), "skimage") == [[67, 150, 89], [118, 118, 197]]


@pytest.mark.parametrize("interpolation", ["opencv", "skimage", "pillow"])
def test_types_and_what_needs_no_resize(interpolation) -> None:
    image = torch.randint(0, 256, (4, 9, 7), dtype=torch.uint8)
    assert keeps_uint8(interpolation)
    assert resize_image(image, (9, 7), interpolation) is image
    assert resize_image(image, (20, 3), interpolation).dtype == torch.uint8
    floats = resize_image(image.float() * 100, (20, 3), interpolation)
    assert floats.dtype == torch.float32
    assert floats.shape == (4, 20, 3)
    assert floats.max() > 255
    assert resize_image(image[:, :1, :1], (3, 2), interpolation).shape == (4, 3, 2)


# ---------------------------------------------------------------- padding


def test_the_content_lies_in_the_middle() -> None:
    assert corner_of((5, 7), (32, 64), "corner") == (0, 0)
    assert corner_of((5, 7), (32, 64), "centre") == (13, 28)  # the odd pixel comes below and on the right
    padded = pad_to(torch.ones(3, 5, 7, dtype=torch.uint8), (32, 64), "centre")
    assert padded[:, 13:18, 28:35].all()
    assert padded.sum() == 3 * 5 * 7


# ---------------------------------------------------------------- against what the originals computed

RULES = {
    "mp_resnet50": replace(MATTERPORT, min_size=256, max_size=256),
    "d2_r50_fpn": DataConfig(min_size=256, max_size=400, interpolation="pillow"),
    "d2_lsj": DataConfig(min_size=256, max_size=256, interpolation="pillow"),
    "mm_r50_fpn": DataConfig(min_size=256, max_size=400, interpolation="opencv"),
    "mm_swin_t": DataConfig(min_size=256, max_size=400, interpolation="opencv"),
}


@pytest.mark.parametrize("name", RULES)
def test_pixels_are_those_of_the_original(name: str, data_dir: Path) -> None:
    golden, data = oracles(data_dir).load_golden(name), RULES[name]
    image = torch.from_numpy(golden["image"]).permute(2, 0, 1)
    size = resized_size(image.shape[1], image.shape[2], data)
    found = resize_image(image, size, data.interpolation)
    if name.startswith("mp"):
        found = pad_to(found, padded_size(*size, data), data.pad_place)
        top, left, bottom, right = golden["window"][0].tolist()
        assert corner_of(size, padded_size(*size, data), data.pad_place) == (top, left)
        assert (bottom - top, right - left) == size
    found, wanted = found.permute(1, 2, 0).numpy(), golden["resized"]
    np.testing.assert_array_equal(found, wanted)
    if name == "d2_lsj":  # our filter rounds otherwise than Pillow's where it shrinks
        ours = resize_image(image, size, "antialias").permute(1, 2, 0).numpy()
        assert 0 < (ours != wanted).mean() < 0.002
        assert np.abs(ours.astype(int) - wanted).max() == 1
