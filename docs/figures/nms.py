"""nms.svg: twenty scored boxes around two objects, and what non-maximum suppression leaves."""

from __future__ import annotations

import torch
from canvas import BLUE, GREEN, GREY, INK, Canvas, moved

from maskrcnn.ops.boxes import iou
from maskrcnn.ops.nms import nms_keep

OBJECTS = torch.tensor([[30.0, 60.0, 170.0, 220.0], [190.0, 90.0, 330.0, 250.0]])


def main() -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = OBJECTS.repeat_interleave(10, dim=0) + 40 * (torch.rand(20, 4, generator=generator) - 0.5)
    # A box that fits better scores higher, as a trained head's do.
    scores = iou(boxes, OBJECTS).amax(dim=1) ** 2
    one = torch.ones(1, 20, dtype=torch.int64)
    keep = nms_keep(boxes[None], scores[None], one, one.bool(), 0.5)[0]
    paper = Canvas(760, 300, "Twenty boxes before non-maximum suppression, two after")
    panel(paper, 10, "before: 20 boxes", boxes, scores, BLUE)
    panel(paper, 390, f"after, IoU 0.5: {int(keep.sum())}", boxes[keep], scores[keep], GREEN)
    words = "grey: the objects; green: the best box of each, with its score; the others overlap it by more than 0.5"
    paper.text(30, 290, words, 12, GREY)
    paper.save("nms")


def panel(paper: Canvas, left: float, title: str, boxes: torch.Tensor, scores: torch.Tensor, colour: str) -> None:
    paper.text(left + 20, 26, title, 15)
    for box in OBJECTS.tolist():
        paper.box(moved(box, 1, left, 0), stroke="none", fill=INK, opacity=0.12)
    for box, score in zip(boxes.tolist(), scores.tolist(), strict=True):
        paper.box(moved(box, 1, left, 0), stroke=colour, width=1.2 if len(boxes) > 2 else 2.5)
        if len(boxes) == 2:
            paper.text(left + box[0] + 4, box[1] - 5, f"{score:.2f}", 12, colour)


if __name__ == "__main__":
    main()
