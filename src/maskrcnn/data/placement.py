"""Where an image goes: crop window -> resize -> rotate -> mirror, all of it one affine map.

Every random number is a pure function of `key`; each chance has its own place in the stream, so that switching one
augmentation on does not change the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.buckets import sample_key
from maskrcnn.data.resize import resized_size

# The order is part of what a seed means: new names go to the end.
_CHANCES = (
    "crop", "crop_height", "crop_width", "crop_y", "crop_x", "scale", "cut_y", "cut_x",
    "flip_x", "flip_y", "brightness", "contrast", "saturation", "hue",
    "angle", "blur", "blur_sigma", "noise", "jpeg", "jpeg_quality", "cutout",
    "copy_paste", "paste_y", "paste_x", "mosaic", "mosaic_y", "mosaic_x", "mosaic_turn",
)  # fmt: skip


def chances_of(key: int) -> dict[str, float]:
    """Uniform numbers in [0, 1), one for each random decision."""
    generator = np.random.Generator(np.random.Philox(key=key))
    return dict(zip(_CHANCES, generator.random(len(_CHANCES)).tolist(), strict=True))


def stream(key: int, purpose: int) -> np.random.Generator:
    """Numbers for one purpose that needs more than a few of them."""
    return np.random.Generator(np.random.Philox(key=sample_key(key, purpose)))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image goes. Its frame begins at the top left of the content, wherever that lies in the padded input.

    Attributes:
        window: (y0, x0, y1, x1) whole pixels of the original frame that fill the content when it is not rotated.
        size: (height, width) of the content, input frame.
        flip_x, flip_y: mirrored left-right, top-bottom.
        angle: degrees clockwise about the content's centre, before mirroring. The content keeps its size: its corners
            show what lies beyond the window, and nothing where the image ends.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    flip_x: bool = False
    flip_y: bool = False
    angle: float = 0.0

    @property
    def to_original(self) -> np.ndarray:
        """(2, 3) float64 affine map: input frame -> original frame, continuous pixels."""
        y0, x0, y1, x1 = self.window
        scale_y, scale_x = (y1 - y0) / self.size[0], (x1 - x0) / self.size[1]
        row_x = [-scale_x, 0.0, x1] if self.flip_x else [scale_x, 0.0, x0]
        row_y = [0.0, -scale_y, y1] if self.flip_y else [0.0, scale_y, y0]
        upright = np.array([row_x, row_y], np.float64)
        return self._turn_back(upright) if self.angle else upright

    def _turn_back(self, upright: np.ndarray) -> np.ndarray:
        """The same map for an input frame that is rotated: first undo that."""
        mirrored = self.flip_x != self.flip_y  # a mirror turns the sense of rotation
        turn = math.radians(self.angle if mirrored else -self.angle)
        back = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        centre = np.array([self.size[1], self.size[0]]) / 2
        linear = upright[:, :2] @ back
        return np.column_stack([linear, upright[:, :2] @ (centre - back @ centre) + upright[:, 2]])

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) x, y of the original frame -> input frame, float64."""
        affine = self.to_original
        moved = points.astype(np.float64) - affine[:, 2]
        if self.angle:
            return moved @ np.linalg.inv(affine[:, :2]).T
        return moved / affine[[0, 1], [0, 1]]


def place(
    size: tuple[int, int],
    data: DataConfig,
    canvas: tuple[int, int] | None = None,
    chances: Mapping[str, float] | None = None,
    *,
    fills: bool = False,
) -> Placement:
    """Placement of an image of `size`; without `chances`, the whole image resized.

    A jitter below 1 leaves room on the canvas, one above 1 shows a random part (large-scale jitter, Ghiasi 2021).
    `fills`: sized to the canvas, half way between fitting in (empty borders) and covering it (objects cut off).
    """
    window = (0, 0, *size)
    if chances is None:
        return Placement(window, resized_size(*size, data))
    if chances["crop"] < data.crop:
        window = _crop(size, chances)
    content = resized_size(window[2] - window[0], window[3] - window[1], data)
    low, high = data.scale_jitter
    scale = math.exp(math.log(low) + chances["scale"] * (math.log(high) - math.log(low)))
    if canvas is not None:  # a crop may have another aspect than the image that the canvas was planned for
        ratios = canvas[0] / content[0], canvas[1] / content[1]
        scale *= math.sqrt(ratios[0] * ratios[1]) if fills else min(1.0, *ratios)
    if scale != 1.0:
        content = (max(1, int(content[0] * scale + 0.5)), max(1, int(content[1] * scale + 0.5)))
    if canvas is not None and (content[0] > canvas[0] or content[1] > canvas[1]):
        window, content = _cut(window, content, canvas, chances)
    angle = (2.0 * chances["angle"] - 1.0) * data.rotation
    flips = chances["flip_x"] < data.horizontal_flip, chances["flip_y"] < data.vertical_flip
    return Placement(window, content, *flips, angle)


def _crop(size: tuple[int, int], chances: Mapping[str, float]) -> tuple[int, int, int, int]:
    """A window of 50-100 % of each side."""
    height = max(1, round(size[0] * (0.5 + 0.5 * chances["crop_height"])))
    width = max(1, round(size[1] * (0.5 + 0.5 * chances["crop_width"])))
    y0 = int(chances["crop_y"] * (size[0] - height + 1))
    x0 = int(chances["crop_x"] * (size[1] - width + 1))
    return y0, x0, y0 + height, x0 + width


def _cut(
    window: tuple[int, int, int, int],
    content: tuple[int, int],
    canvas: tuple[int, int],
    chances: Mapping[str, float],
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Shrink the window so that its content fits the canvas at the same scale, up to whole original pixels."""
    starts, ends, sides = [], [], []
    for axis, chance in ((0, chances["cut_y"]), (1, chances["cut_x"])):
        start, full = window[axis], window[axis + 2] - window[axis]
        side = min(content[axis], canvas[axis])
        length = min(full, max(1, round(full * side / content[axis])))
        start += int(chance * (full - length + 1))
        starts.append(start)
        ends.append(start + length)
        sides.append(side)
    return (starts[0], starts[1], ends[0], ends[1]), (sides[0], sides[1])
