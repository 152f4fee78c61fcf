"""precision-recall.svg: from ten ranked detections to a curve, and from the curve to average precision."""

from __future__ import annotations

import numpy as np
from canvas import BLUE, GREEN, GREY, INK, LIGHT, ORANGE, RED, Canvas

HITS = np.array([1, 1, 0, 1, 1, 0, 0, 1, 0, 0], bool)
OBJECTS = 6


def main() -> None:
    right = np.cumsum(HITS)
    precision, recall = right / np.arange(1, len(HITS) + 1), right / OBJECTS
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or beyond
    points = np.linspace(0, 1, 101)  # COCO: 101 recalls
    place = np.searchsorted(recall, points)
    sampled = np.where(place < len(recall), envelope[np.minimum(place, len(recall) - 1)], 0)
    paper = Canvas(900, 330, "Ranked detections, their precision and recall, and the area under the curve")
    paper.text(20, 24, f"10 detections of one class, best first; {OBJECTS} objects", 14)
    for index, hit in enumerate(HITS):
        y = 50 + 25 * index
        paper.text(30, y + 13, str(index + 1), 12, GREY, "end")
        paper.box((40, y, 126, y + 18), GREEN if hit else RED, GREEN if hit else RED, 1, opacity=0.15)
        paper.text(83, y + 13, "object found" if hit else "nothing there", 11, anchor="middle")
        paper.text(140, y + 13, f"precision {right[index]}/{index + 1} = {precision[index]:.2f}", 12)
        paper.text(275, y + 13, f"recall {right[index]}/{OBJECTS} = {recall[index]:.2f}", 12)
    left, top, side_x, side_y = 470, 40, 360, 230
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = left + side_x * tick, top + side_y * (1 - tick)
        paper.path([(left, y), (left + side_x, y)], LIGHT, 1)
        paper.path([(x, top), (x, top + side_y)], LIGHT, 1)
        paper.text(left - 8, y + 4, f"{tick:g}", 11, GREY, "end")
        paper.text(x, top + side_y + 16, f"{tick:g}", 11, GREY, "middle")
    area = [(left + side_x * r, top + side_y * (1 - p)) for r, p in zip(points, sampled, strict=True)]
    paper.parts.append('<g fill-opacity="0.12">')
    paper.path([(left, top + side_y), *area, (left + side_x, top + side_y)], "none", fill=BLUE)
    paper.parts.append("</g>")
    paper.path(area, BLUE, 2)
    paper.path(
        [(left + side_x * r, top + side_y * (1 - p)) for r, p in zip(recall, precision, strict=True)],
        ORANGE,
        1.5,
        dash="4 3",
    )
    for r, p, hit in zip(recall, precision, HITS, strict=True):
        paper.dot(left + side_x * r, top + side_y * (1 - p), 3.5, GREEN if hit else RED)
    paper.text(left + side_x / 2, top + side_y + 36, "recall", 13, INK, "middle")
    paper.text(left, 26, f"AP = mean precision (blue) at 101 recalls = {sampled.mean():.3f}", 13)
    paper.text(left, 322, "dashed: as counted; blue: the best at this recall or a higher one", 12, GREY)
    paper.save("precision-recall")


if __name__ == "__main__":
    main()
