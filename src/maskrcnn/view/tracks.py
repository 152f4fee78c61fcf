"""Trails, lines and zones drawn on a frame, with what was counted. (H, W, 3) uint8, original frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.tracks import Counts, Tracks

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

Color = tuple[int, ...]
_LINE, _TEXT, _BACK = (255, 255, 255), (255, 255, 255), (0, 0, 0)


def draw_tracks(
    scene: np.ndarray, tracks: Tracks, colors: Sequence[Color], width: int, font: ImageFont.FreeTypeFont
) -> np.ndarray:
    """The scene with each object's trail in its colour, and lines and zones in white.

    Args:
        scene: (H, W, 3) uint8, RGB or BGR.
        tracks: of its instances.
        colors: one an instance, in the scene's order of channels.
        width: of the strokes.
        font: of the counts.
    """
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(scene)
    draw = ImageDraw.Draw(canvas)
    for zone in tracks.counts.zones:
        corners = [*zone.corners, zone.corners[0]]
        draw.line(corners, fill=_LINE, width=width)
    for line in tracks.counts.lines:
        draw.line(line.ends, fill=_LINE, width=2 * width)
    for trail, color in zip(tracks.trails, colors, strict=False):
        if len(trail) > 1:
            draw.line([tuple(point) for point in trail.tolist()], fill=color, width=width, joint="curve")
    for text, place in _texts(tracks.counts):
        _write(draw, text, place, font, scene.shape)
    return np.array(canvas)


def _texts(counts: Counts) -> list[tuple[str, tuple[float, float]]]:
    """What stands at each line and zone, and where."""
    found = []
    for line in counts.lines:
        left, right = sum(line.to_left.values()), sum(line.to_right.values())
        middle = ((line.ends[0] + line.ends[2]) / 2, (line.ends[1] + line.ends[3]) / 2)
        found.append((f"{line.name}: {left} to the left, {right} to the right", middle))
    for zone in counts.zones:
        x, y = np.mean(zone.corners, axis=0).tolist()
        found.append((f"{zone.name}: {_listed(zone.now)}", (x, y)))
    return found


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "0"


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    font: ImageFont.FreeTypeFont,
    shape: tuple[int, ...],
) -> None:
    """On a dark ground around a place, moved so far that all of it is in the picture."""
    left, top, right, bottom = font.getbbox(text)
    width, height, edge = right - left + 6, bottom - top + 6, 3
    x = min(max(0.0, place[0] - width / 2), max(0.0, shape[1] - width))
    y = min(max(0.0, place[1] - height / 2), max(0.0, shape[0] - height))
    draw.rectangle((x, y, x + width, y + height), fill=_BACK)
    draw.text((x + edge - left, y + edge - top), text, fill=_TEXT, font=font)
