"""Masks with the names of their images: `images/a.jpg` with `masks/a.png`, or `a.jpg` with `a_mask.png` beside it.

Where no mask of the data set holds two numbers (black and white), the connected parts of a mask are its objects, and a
warning says so; else the masks are label images, as in `label_png`. Parts that touch, corners too, are one object.
"""

from __future__ import annotations

from pathlib import Path

from maskrcnn.data.formats.label_png import read_pairs
from maskrcnn.data.formats.pairs import pairs_of
from maskrcnn.dataset import Dataset

NAME = "mask_folder"
LOOKS_FOR = "images with masks of the same names: images/a.jpg and masks/a.png, or a.jpg and a_mask.png"


def sniff(path: Path) -> bool:
    """Whether an image has a mask of its name."""
    return bool(pairs_of(path).pairs)


def read(path: Path) -> Dataset:
    """Open images and their masks; each mask is read once.

    Raises:
        DataError: no image with a mask.
    """
    return read_pairs(path, NAME, parts=True)
