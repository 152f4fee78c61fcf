"""pyramid.svg: the trunk's maps on the way up, the pyramid on the way down."""

from __future__ import annotations

from canvas import BLUE, GREEN, GREY, ORANGE, Canvas

ROWS = [("C2", "P2", 4), ("C3", "P3", 8), ("C4", "P4", 16), ("C5", "P5", 32), ("", "P6", 64)]


def main() -> None:
    paper = Canvas(820, 400, "Feature pyramid: the maps of the trunk, and P2 to P6 with 256 channels each")
    paper.text(150, 24, "trunk: each map half as wide", 13, GREY, "middle")
    paper.text(560, 24, "pyramid: the same width of channels everywhere", 13, GREY, "middle")
    for index, (below, level, stride) in enumerate(ROWS):
        y, half = 350 - index * 72, 110 / 1.55**index
        paper.text(740, y + 5, f"stride {stride}", 13, GREY)
        if below:
            paper.box((150 - half, y - 18, 150 + half, y + 18), stroke=BLUE, fill=BLUE, opacity=0.12)
            paper.text(150, y + 5, below, 14, anchor="middle")
            paper.path([(150 + half + 4, y), (560 - half - 4, y)], GREY, arrow=True)
            if index == 0:
                paper.text(355, y - 8, "1 x 1 convolution", 11, GREY, "middle")
        paper.box((560 - half, y - 18, 560 + half, y + 18), stroke=GREEN, fill=GREEN, opacity=0.12)
        paper.text(560, y + 5, level, 14, anchor="middle")
        if index in (1, 2, 3):
            paper.path([(150, y + 52), (150, y + 21)], BLUE, arrow=True)
            paper.path([(560, y + 21), (560, y + 52)], GREEN, arrow=True)
    paper.text(570, 321, "twice as large, added", 11, GREY)
    paper.path([(560, 113), (560, 84)], ORANGE, arrow=True)
    paper.text(570, 102, "every second cell", 11, GREY)
    paper.text(90, 321, "stage", 11, GREY, "middle")
    paper.save("pyramid")


if __name__ == "__main__":
    main()
