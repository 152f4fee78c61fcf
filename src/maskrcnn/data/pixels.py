"""The image's part of augmentation: moved by a `Placement`, recoloured, and at the end blurred, noised and cut out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.data.placement import Placement, chances_of, stream
from maskrcnn.data.resize import FILTERED, keeps_uint8, resize_image

_STRIP_PIXELS = 16_000_000
_NOISE, _CUTOUT = 101, 102  # purposes of `stream`


def place_image(
    image: Tensor, placement: Placement, data: DataConfig, chances: Mapping[str, float] | None = None
) -> Tensor:
    """(C, H, W), original frame -> (C, *placement.size): uint8 or float32 0..255, as `resize_image` gives it.

    `chances` recolour it. What a rotation brings in from outside the image has the mean colour.
    """
    y0, x0, y1, x1 = placement.window
    # Colour works on uint8 and costs by the pixel: before enlarging, after shrinking.
    enlarges = (y1 - y0) * (x1 - x0) <= placement.size[0] * placement.size[1]
    colour_first = enlarges or not keeps_uint8(data.interpolation)
    top, left, bottom, right = _needed(placement, tuple(image.shape[-2:])) if placement.angle else placement.window
    image = image[:, top:bottom, left:right]
    if chances is not None and colour_first:
        image = _recolour(image, data, chances)
    if not placement.angle:
        image = resize_image(image, placement.size, data.interpolation)
    elif data.interpolation in FILTERED and not enlarges:  # rotating takes two taps: shrinking needs a filter before
        rate_y, rate_x = placement.size[0] / (y1 - y0), placement.size[1] / (x1 - x0)
        small = max(1, round((bottom - top) * rate_y)), max(1, round((right - left) * rate_x))
        image = resize_image(image, small, data.interpolation)
    if chances is not None and not colour_first:
        image = _recolour(image, data, chances)
    if placement.angle:
        turned = _turned(image, placement, (top, left, bottom, right))
        return turned if keeps_uint8(data.interpolation) else turned.float()
    axes = [axis for axis, flip in ((-1, placement.flip_x), (-2, placement.flip_y)) if flip]
    return image.flip(axes) if axes else image


# ---------------------------------------------------------------- rotation


def _needed(placement: Placement, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(y0, x0, y1, x1): whole original pixels that the rotated content shows."""
    height, width = placement.size
    affine = placement.to_original
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ affine[:, :2].T + affine[:, 2]
    left, top = np.floor(corners.min(axis=0)).astype(int) - 2  # a bilinear tap, and one for the filter's edge
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
    return max(int(top), 0), max(int(left), 0), min(int(bottom), size[0]), min(int(right), size[1])


def _turned(image: Tensor, placement: Placement, region: tuple[int, int, int, int]) -> Tensor:
    """Image (C, h, w) of the original's `region`, at any resolution -> (C, *placement.size), same dtype."""
    top, left, bottom, right = region
    half = np.array([placement.size[1], placement.size[0]]) / 2
    unit = 2 / np.array([right - left, bottom - top])  # grid_sample's frame: -1..1 over the region
    affine = placement.to_original
    linear = unit[:, None] * affine[:, :2] * half
    offset = unit * (affine[:, :2] @ half + affine[:, 2] - [left, top]) - 1
    theta = torch.from_numpy(np.column_stack([linear, offset])).float()[None]
    grid = F.affine_grid(theta, [1, 1, *placement.size], align_corners=False)  # (1, h, w, 2)
    together = len(image) if image[0].numel() < _STRIP_PIXELS else 1  # channels that are held as floats at a time
    parts = [_sampled(part.float().contiguous(), grid) for part in image.split(together)]
    moved = torch.cat(parts) if len(parts) > 1 else parts[0]
    outside = (grid[0].abs() > 1).any(dim=-1)  # (h, w)
    if bool(outside.any()):
        moved = torch.where(outside, mean_colour(image)[:, None, None], moved)
    return moved.round_().to(torch.uint8) if image.dtype == torch.uint8 else moved


