"""Parts of the image that instances show: crops, cut-outs with opacity, colour splash. Original frame, RGB."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskrcnn.data.sample import to_display
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"
_ROWS = 1 << 22  # pixels turned grey at a time


def image_of(instances: Instances, image: Any = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB, a copy: the image given, else that of `instances.path`.

    Raises:
        DataError: there is none, or it has another size.
    """
    if image is None and instances.path is None:
        raise DataError("these instances come from no file; give the image")
    pixels = to_display(instances.path if image is None else image)
    instances.check_image(pixels.shape[:2])
    return pixels


def crop(instances: Instances, image: Any = None, margin: int = 0) -> list[np.ndarray]:
    """See `Instances.crops`."""
    pixels = image_of(instances, image)
    limit = np.array(instances.size[::-1])
    low = np.clip(np.floor(instances.boxes[:, :2]).astype(int) - margin, 0, limit - 1)
    high = np.maximum(np.minimum(np.ceil(instances.boxes[:, 2:]).astype(int) + margin, limit), low + 1)
    return [pixels[y0:y1, x0:x1].copy() for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True)]


def cut_out(instances: Instances, image: Any = None) -> list[np.ndarray]:
    """See `Instances.cutouts`. An empty mask gives one transparent pixel, so that all can be saved."""
    pixels, found = image_of(instances, image), []
    for index in range(len(instances)):
        mask, top, left = instances.window(index)
        height, width = mask.shape
        alone = np.zeros((max(height, 1), max(width, 1), 4), np.uint8)
        alone[:height, :width, :3] = pixels[top : top + height, left : left + width] * mask[:, :, None]
        alone[:height, :width, 3] = 255 * mask
        found.append(alone)
    return found


def splash(instances: Instances, image: Any = None) -> np.ndarray:
    """See `Instances.splash`. Memory: the image twice, and one mask at a time inside its box."""
    pixels = image_of(instances, image)
    coloured = np.zeros(instances.size, bool)
    for index in range(len(instances)):
        mask, top, left = instances.window(index)
        coloured[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    step = max(1, _ROWS // pixels.shape[1])
    for start in range(0, len(pixels), step):
        rows = slice(start, start + step)
        grey = (pixels[rows].astype(np.float32) @ LUMA + 0.5).astype(np.uint8)[:, :, None]
        pixels[rows] = np.where(coloured[rows, :, None], pixels[rows], grey)
    return pixels
