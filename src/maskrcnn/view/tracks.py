"""Trails, lines and zones drawn on a frame, with what was counted. (H, W, 3) uint8, original frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.tracks import Counts, Tracks

if TYPE_CHECKING:
    from PIL import ImageFont

Color = tuple[int, ...]
MOST_COVERED = 0.3
"""Part of a picture that the counts may cover."""
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw_tracks(scene: np.ndarray, tracks: Tracks, colors: Sequence[Color], width: int) -> np.ndarray:
    """The scene with each object's trail in its colour, and lines and zones in white; a line has an arrowhead at its
    second end, so that its left and right are seen.

    Args:
        scene: (H, W, 3) uint8, RGB or BGR.
        tracks: of its instances.
        colors: one an instance, in the scene's order of channels.
        width: of the strokes.
    """
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(scene)
    draw = ImageDraw.Draw(canvas)
    for zone in tracks.counts.zones:
        draw.line([*zone.corners, zone.corners[0]], fill=_WHITE, width=width)
    for line in tracks.counts.lines:
        draw.line(line.ends, fill=_WHITE, width=2 * width)
        draw.polygon(_arrowhead(line.ends, 6 * width), fill=_WHITE)
    for trail, color in zip(tracks.trails, colors, strict=False):
        if len(trail) > 1:
            draw.line([tuple(point) for point in trail.tolist()], fill=color, width=width, joint="curve")
    return np.array(canvas)


def draw_counts(scene: np.ndarray, counts: Counts, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """The scene with what was counted so far, on a dark ground in its lower left corner; as it was, where that would
    cover much of a small picture."""
    from PIL import Image, ImageDraw

    text, edge = "\n".join(_texts(counts)), 3
    canvas = Image.fromarray(scene)
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    if (right - left) * (bottom - top) > MOST_COVERED * scene.shape[0] * scene.shape[1]:
        return scene
    x, y = edge, scene.shape[0] - (bottom - top) - 2 * edge
    draw.rectangle((0, y - edge, right - left + 2 * edge, scene.shape[0]), fill=_BLACK)
    draw.multiline_text((x - left, y - top), text, fill=_WHITE, font=font)
    return np.array(canvas)


def _texts(counts: Counts) -> list[str]:
    lines = [f"so far: {_listed(counts.objects)}"]
    for line in counts.lines:
        left, right = sum(line.to_left.values()), sum(line.to_right.values())
        lines.append(f"{line.name}: {left} to the left, {right} to the right")
    for zone in counts.zones:
        lines.append(f"{zone.name}: {_listed(zone.now)} now, {sum(zone.entered.values())} in all")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "0"


def _arrowhead(ends: tuple[float, float, float, float], size: float) -> list[tuple[float, float]]:
    """Three corners, the tip at the second end."""
    tip, start = np.array(ends[2:]), np.array(ends[:2])
    along = (tip - start) / np.linalg.norm(tip - start)
    across = np.array([-along[1], along[0]])
    corners = (tip, tip - size * along + size / 2 * across, tip - size * along - size / 2 * across)
    return [(float(x), float(y)) for x, y in corners]
