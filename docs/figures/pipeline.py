"""pipeline.svg: the stages from the image to the detections, with the shapes of R50-FPN on an 800 x 1088 input."""

from __future__ import annotations

from canvas import BLUE, GREEN, GREY, INK, ORANGE, Canvas

STAGES = [
    ("image", "3 x 800 x 1088", INK),
    ("trunk", "4 maps, stride 4 to 32", BLUE),
    ("pyramid", "P2 to P6, 256 channels", BLUE),
    ("RPN", "1,000 proposals", ORANGE),
    ("RoIAlign", "256 x 7 x 7 each", GREEN),
    ("box head", "class and box", GREEN),
]


def main() -> None:
    paper = Canvas(
        900, 250, "From the image through trunk, pyramid, RPN, RoIAlign and heads to boxes, classes and masks"
    )
    for index, (name, shape, colour) in enumerate(STAGES):
        x = 12 + index * 148
        paper.box((x, 40, x + 118, 100), stroke=colour, fill=colour, opacity=0.08)
        paper.text(x + 59, 67, name, 15, anchor="middle")
        paper.text(x + 59, 87, shape, 10, GREY, "middle")
        if index:
            paper.path([(x - 30, 70), (x - 3, 70)], arrow=True)
    x = 12 + 4 * 148
    for row, (name, shape) in enumerate([("NMS per class", "at most 100 detections"), ("mask head", "28 x 28 each")]):
        left = 900 - 158 - 148 * row
        paper.box((left, 160, left + 138, 220), stroke=GREEN, fill=GREEN, opacity=0.08)
        paper.text(left + 69, 187, name, 15, anchor="middle")
        paper.text(left + 69, 207, shape, 10, GREY, "middle")
    paper.path([(811, 103), (811, 157)], arrow=True)
    paper.path([(739, 190), (735, 190)], arrow=True)
    paper.box((420, 160, 558, 220), stroke=INK, fill=INK, opacity=0.04)
    paper.text(489, 187, "Instances", 15, anchor="middle")
    paper.text(489, 207, "boxes, scores, masks", 10, GREY, "middle")
    paper.path([(591, 190), (561, 190)], arrow=True)
    paper.path([(367, 103), (367, 130), (663, 130), (663, 157)], stroke=GREY, dash="4 3", arrow=True)
    paper.path([(367, 40), (367, 22), (663, 22), (663, 37)], stroke=GREY, dash="4 3", arrow=True)
    paper.text(515, 17, "features are read inside each proposal", 11, GREY, "middle")
    paper.text(515, 146, "and again inside each detection", 11, GREY, "middle")
    paper.save("pipeline")


if __name__ == "__main__":
    main()