def _sampled(values: Tensor, grid: Tensor) -> Tensor:
    """(C, H, W) float at (1, h, w, 2) -> (C, h, w)."""
    return F.grid_sample(values[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def mean_colour(image: Tensor) -> Tensor:
    """(C, H, W) -> (C,) float32. Summed as integers or by numpy: torch's float sums depend on the number of threads."""
    pixels = image.numpy()
    if image.dtype == torch.uint8:
        return torch.from_numpy(pixels.sum(axis=(1, 2), dtype=np.int64) / max(pixels[0].size, 1)).float()
    return torch.from_numpy(pixels.mean(axis=(1, 2), dtype=np.float64)).float()


# ---------------------------------------------------------------- colour


def _recolour(image: Tensor, data: DataConfig, chances: Mapping[str, float]) -> Tensor:
    from torchvision.transforms.v2 import functional as V

    def factor(name: str, spread: float) -> float:
        return max(0.0, 1.0 + (2.0 * chances[name] - 1.0) * spread)

    if data.brightness:
        image = V.adjust_brightness(image, factor("brightness", data.brightness))
    if data.contrast:
        image = _adjust_contrast(image, factor("contrast", data.contrast))
    if data.saturation:
        image = V.adjust_saturation(image, factor("saturation", data.saturation))
    if data.hue:
        image = V.adjust_hue(image, (2.0 * chances["hue"] - 1.0) * data.hue)
    return image


def _adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """torchvision's, but with a mean of integers: a float sum would depend on the number of threads."""
    from torchvision.transforms.v2 import functional as V

    grey = V.rgb_to_grayscale(image)
    mean = int(grey.sum(dtype=torch.int64)) / grey.numel()
    return image.float().mul_(factor).add_((1.0 - factor) * mean).clamp_(0, 255).to(torch.uint8)


# ---------------------------------------------------------------- after everything has its place


def finish(image: Tensor, data: DataConfig, key: int) -> Tensor:
    """(C, h, w) content -> the same with blur, noise, JPEG artefacts and cutout, as `key` decides. Labels stay."""
    if not (data.blur or data.noise or data.jpeg or data.cutout):
        return image
    chances = chances_of(key)
    if chances["blur"] < data.blur:
        image = _blurred(image, 0.1 + 1.9 * chances["blur_sigma"])
    if data.noise:
        image = _noisy(image, chances["noise"] * data.noise, data.pixels == "raw", stream(key, _NOISE))
    if chances["jpeg"] < data.jpeg:
        image = _through_jpeg(image, 30 + int(66 * chances["jpeg_quality"]))
    if chances["cutout"] < data.cutout:
        image = _cut_out(image, stream(key, _CUTOUT))
    return image


def _like(values: Tensor, image: Tensor) -> Tensor:
    """Float values in the image's dtype."""
    return values.round_().clamp_(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else values


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian to three sigma, rows before columns; on tiny images as long as reflection at the border allows.

    torchvision's `gaussian_blur`, as sums of shifted images: a quarter of the time of its convolution on two cores, and
    no sum that could depend on the number of threads.
    """
    values = image.float().contiguous()
    for axis in (2, 1):
        side = values.shape[axis]
        radius = min(math.ceil(3 * sigma), side - 1)
        bell = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
        weights = (bell / (2 * bell.sum() - bell[0])).tolist()
        pad = (radius, radius, 0, 0) if axis == 2 else (0, 0, radius, radius)
        padded = F.pad(values[None], pad, mode="reflect")[0]
        values = padded.narrow(axis, radius, side) * weights[0]
        for step, weight in enumerate(weights[1:], 1):
            both = padded.narrow(axis, radius - step, side) + padded.narrow(axis, radius + step, side)
            values.add_(both, alpha=weight)
    return _like(values, image)


def _noisy(image: Tensor, deviation: float, raw: bool, generator: np.random.Generator) -> Tensor:
    """`deviation` in grey levels of 255; a raw image's own range, lowest to highest value, counts as 255 levels."""
    if raw and image.numel():
        deviation *= float(image.max() - image.min()) / 255
    noise = torch.from_numpy(generator.standard_normal(tuple(image.shape), np.float32))
    values = noise.mul_(deviation).add_(image)
    return _like(values if raw else values.clamp_(0, 255), image)


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """(3, h, w) 0..255 -> the same, encoded and decoded. By Pillow: torchvision's codec is deprecated since 0.29."""
    from PIL import Image

    pixels = image if image.dtype == torch.uint8 else image.round().clamp(0, 255).to(torch.uint8)
    file = BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return torch.from_numpy(np.array(decoded)).permute(2, 0, 1).to(image.dtype)


def _cut_out(image: Tensor, generator: np.random.Generator) -> Tensor:
    """One to three rectangles of the mean colour, 2-10 % of the image each before its border cuts them."""
    height, width = image.shape[-2:]
    colour = _like(mean_colour(image), image)[:, None, None]
    image = image.clone()
    count, shapes = 1 + int(3 * generator.random()), generator.random((3, 4))
    for area, aspect, y, x in shapes[:count].tolist():
        pixels, ratio = (0.02 + 0.08 * area) * height * width, math.exp((2 * aspect - 1) * math.log(3))
        high, wide = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        rows = slice(max(0, round(y * height - high / 2)), max(0, round(y * height + high / 2)))
        image[:, rows, max(0, round(x * width - wide / 2)) : max(0, round(x * width + wide / 2))] = colour
    return image
