"""roi-align.svg: where RoIPool and RoIAlign read the map for one box."""

from __future__ import annotations

import math

from canvas import BLUE, GREEN, GREY, INK, LIGHT, RED, Canvas

CELLS, SIDE, BOX, BINS = 8, 40, (1.3, 1.8, 6.2, 5.4), 3


def main() -> None:
    paper = Canvas(760, 430, "RoIPool rounds the box to whole cells; RoIAlign samples between them")
    for left, title in ((20, "RoIPool: rounded twice"), (400, "RoIAlign: nothing is rounded")):
        paper.text(left, 24, title, 15)
        for line in range(CELLS + 1):
            paper.path([(left, 40 + SIDE * line), (left + SIDE * CELLS, 40 + SIDE * line)], LIGHT, 1)
            paper.path([(left + SIDE * line, 40), (left + SIDE * line, 40 + SIDE * CELLS)], LIGHT, 1)
        for row in range(CELLS):
            for column in range(CELLS):
                paper.dot(left + SIDE * (column + 0.5), 40 + SIDE * (row + 0.5), 2, GREY)
        outline(paper, left, BOX, INK, 2.5)
    pool(paper, 20)
    align(paper, 400)
    paper.text(20, 385, "black: the box; red: what is read, to whole cells,", 12, GREY)
    paper.text(20, 402, "in bins of unequal size", 12, GREY)
    paper.text(400, 385, "green: 3 x 3 bins; blue: 2 x 2 samples in each, every one", 12, GREY)
    paper.text(400, 402, "mixed from the four cell centres (grey) around it", 12, GREY)
    paper.save("roi-align")


def outline(paper: Canvas, left: float, box: tuple, colour: str, width: float) -> None:
    x0, y0, x1, y1 = (SIDE * value for value in box)
    paper.box((left + x0, 40 + y0, left + x1, 40 + y1), stroke=colour, width=width)


def pool(paper: Canvas, left: float) -> None:
    """Fast R-CNN: corners rounded, then each bin widened to whole cells, so that bins may share one."""
    x0, y0, x1, y1 = (math.floor(value + 0.5) for value in BOX)
    for row in range(BINS):
        for column in range(BINS):
            (a, b), (c, d) = whole(x0, x1, column), whole(y0, y1, row)
            inset = 2 + 1.5 * ((row + column) % 2)
            corners = (left + SIDE * a + inset, 40 + SIDE * c + inset, left + SIDE * b - inset, 40 + SIDE * d - inset)
            paper.box(corners, stroke=RED, fill=RED, width=1, opacity=0.1)


def whole(start: int, end: int, index: int) -> tuple[int, int]:
    step = (end - start) / BINS
    return start + math.floor(step * index), start + math.ceil(step * (index + 1))


def align(paper: Canvas, left: float) -> None:
    x0, y0, x1, y1 = BOX
    width, height = (x1 - x0) / BINS, (y1 - y0) / BINS
    for row in range(BINS):
        for column in range(BINS):
            start = (x0 + width * column, y0 + height * row)
            outline(paper, left, (*start, start[0] + width, start[1] + height), GREEN, 1.5)
            for dy in (0.25, 0.75):
                for dx in (0.25, 0.75):
                    paper.dot(left + SIDE * (start[0] + width * dx), 40 + SIDE * (start[1] + height * dy), 3, BLUE)


if __name__ == "__main__":
    main()
