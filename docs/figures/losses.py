"""losses.svg: the three shapes of loss: boxes, classes, masks."""

from __future__ import annotations

import numpy as np
import torch
from canvas import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, Canvas
from torch.nn import functional as F


def main() -> None:
    paper = Canvas(820, 300, "Smooth L1 against the distance; cross-entropy against the probability of the truth")
    x = torch.linspace(-2, 2, 201)
    zero = torch.zeros_like(x)
    curves = [
        ("beta 1/9, the default", BLUE, F.smooth_l1_loss(x, zero, reduction="none", beta=1 / 9)),
        ("beta 1", ORANGE, F.smooth_l1_loss(x, zero, reduction="none", beta=1.0)),
    ]
    chart(paper, 50, "smooth L1: boxes", "prediction minus target", x.numpy(), curves, 2.0, (-2, -1, 0, 1, 2))
    p = torch.linspace(0.01, 1, 200)
    chart(paper, 470, "cross-entropy: classes, objectness, masks", "probability of what is true", p.numpy(),
          [("-log p", GREEN, -p.log())], 4.6, (0, 0.25, 0.5, 0.75, 1))  # fmt: skip
    paper.save("losses")


def chart(
    paper: Canvas, left: float, title: str, name: str, x: np.ndarray, curves: list, top: float, ticks: tuple
) -> None:
    width, height, low = 310, 190, 45
    paper.text(left, 24, title, 14)
    for tick in ticks:
        place = left + width * (tick - ticks[0]) / (ticks[-1] - ticks[0])
        paper.path([(place, low), (place, low + height)], LIGHT, 1)
        paper.text(place, low + height + 16, f"{tick:g}", 11, GREY, "middle")
    for value in range(int(top) + 1):
        y = low + height * (1 - value / top)
        paper.path([(left, y), (left + width, y)], LIGHT, 1)
        paper.text(left - 8, y + 4, str(value), 11, GREY, "end")
    for number, (words, colour, values) in enumerate(curves):
        points = [
            (left + width * (a - ticks[0]) / (ticks[-1] - ticks[0]), low + height * (1 - min(float(b), top) / top))
            for a, b in zip(x, values, strict=True)
        ]
        paper.path(points, colour, 2.5)
        paper.text(left + width / 2 - 50, low + 20 + 18 * number, words, 12, colour)
    paper.text(left + width / 2, low + height + 40, name, 12, INK, "middle")


if __name__ == "__main__":
    main()
