"""From the decoded image's size to the input tensor's: how large the content becomes, its pixels, and the padding.

Frames: the *original* image is resized to the content, which lies in the *input* frame, at its top left or in the
middle.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from maskrcnn.config import DataConfig

Interpolation = Literal["antialias", "bilinear", "tensorflow", "opencv", "skimage", "pillow"]
"""See `DataConfig.interpolation`."""
Place = Literal["corner", "centre"]
"""See `DataConfig.pad_place`."""

FILTERED = ("antialias", "pillow")
"""Where shrinking takes all pixels into account; all others take two taps an axis."""
_FLOATS = ("bilinear", "tensorflow")  # give float32, whatever comes in
_OPENCV_BITS = 11  # of a weight in OpenCV's fixed-point numbers


def resized_size(height: int, width: int, data: DataConfig) -> tuple[int, int]:
    """(height, width) of the content in the input frame. float64 arithmetic in torchvision's order of operations, or
    TensorFlow's in float32."""
    if data.resize == "fixed":
        return data.min_size, data.max_size
    if data.size_rounding == "tensorflow":
        one, sides = np.float32, (np.float32(height), np.float32(width))
        scale32 = one(data.max_size) / max(sides)
        if data.resize == "short":
            scale32 = min(one(data.min_size) / min(sides), scale32)
        elif data.resize == "grow":
            scale32 = _growth(one(data.min_size) / min(sides), scale32, max(sides), data)
        return max(1, int(np.round(scale32 * sides[0]))), max(1, int(np.round(scale32 * sides[1])))  # half to even
    scale = data.max_size / max(height, width)
    if data.resize == "short":
        scale = min(data.min_size / min(height, width), scale)
    elif data.resize == "grow":
        scale = _growth(data.min_size / min(height, width), scale, max(height, width), data)
    return max(1, _whole(height * scale, data)), max(1, _whole(width * scale, data))


def _growth(wanted: Any, limit: Any, longest: Any, data: DataConfig) -> Any:
    """Matterport's scale, float64 or float32: at least 1, unless the long side comes out longer than it may be."""
    scale = max(wanted, 1.0)
    return limit if _whole(longest * scale, data) > data.max_size else scale


def _whole(side: float, data: DataConfig) -> int:
    if data.size_rounding == "floor":
        return int(side)
    return int(side + 0.5) if data.size_rounding == "nearest" else round(float(side))  # Python's: half to even


def padded_size(height: int, width: int, data: DataConfig) -> tuple[int, int]:
    """(H, W) of the input tensor for a content of (height, width): whole multiples, or the common square."""
    multiple = data.pad_multiple
    if data.resize in ("square", "grow"):
        height = width = data.max_size
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def resize_image(image: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize (C, H, W) uint8 or float32 to (C, *size).

    "antialias" and "pillow" are filtered when they shrink; all others take two taps an axis, however much it shrinks.
    These two, "opencv" and "skimage" give uint8 of uint8, and floats unrounded; "bilinear" (torchvision's detection
    models) and "tensorflow" (from other places, see `resize_as_tensorflow`) give float32.
    """
    if not keeps_uint8(interpolation):
        image = image.float()
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    if interpolation == "tensorflow":
        return resize_as_tensorflow(image, size)
    if interpolation == "skimage":
        return resize_as_skimage(image, size)
    if interpolation == "opencv" and image.dtype == torch.uint8:
        return resize_as_opencv(image, size)
    if interpolation == "pillow" and image.dtype == torch.uint8:
        return resize_as_pillow(image, size)
    antialias = interpolation in FILTERED
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=antialias)[0]


def keeps_uint8(interpolation: str) -> bool:
    """Whether a resized uint8 image is uint8 again."""
    return interpolation not in _FLOATS


# ---------------------------------------------------------------- Pillow


def resize_as_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's bilinear resize of (C, H, W) uint8, by Pillow itself. Its weights are whole numbers of 22 bits."""

    def resized(pixels: Tensor) -> Tensor:
        small = Image.fromarray(pixels.numpy()).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small))

    if len(image) == 3:  # all at once, as photos come
        return resized(image.permute(1, 2, 0)).permute(2, 0, 1)
    return torch.stack([resized(plane) for plane in image])


# ---------------------------------------------------------------- OpenCV


def resize_as_opencv(image: Tensor, size: tuple[int, int]) -> Tensor:
    """OpenCV's `resize` with INTER_LINEAR of (C, H, W) uint8, to the last bit.

    Weights are whole numbers of 11 bits. Along x first; of that sum 4 bits are dropped, of each product along y 16, and
    the rest is rounded. So a constant image may lose a level at its top and bottom.
    """
    (top, bottom, over, under), (left, right, before, after) = (
        _fixed_taps(old, new) for old, new in zip(image.shape[-2:], size, strict=True)
    )

    def along_x(rows: Tensor) -> Tensor:
        rows = rows.to(torch.int32)
        return (rows[:, :, left] * before + rows[:, :, right] * after) >> 4

    if image.shape[1] < 2 * size[0]:
        rows = along_x(image)
        first, second = rows[:, top], rows[:, bottom]
    else:  # most rows are not looked at
        first, second = along_x(image[:, top]), along_x(image[:, bottom])
    sums = ((first * over[:, None]) >> 16) + ((second * under[:, None]) >> 16)
    return ((sums + 2) >> 2).to(torch.uint8)


