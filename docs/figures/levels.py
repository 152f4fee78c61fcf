"""levels.svg: which pyramid level a box is read from, by its side."""

from __future__ import annotations

import math

import numpy as np
import torch
from canvas import BLUE, GREY, INK, LIGHT, ORANGE, Canvas

from maskrcnn.ops.roi_align import assign_levels

LEFT, TOP, WIDTH, HEIGHT, LOW, HIGH = 60, 40, 620, 180, 16, 1400


def main() -> None:
    paper = Canvas(720, 290, "Level of the pyramid by the side of a box: P2 below 112 pixels, P5 from 448 on")
    sides = np.geomspace(LOW, HIGH, 1500)
    boxes = torch.tensor(np.stack([0 * sides, 0 * sides, sides, sides], axis=1), dtype=torch.float32)
    levels = assign_levels(boxes, 4).numpy() + 2
    for level in (2, 3, 4, 5):
        paper.path([(LEFT, height(level)), (LEFT + WIDTH, height(level))], LIGHT, 1)
        paper.text(LEFT - 10, height(level) + 5, f"P{level}", 13, anchor="end")
    for side in (16, 32, 64, 112, 224, 448, 896):
        paper.path([(across(side), TOP), (across(side), TOP + HEIGHT)], LIGHT, 1)
        paper.text(across(side), TOP + HEIGHT + 20, str(side), 12, GREY, "middle")
    exact = [(across(side), height(min(max(4 + math.log2(side / 224), 2), 5))) for side in (16, 56, 448, 1400)]
    paper.path(exact, ORANGE, 1.5, dash="5 4")
    paper.path([(across(side), height(level)) for side, level in zip(sides, levels, strict=True)], BLUE, 3)
    paper.text(
        LEFT + WIDTH / 2,
        TOP + HEIGHT + 44,
        "side of the box in pixels of the input: sqrt(width x height)",
        13,
        INK,
        "middle",
    )
    paper.text(
        LEFT,
        24,
        "blue: floor(4 + log2(side / 224)), kept between 2 and 5; dashed: the same before rounding down",
        13,
        GREY,
    )
    paper.save("levels")


def across(side: float) -> float:
    return LEFT + WIDTH * math.log(side / LOW) / math.log(HIGH / LOW)


def height(level: float) -> float:
    return TOP + HEIGHT - (level - 1.6) / 3.8 * HEIGHT


if __name__ == "__main__":
    main()
