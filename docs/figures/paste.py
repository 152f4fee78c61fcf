"""paste.svg: a 28 x 28 mask of probabilities, placed into its box, then cut at 0.5."""

from __future__ import annotations

import numpy as np
from canvas import BLUE, GREY, ORANGE, Canvas, moved

from maskrcnn.ops.masks import paste_masks

SIZE, BOX, CELLS = (36, 48), (5.4, 4.7, 41.8, 31.6), 28


def main() -> None:
    probability = drawn()
    pasted = paste_masks(probability[None], np.array([BOX], np.float32), SIZE)[0]
    paper = Canvas(900, 290, "A small mask is sampled at the centre of every pixel inside its box, then cut at 0.5")
    paper.text(20, 24, "of the mask head: 28 x 28", 13)
    paper.picture(grey(probability), (20, 40, 244, 264))
    scale, tops = 6, 40
    for left, title, image in (
        (280, "pasted into the box", grey(pasted)),
        (590, "the mask: 0.5 or more", colour(pasted >= 0.5)),
    ):
        paper.text(left, 24, title, 13)
        paper.picture(image, (left, tops, left + scale * SIZE[1], tops + scale * SIZE[0]))
        paper.box((left, tops, left + scale * SIZE[1], tops + scale * SIZE[0]), stroke=GREY, width=1)
        paper.box(moved(BOX, scale, left, tops), stroke=ORANGE, width=2)
    paper.text(280, 282, "orange: the box, corners between pixels", 12, GREY)
    paper.text(590, 282, f"{int((pasted >= 0.5).sum())} pixels", 12, BLUE)
    paper.save("paste")


def drawn() -> np.ndarray:
    """(28, 28) float32: a disc with a bite, soft at the border as a trained head's masks are."""
    y, x = (np.mgrid[:CELLS, :CELLS] + 0.5) / CELLS
    inside = 0.48 - np.hypot(x - 0.5, y - 0.5)
    bite = np.hypot(x - 0.95, y - 0.2) - 0.33
    return (1 / (1 + np.exp(-30 * np.minimum(inside, bite)))).astype(np.float32)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat((255 * (1 - 0.85 * values)).astype(np.uint8)[..., None], 3, axis=2)


def colour(mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], np.array([31, 119, 180], np.uint8), np.array([255, 255, 255], np.uint8))


if __name__ == "__main__":
    main()
