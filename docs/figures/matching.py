"""matching.svg: one object and three anchors, what each overlap means for the RPN."""

from __future__ import annotations

import torch
from canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, Canvas

from maskrcnn.ops.boxes import iou

TRUTH = (40.0, 60.0, 180.0, 200.0)
ANCHORS = [(50.0, 70.0, 186.0, 206.0), (84.0, 76.0, 220.0, 212.0), (120.0, 110.0, 256.0, 246.0)]


def main() -> None:
    paper = Canvas(840, 300, "An anchor is positive from IoU 0.7 on, negative below 0.3, ignored between")
    overlaps = iou(torch.tensor([TRUTH]), torch.tensor(ANCHORS))[0].tolist()
    for index, (anchor, overlap) in enumerate(zip(ANCHORS, overlaps, strict=True)):
        x = index * 275
        name, colour = verdict(overlap)
        corners = [*map(max, TRUTH[:2], anchor[:2]), *map(min, TRUTH[2:], anchor[2:])]
        paper.box((corners[0] + x, corners[1], corners[2] + x, corners[3]), stroke="none", fill=colour, opacity=0.25)
        paper.box((TRUTH[0] + x, TRUTH[1], TRUTH[2] + x, TRUTH[3]), stroke=INK, width=2.5)
        paper.box((anchor[0] + x, anchor[1], anchor[2] + x, anchor[3]), stroke=BLUE, width=2, dash="6 4")
        paper.text(40 + x, 30, f"IoU {overlap:.2f}: {name}", 16, colour)
    paper.text(40, 280, "solid: truth; dashed: anchor; filled: intersection. IoU = intersection / union", 13, GREY)
    paper.save("matching")


def verdict(overlap: float) -> tuple[str, str]:
    """The RPN's, with the thresholds of the paper."""
    if overlap >= 0.7:
        return "positive", GREEN
    return ("ignored", ORANGE) if overlap >= 0.3 else ("negative", RED)


if __name__ == "__main__":
    main()
