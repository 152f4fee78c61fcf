"""Pascal VOC's mask images: SegmentationObject (one number an object) and SegmentationClass (one number a class)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.assemble import Object
from maskrcnn.data.formats.mask_images import Labels, Regions, masks_of, read_labels, regions_of
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.errors import DataError
from maskrcnn.structures import Mask

MASK_FOLDERS = ("SegmentationObject", "SegmentationObjectPNG")  # the latter: labelme's converter
CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassPNG")
NAME_FILES = ("class_names.txt", "labelmap.txt", "labels.txt")
MOST_NAMES = 1 << 20  # bytes of such a file
BORDER = 255
CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
           "tvmonitor")  # fmt: skip


@dataclass(frozen=True, slots=True)
class VocMasks:
    """The mask images of one data set."""

    folder: Path
    classes: Path | None
    names: tuple[str, ...]
    listing: frozenset[str]
    skipped: Skipped

    @classmethod
    def of(cls, root: Path, skipped: Skipped) -> VocMasks | None:
        """Those of a data set's folder, or None."""
        for name, class_name in zip(MASK_FOLDERS, CLASS_FOLDERS, strict=True):
            if (root / name).is_dir():
                listing = frozenset(file.stem for file in (root / name).glob("*.png"))
                classes = root / class_name
                found = classes if classes.is_dir() else None
                return cls(root / name, found, _names(root), listing, skipped) if listing else None
        return None

    def has(self, image: Path) -> bool:
        """Whether there is a mask image for it."""
        return image.stem in self.listing

    def files(self) -> list[Path]:
        """All of them, sorted."""
        return [self.folder / f"{stem}.png" for stem in sorted(self.listing)]

    def by_number(self, image: Path, size: tuple[int, int]) -> dict[int, tuple[Mask | None, float | None]]:
        """Number of an object, from 1 -> its mask and area in pixels. Empty, and counted, where the PNG is no use."""
        read = self._read(self.folder, image, size)
        return {} if read is None else {value: (mask, area) for value, mask, _, area in _rows(*read)}

    def objects(self, image: Path, size: tuple[int, int]) -> list[Object]:
        """The objects of an image that has no XML: class by the majority of its pixels in SegmentationClass."""
        read = self._read(self.folder, image, size)
        if read is None:
            return []
        kinds = None if self.classes is None else self._read(self.classes, image, size)
        objects = []
        for value, mask, (x0, y0, x1, y1), area in _rows(*read):
            inside = read[0].pixels[y0:y1, x0:x1] == value
            name = "object" if kinds is None else self._name(kinds[0].pixels[y0:y1, x0:x1][inside], image, value)
            objects.append(Object(name, mask, (x0, y0, x1, y1), area=area))
        return objects

    def _name(self, pixels: np.ndarray, image: Path, value: int) -> str:
        known = pixels[(pixels > 0) & (pixels != BORDER)].astype(np.int64)
        if not len(known) or known.max() > 1 << 16:
            self.skipped.add("objects without a class in SegmentationClass", self.folder, image.name, value, "", "kept")
            return "object"
        number = int(np.bincount(known).argmax())
        return self.names[number] if number < len(self.names) else str(number)

    def _read(self, folder: Path, image: Path, size: tuple[int, int]) -> tuple[Labels, Regions] | None:
        file = folder / f"{image.stem}.png"
        try:
            labels = read_labels(file, size)
            labels = labels if labels.in_file else _numbered(labels)
            return labels, regions_of(labels)
        except DataError as error:
            self.skipped.add("masks that cannot be read", file, None, None, error.message)
            return None


def _rows(labels: Labels, regions: Regions) -> Iterator[tuple[int, Mask, list[int], float]]:
    """Number, mask, box and area of each object."""
    masks = masks_of(labels, regions)
    rows = zip(regions.values.tolist(), masks, regions.boxes.tolist(), regions.areas.tolist(), strict=True)
    for value, mask, box, area in rows:
        if value != BORDER or labels.pixels.dtype != np.uint8:  # 16 bits have room for object 255
            yield value, mask, box, float(area)


def _names(root: Path) -> tuple[str, ...]:
    """Class names by number: a file in the data set, or VOC's twenty."""
    for name in NAME_FILES:
        try:
            with (root / name).open("rb") as stream:
                lines = stream.read(MOST_NAMES).decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        # CVAT's labelmap.txt: "name:r,g,b:parts:actions" below a comment; labelme's labels.txt starts with __ignore__.
        names = [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
        return tuple(n for n in names if n and n != "__ignore__")
    return CLASSES


@cache
def _colours() -> np.ndarray:
    """(256,) int64, VOC's colour of each number as red << 16 | green << 8 | blue."""
    colours = np.zeros(256, np.int64)
    for number in range(256):
        rest = number
        for bit in range(7, -1, -1):
            for channel in range(3):
                colours[number] |= ((rest >> channel) & 1) << (bit + 8 * (2 - channel))
            rest >>= 3
    return colours


def _numbered(labels: Labels) -> Labels:
    """Colours -> the numbers they stand for. Raises `DataError` for other colours than VOC's."""
    colours = _colours()
    order = np.argsort(colours)
    place = np.clip(np.searchsorted(colours[order], labels.pixels), 0, 255)
    numbers = order[place].astype(np.uint8)
    border = labels.pixels == colours[BORDER]
    odd = colours[numbers] != labels.pixels
    if odd.any():
        raise DataError(f"has colours that VOC does not use ({int(labels.pixels[odd][0]):06x})", path=labels.path)
    numbers[border] = 0
    return replace(labels, pixels=numbers)
