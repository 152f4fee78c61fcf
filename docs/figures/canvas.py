"""A sheet of paper for the figures of the explanation: shapes and words in, one SVG file in docs/images out."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"

INK, GREY, LIGHT = "#222222", "#777777", "#dddddd"
BLUE, GREEN, ORANGE, RED = "#1f77b4", "#2a8f3c", "#e07b00", "#c62828"
"""Blue: neutral; green: positive, right; orange: ignored, changed; red: negative, wrong. Never colour alone."""

Box = tuple[float, float, float, float]


class Canvas:
    """White paper of `width` x `height` pixels, origin at the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = (width, height)
        self.parts = [f"<title>{escape(title)}</title>", f'<rect width="{width}" height="{height}" fill="#ffffff"/>']

    def box(
        self, box: Box, stroke: str = INK, fill: str = "none", width: float = 1.5, dash: str = "", opacity: float = 1.0
    ) -> None:
        """A rectangle from (x0, y0) to (x1, y1)."""
        x0, y0, x1, y1 = (round(float(value), 2) for value in box)
        self.parts.append(
            f'<rect x="{x0}" y="{y0}" width="{x1 - x0:.2f}" height="{y1 - y0:.2f}" fill="{fill}" '
            f'fill-opacity="{opacity}" stroke="{stroke}" stroke-width="{width}" stroke-dasharray="{dash}"/>'
        )

    def path(
        self,
        points: list,
        stroke: str = INK,
        width: float = 1.5,
        fill: str = "none",
        dash: str = "",
        arrow: bool = False,
    ) -> None:
        """Straight lines through (x, y) points; `arrow` puts a head on the last."""
        joined = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{joined}" fill="{fill}" stroke="{stroke}" stroke-width="{width}" '
            f'stroke-dasharray="{dash}"/>'
        )
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            along = np.array([x1 - x0, y1 - y0]) / max(np.hypot(x1 - x0, y1 - y0), 1e-9)
            across, tip = np.array([-along[1], along[0]]), np.array([x1, y1])
            corners = [tip, tip - 8 * along + 4 * across, tip - 8 * along - 4 * across]
            head = " ".join(f"{x:.2f},{y:.2f}" for x, y in corners)
            self.parts.append(f'<polygon points="{head}" fill="{stroke}"/>')

    def dot(self, x: float, y: float, radius: float = 2.5, fill: str = INK) -> None:
        self.parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius}" fill="{fill}"/>')

    def text(self, x: float, y: float, words: str, size: int = 13, fill: str = INK, anchor: str = "start") -> None:
        """One line whose baseline is at y; `anchor` is start, middle or end."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def picture(self, pixels: np.ndarray, box: Box) -> None:
        """(H, W, 3) uint8 RGB, its pixels enlarged as squares."""
        memory = BytesIO()
        Image.fromarray(pixels).save(memory, "PNG", optimize=True)
        data = base64.b64encode(memory.getvalue()).decode()
        x0, y0, x1, y1 = box
        self.parts.append(
            f'<image x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}" preserveAspectRatio="none" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
        )

    def save(self, name: str) -> Path:
        """Write docs/images/NAME.svg."""
        width, height = self.size
        path = IMAGES / f"{name}.svg"
        body = "\n".join(self.parts)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif">\n{body}\n</svg>\n'
        )
        return path


def moved(box: Box, scale: float, x: float, y: float) -> Box:
    """A box in pixels of an image -> on the paper, where the image lies at (x, y), enlarged by `scale`."""
    x0, y0, x1, y1 = box
    return x + scale * float(x0), y + scale * float(y0), x + scale * float(x1), y + scale * float(y1)
