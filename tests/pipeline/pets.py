"""Painted pictures in the layout of Oxford-IIIT Pets: one animal a picture, here a square, circle or triangle.

`python -m tests.pipeline.pets FOLDER [COUNT]` writes what docs/coming-from/tensorflow.md trains on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from maskrcnn.data.synthetic import CLASSES, draw_shapes

PET, BACKGROUND, BORDER = 1, 2, 3


def write_pets(folder: Path, count: int, size: tuple[int, int] = (128, 128), seed: int = 0) -> Path:
    """`images/BREED_N.jpg`, `annotations/trimaps/BREED_N.png` and `annotations/list.txt`."""
    images, trimaps = folder / "images", folder / "annotations" / "trimaps"
    for place in (images, trimaps):
        place.mkdir(parents=True)
    random, lines = np.random.default_rng(seed), []
    while len(lines) < count:
        pixels, labels, masks = draw_shapes(size, random)
        if len(labels) > 1:
            continue
        name = f"{CLASSES[labels[0]]}_{len(lines) + 1}"
        inner = ndimage.binary_erosion(masks[0])
        trimap = np.where(inner, PET, np.where(masks[0], BORDER, BACKGROUND)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{name}.jpg", quality=95)
        Image.fromarray(trimap).save(trimaps / f"{name}.png")
        lines.append(f"{name} {labels[0] + 1} 2 {labels[0] + 1}")
    (folder / "annotations" / "list.txt").write_text("\n".join(["#Image CLASS-ID SPECIES BREED ID", *lines, ""]))
    return folder


if __name__ == "__main__":
    write_pets(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300)
