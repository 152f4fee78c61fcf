"""Truth beside what was found, on one image: found and right blue, missed yellow, false red, crowds grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from maskrcnn.data.sample import to_display
from maskrcnn.errors import DataError
from maskrcnn.evaluation.suspects import Shown, Suspect, WorstImage
from maskrcnn.ops.rle import decode_rle
from maskrcnn.structures import Record
from maskrcnn.view.sketch import Sketch

COLORS = {"right": "#35b6ff", "found": "#35b6ff", "missed": "#ffd60a", "crowd": "#a0a0a0", "ignored": "#a0a0a0"}
FALSE = "#ff3b30"
_QUIET = ("right", "found", "crowd", "ignored")
SIDE = 420  # pixels of a drawing
MOST_NAMES = 25  # of errors
MOST_RIGHT = 8  # objects above which those that are found have no names, which would hide the picture
_FADE, _FILL = 0.1, 0.4
_AROUND = 0.75  # how much of a suspect's side is shown around it


def pixels_of(record: Record) -> np.ndarray | None:
    """(H, W, 3) uint8 of an image, original frame; None where it cannot be read."""
    try:
        pixels = to_display(record)
    except DataError:
        return None
    return pixels if pixels.shape[:2] == record.size else None


def draw_worst(image: WorstImage, record: Record, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """(truth, results), each (h, w, 3) uint8; on grey where the image cannot be read."""
    pixels = _ground(record)
    return draw_shown(pixels, image.truth, side), draw_shown(pixels, image.results, side)


def draw_suspect(suspect: Suspect, record: Record, side: int = SIDE) -> np.ndarray:
    """The surroundings of an annotation that may be wrong, (side, side, 3) uint8 at most: result red, truth yellow."""
    pixels = _ground(record)
    shown = [one for one in (suspect.truth, suspect.result) if one is not None]
    boxes = np.array([one.box for one in shown])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    reach = max(_AROUND * float((high - low).max()), 24.0)
    left, top = np.floor(np.maximum(low - reach, 0)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(high + reach, pixels.shape[1::-1])).astype(int).tolist()
    window = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    sketch = Sketch(window, side)
    for one, color in ((suspect.truth, COLORS["missed"]), (suspect.result, FALSE)):
        if one is None:
            continue
        moved = np.array([one.box]) - [left, top, left, top]
        name = one.name if one is suspect.truth else f"{one.name} {one.score:.2f}"
        sketch.boxes(moved, color, [name], dotted=one is suspect.truth and suspect.result is not None)
    return sketch.array()


def draw_shown(pixels: np.ndarray, shown: Sequence[Shown], side: int = SIDE) -> np.ndarray:
    """Objects or results on (H, W, 3) uint8, errors on top -> (h, w, 3) uint8."""
    shown = sorted(shown, key=lambda one: one.outcome in _QUIET)
    colors = [COLORS.get(one.outcome, FALSE) for one in shown]
    scale = min(1.0, side / max(pixels.shape[:2]))  # first, so that a large photo costs no more than a small one
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    sketch = Sketch(_filled(pixels, shown, colors, size), side, _FADE)
    most = MOST_NAMES if len(shown) <= MOST_RIGHT else min(MOST_NAMES, sum(one.outcome not in _QUIET for one in shown))
    names = [_name(one) if index < most else "" for index, one in enumerate(shown)]
    boxes = np.array([one.box for one in shown]).reshape(-1, 4) * np.tile(np.array(size) / pixels.shape[1::-1], 2)
    return sketch.boxes(boxes, colors, names).array()


def _name(one: Shown) -> str:
    if one.outcome in ("found", "missed", "crowd"):
        return one.name if one.outcome == "found" else f"{one.name} {one.outcome}"
    return f"{one.name} {one.score:.2f}" + ("" if one.outcome == "right" else f" {one.outcome}")


def _filled(pixels: np.ndarray, shown: Sequence[Shown], colors: Sequence[str], size: tuple[int, int]) -> np.ndarray:
    """The image in another size (width, height), masks laid over it."""
    image = np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR), np.float32)
    for one, color in zip(reversed(shown), reversed(colors), strict=True):
        if one.rle is None:
            continue
        mask = Image.fromarray(decode_rle(one.rle).astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
        part = np.asarray(mask, np.float32)[..., None] / 255 * _FILL
        image += (np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], np.float32) - image) * part
    return image.round().astype(np.uint8)


def _ground(record: Record) -> np.ndarray:
    pixels = pixels_of(record)
    return np.full((*record.size, 3), 110, np.uint8) if pixels is None else pixels