def _fixed_taps(old: int, new: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each of `new` pixels its two neighbours among `old`, int64, and their weights, int32.

    Beyond the border both neighbours are the last pixel, and each of the two weights is rounded by itself.
    """
    place = ((np.arange(new) + 0.5) * (1.0 / (new / old)) - 0.5).astype(np.float32)
    low = np.floor(place)
    part = place - low
    weights = [np.rint(way * np.float32(1 << _OPENCV_BITS)).astype(np.int32) for way in (np.float32(1) - part, part)]
    first = low.astype(np.int64)
    taps = [np.clip(tap, 0, old - 1) for tap in (first, first + 1)]
    return (*(torch.from_numpy(tap) for tap in taps), *(torch.from_numpy(weight) for weight in weights))  # type: ignore[return-value]


# ---------------------------------------------------------------- scikit-image


def resize_as_skimage(image: Tensor, size: tuple[int, int]) -> Tensor:
    """scikit-image's `resize` as Matterport calls it, (C, H, W) uint8 -> uint8 cut to whole numbers, floats -> float32.

    Order 1, mode "constant", no antialiasing: beyond the image all is 0, so that the outermost pixels are darker where
    it grows, though never darker than the darkest of the image (its "clip"). In float64, in its order of operations:
    many values are whole numbers but for the last bit, which decides what they are cut to.
    """
    pixels = image.numpy()
    values, low, high = np.pad(pixels, ((0, 0), (1, 1), (1, 1))), pixels.min(), pixels.max()
    (top, down), (left, across) = (_zero_taps(old, new) for old, new in zip(image.shape[-2:], size, strict=True))
    planes = np.empty((len(values), *size), np.uint8 if image.dtype == torch.uint8 else np.float32)
    for plane, channel in zip(planes, values, strict=True):
        total = np.zeros(size)
        for row, along_y in ((top, 1.0 - down), (top + 1, down)):
            for column, along_x in ((left, 1.0 - across), (left + 1, across)):
                total += channel[row[:, None], column] * along_y[:, None] * along_x
        plane[:] = np.clip(total, low, high, out=total)
    return torch.from_numpy(planes)


def _zero_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `new` pixels its first neighbour in an image that has a border of zeros, and the way to the second."""
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    low = np.floor(place)
    return low.astype(np.int64) + 1, place - low


# ---------------------------------------------------------------- TensorFlow


def resize_as_tensorflow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """TensorFlow's old bilinear resize (`align_corners` false, no half-pixel centres) of (C, H, W) float32.

    Pixel i reads place i * in / out, so that the picture moves by up to half a pixel to the top left when it shrinks.
    In TensorFlow's order of operations: the place in float32, along x first, then along y.
    """
    (top, bottom, down), (left, right, across) = (
        _old_places(before, after) for before, after in zip(image.shape[-2:], size, strict=True)
    )

    def along_x(rows: Tensor) -> Tensor:
        first = rows[:, :, left]
        return first + (rows[:, :, right] - first) * across

    if image.shape[1] < 2 * size[0]:
        rows = along_x(image)
        first, second = rows[:, top], rows[:, bottom]
    else:  # most rows are not looked at
        first, second = along_x(image[:, top]), along_x(image[:, bottom])
    return first + (second - first) * down[:, None]


def _old_places(before: int, after: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of `after` pixels the one of `before` at its place, the next one, and the way between them."""
    place = torch.arange(after, dtype=torch.float32) * torch.tensor(np.float32(before) / np.float32(after))
    low = place.floor()
    first = low.to(torch.int64).clamp(max=before - 1)
    return first, (first + 1).clamp(max=before - 1), place - low


# ---------------------------------------------------------------- padding


def corner_of(content: tuple[int, int], padded: tuple[int, int], place: Place) -> tuple[int, int]:
    """(top, left): where a content of (height, width) lies in an input of (H, W)."""
    if place == "corner":
        return 0, 0
    return (padded[0] - content[0]) // 2, (padded[1] - content[1]) // 2


def pad_to(image: Tensor, size: tuple[int, int], place: Place = "corner") -> Tensor:
    """(C, h, w) -> (C, *size): content at its place, zeros elsewhere."""
    height, width = image.shape[-2:]
    if height > size[0] or width > size[1]:
        raise ValueError(f"an image of {height} x {width} does not fit into {size[0]} x {size[1]}")
    top, left = corner_of((height, width), size, place)
    padded = image.new_zeros((image.shape[0], *size))
    padded[:, top : top + height, left : left + width] = image
    return padded
