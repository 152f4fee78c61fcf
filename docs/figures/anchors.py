"""anchors.svg: on one drawn image, the anchors of one cell of three levels, and the anchors that learn an object."""

from __future__ import annotations

import numpy as np
import torch
from canvas import BLUE, GREEN, GREY, ORANGE, RED, Canvas, moved

from maskrcnn.data.synthetic import draw_shapes
from maskrcnn.model.anchors import Anchors
from maskrcnn.ops.boxes import iou
from maskrcnn.ops.matching import match

SIDE, SCALE, SIZES = 128, 2.6, ((16.0,), (32.0,), (64.0,))


def main() -> None:
    pixels, _, masks = draw_shapes((SIDE, SIDE), np.random.default_rng(13))
    truth = torch.tensor([bounds(mask) for mask in masks], dtype=torch.float32)
    make = Anchors(SIZES, (0.5, 1.0, 2.0), rounded=False, grid_stride=False)
    levels = make([torch.zeros(1, 1, SIDE // stride, SIDE // stride) for stride in (4, 8, 16)], (SIDE, SIDE))
    anchors = torch.cat(levels)
    valid, crowd = torch.ones(1, len(truth), dtype=torch.bool), torch.zeros(1, len(truth), dtype=torch.bool)
    found = match(anchors, truth[None], valid, crowd, low_quality=True)
    overlap, forced = found.iou[0], found.forced[0]
    positive = (overlap >= 0.7) | forced
    ignored = ~positive & (overlap >= 0.3)

    width = SIDE * SCALE
    paper = Canvas(int(2 * width + 60), int(width + 92), "Anchors of one place, and the anchors that are positive")
    for left in (20, 40 + width):
        paper.picture(pixels, (left, 34, left + width, 34 + width))
    paper.text(20, 22, "Anchors of one place: 3 levels, 3 ratios")
    for level, colour in zip(levels, (BLUE, ORANGE, RED), strict=True):
        cells = int((len(level) / 3) ** 0.5)
        for anchor in level.view(cells, cells, 3, 4)[cells // 2, cells // 2].tolist():
            paper.box(moved(anchor, SCALE, 20, 34), stroke="#ffffff", width=4)
            paper.box(moved(anchor, SCALE, 20, 34), stroke=colour, width=2)
    left = 40 + width
    paper.text(left, 22, "Black: truth. Green: the anchors that learn it")
    for anchor in anchors[positive].tolist():
        paper.box(moved(anchor, SCALE, left, 34), stroke=GREEN, width=2.5)
    for box in truth.tolist():
        paper.box(moved(box, SCALE, left, 34), width=2.5)
    best = iou(anchors, truth).amax(dim=0)
    counts = f"{len(anchors)} anchors: {int(positive.sum())} positive, {int(ignored.sum())} ignored, "
    counts += f"{int((~positive & ~ignored).sum())} negative"
    paper.text(left, width + 56, counts, 12, GREY)
    paper.text(
        left, width + 76, "best overlap of each object: " + ", ".join(f"{value:.2f}" for value in best), 12, GREY
    )
    paper.text(20, width + 56, "blue: 16 px on P2; orange: 32 px on P3; red: 64 px on P4", 12, GREY)
    paper.save("anchors")


def bounds(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


if __name__ == "__main__":
    main()
