"""Cityscapes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine/SPLIT/CITY/*_gtFine_instanceIds.png` (16 bits).

A pixel is `1000 * class + n` for instance n of a class of things, or the bare class: then it is stuff, or a group of
things that nobody told apart, which becomes a crowd. The eight classes of the benchmark are taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.layout import split_of_name
from maskrcnn.data.formats.mask_images import in_threads, masks_of, objects_of, read_labels, regions_of
from maskrcnn.data.formats.pairs import subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

NAME = "cityscapes"
LOOKS_FOR = "folders leftImg8bit/ and gtFine/, here or one folder down"
THINGS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}  # the ids of labels.py in cityscapesScripts; the benchmark leaves out 29 caravan and 30 trailer
PER_CLASS = 1000
FIRST_KNOWN = 7  # ids below are ignored: unlabelled, the own car, borders
IMAGE, MASK = "_leftImg8bit.png", "_gtFine_instanceIds.png"
UNANNOTATED = "images without annotation, as the whole test split, which are no ground for measuring"


@dataclass(frozen=True, slots=True)
class _Look:
    """One image; `known` says whether its annotation holds anything but ignored pixels, None that there is no file."""

    size: tuple[int, int]
    objects: list[Object]
    known: bool | None


def sniff(path: Path) -> bool:
    """Whether the folder, or one in it, holds leftImg8bit and gtFine."""
    return _root(path) is not None


def read(path: Path) -> Dataset:
    """Open all splits; each annotation is read once.

    Raises:
        DataError: no image that can be used.
    """
    root = _root(path)
    if root is None:
        raise DataError("no folders leftImg8bit and gtFine here; unpack both archives in one place", path=path)
    skipped, images = Skipped(), []
    files = sorted(f for f in (root / "leftImg8bit").glob(f"*/*/*{IMAGE}") if f.name[0] != ".")
    for file, look in zip(files, in_threads(lambda file: _look(root, file), files), strict=True):
        split = split_of_name(file.parts[-3]) or file.parts[-3]
        if isinstance(look, DataError):
            skipped.add("images or annotations that cannot be used", look.path or file, None, None, look.message)
            continue
        if look.known is None and split != "test":
            skipped.add("images without an annotation file", file, None, None, f"no {_mask_of(root, file)}")
            continue
        if not look.known:
            skipped.add(UNANNOTATED, file, None, None, "only ignored pixels", verb="kept")
        images.append(Found(file, look.size, look.objects, split))
    return assemble(
        images,
        path=path,
        format=NAME,
        skipped=skipped,
        classes=list(THINGS.values()),
        category_ids=list(THINGS),
    )


def _root(path: Path) -> Path | None:
    for root in (path, *subfolders(path)):
        if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
            return root
    return None


def _mask_of(root: Path, image: Path) -> Path:
    split, city, name = image.parts[-3:]
    return root / "gtFine" / split / city / (name.removesuffix(IMAGE) + MASK)


def _look(root: Path, image: Path) -> _Look | DataError:
    mask = _mask_of(root, image)
    try:
        size = image_size(image)
        if not mask.is_file():
            return _Look(size, [], None)
        labels = read_labels(mask, size)
        regions = regions_of(labels)
    except DataError as error:
        return error
    objects = []
    for value, found in zip(regions.values.tolist(), objects_of(regions, masks_of(labels, regions)), strict=True):
        found.crowd = value < PER_CLASS
        name = THINGS.get(value if found.crowd else value // PER_CLASS)
        if name is not None:
            objects.append(replace(found, name=name))
    return _Look(size, objects, bool((regions.values >= FIRST_KNOWN).any()))
