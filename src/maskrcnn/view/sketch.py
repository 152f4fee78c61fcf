"""Boxes, dotted or solid, names and heat on an image: what the pages about a model draw with. Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.view.draw import COLORS, font_path

if TYPE_CHECKING:
    from PIL import ImageFont

SIDE = 640  # pixels of a drawing's long side
DASH = 4  # pixels of a dash, and of the gap after it
WHITE = "#ffffff"
_HEAT = np.array([(13, 8, 60), (62, 38, 150), (32, 120, 170), (60, 190, 120), (250, 232, 70)], np.float64)


def color_of(number: int) -> str:
    """Of an object or a class: always the same."""
    return COLORS[number % len(COLORS)]


class Sketch:
    """A drawing on an image that is first scaled, so that lines and names are as large on every image.

    Args:
        pixels: (H, W, 3) uint8.
        side: of the drawing's longer side.
        fade: 0..1, how far the image is mixed with grey, so that lines stand out.
    """

    def __init__(self, pixels: np.ndarray, side: int = SIDE, fade: float = 0.0) -> None:
        from PIL import Image, ImageDraw

        height, width = pixels.shape[:2]
        self.scale = side / max(height, width)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        how = Image.Resampling.NEAREST if self.scale > 1 else Image.Resampling.BILINEAR
        canvas = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how)
        if fade:
            canvas = Image.blend(canvas, Image.new("RGB", size, "#808080"), fade)
        self.canvas, self.draw = canvas, ImageDraw.Draw(canvas)
        self.font = _font(12)

    def boxes(
        self,
        boxes: np.ndarray,
        colors: Sequence[str] | str = WHITE,
        names: Sequence[str] | None = None,
        *,
        dotted: bool = False,
        width: int = 2,
    ) -> Sketch:
        """Boxes (N, 4) in pixels of the image, the first on top; each under a dark line, to be seen on any ground."""
        for index in range(len(boxes) - 1, -1, -1):
            color = colors if isinstance(colors, str) else colors[index]
            x0, y0, x1, y1 = (boxes[index].astype(np.float64) * self.scale).clip(-2 * SIDE, 4 * SIDE).tolist()
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
            if dotted:
                for start, stop in pairwise(corners):
                    self._dashes(start, stop, color, width)
            else:
                self.draw.line(corners, fill="#00000080", width=width + 2)
                self.draw.line(corners, fill=color, width=width)
            if names is not None and names[index]:
                self.name(names[index], x0, y0, color)
        return self

    def _dashes(self, start: tuple[float, float], stop: tuple[float, float], color: str, width: int) -> None:
        a, b = np.array(start), np.array(stop)
        length = float(np.linalg.norm(b - a))
        for at in np.arange(0, length, 2 * DASH):
            ends = [tuple(a + (b - a) * (min(place, length) / length)) for place in (at, at + DASH)]
            self.draw.line(ends, fill=color, width=width)

    def name(self, text: str, x: float, y: float, color: str) -> Sketch:
        """A label above (x, y) of the drawing, inside it."""
        left, top, right, bottom = self.font.getbbox(text)
        wide, tall = right - left + 6, bottom - top + 5
        x = min(max(x, 0), self.canvas.width - wide)
        y = min(max(y - tall, 0), self.canvas.height - tall)
        self.draw.rectangle((x, y, x + wide, y + tall), fill=color)
        self.draw.text((x + 3, y + 2 - top), text, fill=_readable(color), font=self.font)
        return self

    def dots(self, points: np.ndarray, color: str) -> Sketch:
        """Points (N, 2) in pixels of the image."""
        for x, y in (points[:, :2] * self.scale).tolist():
            self.draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color, outline="black")
        return self

    def array(self) -> np.ndarray:
        """(h, w, 3) uint8."""
        return np.array(self.canvas)


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Numbers (H, W) -> (H, W, 3) uint8 from dark blue (low) to yellow (high); NaN is grey."""
    finite = values[np.isfinite(values)]
    low = float(finite.min(initial=0)) if low is None else low
    high = float(finite.max(initial=low)) if high is None or not np.isfinite(high) else high
    part = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12), 0, 1) * (len(_HEAT) - 1)
    first = np.minimum(part.astype(int), len(_HEAT) - 2)
    way = (part - first)[..., None]
    colors = _HEAT[first] * (1 - way) + _HEAT[first + 1] * way
    colors[~np.isfinite(values)] = 128
    return colors.round().astype(np.uint8)


def overlay(pixels: np.ndarray, heated: np.ndarray, part: float = 0.6) -> np.ndarray:
    """A heat picture (h, w, 3) stretched over an image (H, W, 3)."""
    return (pixels * (1 - part) + resized(heated, pixels.shape[0], pixels.shape[1]) * part).astype(np.uint8)


def resized(pixels: np.ndarray, height: int, width: int, *, smooth: bool = False) -> np.ndarray:
    """(h, w, 3) uint8 -> (height, width, 3); cells stay cells unless `smooth`."""
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how))


def region(pixels: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The inside of a box x0 y0 x1 y1 of an image -> (side, side, 3); what lies outside of the image is black."""
    from PIL import Image

    x0, y0, x1, y1 = box.astype(np.float64).tolist()
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    matrix = ((x1 - x0) / side, 0, x0, 0, (y1 - y0) / side, y0)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def mosaic(tiles: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Pictures of one size (h, w, 3) in rows of `columns`, on white."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(font_path(), size)


def _readable(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
