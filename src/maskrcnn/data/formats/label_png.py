"""One label image per image: the number of a pixel is the number of its object, 0 is background (Penn-Fudan).

`PNGImages/NAME.png` with `PedMasks/NAME_mask.png`, or any folder of images with a folder of label images; of 8 or 16
bits, with a palette, or with a colour for each object. The numbers say nothing about classes: there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.mask_images import (
    in_threads,
    masks_of,
    objects_of,
    parts_of,
    read_labels,
    regions_of,
    without_border,
)
from maskrcnn.data.formats.pairs import Pair, pairs_of
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

NAME = "label_png"
LOOKS_FOR = "an image folder with a folder of label images of the same names (masks, labels, instances, PedMasks)"
GLANCE = 8  # masks that sniff looks into
UNMASKED = "images without a mask (one without objects has a black one)"
PARTS = "masks of one value apart: their connected parts are the objects"


@dataclass(slots=True)
class _Look:
    """One image, its mask read once: objects by number, and by connected part where the mask has no two numbers."""

    size: tuple[int, int]
    numbers: int
    by_number: list[Object]
    by_part: list[Object] = field(default_factory=list)


def sniff(path: Path) -> bool:
    """Whether images have masks of their name, and one of the first masks holds several numbers."""
    pairs = pairs_of(path).pairs
    return any(_is_pedestrians(pair) or _has_several(pair) for pair in islice(pairs, GLANCE))


def read(path: Path) -> Dataset:
    """Open label images; each is read once, and an object is a number in it.

    Raises:
        DataError: no image with a mask.
    """
    return read_pairs(path, NAME, parts=False)


def read_pairs(path: Path, format: str, parts: bool) -> Dataset:
    """Open images with masks of the same name.

    Args:
        parts: where no mask of the data set holds two numbers, take the connected parts of a mask for its objects.

    Raises:
        DataError: no image with a mask.
    """
    pairs, skipped = pairs_of(path), Skipped()
    for image in pairs.lone_images:
        skipped.add(UNMASKED, image, None, None, "no mask of this name")
    for mask in pairs.lone_masks:
        skipped.add("masks without an image", mask, None, None, "no image of this name")
    looks = in_threads(lambda pair: _look(pair, parts), pairs.pairs)
    parts = parts and not any(isinstance(look, _Look) and look.numbers > 1 for look in looks)
    images = []
    for pair, look in zip(pairs.pairs, looks, strict=True):
        if isinstance(look, DataError):
            skipped.add("images whose mask cannot be used", pair.mask, None, None, look.message)
            continue
        if parts and look.numbers:
            skipped.add(PARTS, pair.mask, None, None, f"{len(look.by_part)} parts", verb="took")
        images.append(Found(pair.image, look.size, look.by_part if parts else look.by_number, pair.split))
    return assemble(images, path=path, format=format, skipped=skipped)


def _class(pair: Pair) -> str:
    """Penn-Fudan holds pedestrians; no other label image says what it shows."""
    return "person" if _is_pedestrians(pair) else "object"


def _is_pedestrians(pair: Pair) -> bool:
    return pair.mask.parent.name == "PedMasks"


def _look(pair: Pair, parts: bool) -> _Look | DataError:
    try:
        size = image_size(pair.image)
        labels = without_border(read_labels(pair.mask, size))
        regions = regions_of(labels)
        look = _Look(size, len(regions.values), objects_of(regions, masks_of(labels, regions), _class(pair)))
        if parts and look.numbers <= 1:
            look.by_part = objects_of(*parts_of(labels), _class(pair))
        return look
    except DataError as error:
        return error


def _has_several(pair: Pair) -> bool:
    look = _look(pair, False)
    return isinstance(look, _Look) and look.numbers > 1
