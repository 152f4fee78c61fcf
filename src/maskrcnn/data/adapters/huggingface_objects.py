"""The objects of one row of a Hugging Face data set, and the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskrcnn.data.adapters.huggingface_values import is_number, picture, size_of
from maskrcnn.data.formats.assemble import Found, Object
from maskrcnn.data.formats.coco_masks import mask_of as coco_segmentation
from maskrcnn.data.formats.mask_images import Labels, regions_as_rle, regions_of
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.errors import DataError
from maskrcnn.structures import Mask

BOXES = ("bbox", "bboxes", "box", "boxes")
CATEGORIES = ("category", "categories", "category_id", "label", "labels", "class", "classes", "name")
IDS = ("id", "ids", "bbox_id", "annotation_id")
SEGMENTATIONS = ("segmentation", "segmentations", "segments", "polygon", "polygons", "mask", "masks")
BAD_MASKS = "masks that cannot be read"
UNKNOWN = "objects of an unknown category"
ODD = "objects that are not as Hugging Face data sets have them"
WRONG = (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError)

Classes = Sequence[str] | Mapping[str, int]


@dataclass(frozen=True)
class Columns:
    """The arguments of `from_huggingface`."""

    image: str
    objects: str
    masks: str | None
    box_format: str

    @property
    def truth(self) -> str:
        return self.objects if self.masks is None else self.masks


# ---------------------------------------------------------------- classes


@dataclass(frozen=True)
class Names:
    """Class names by category number; empty where nothing says them."""

    by_number: dict[int, str]

    @classmethod
    def of(cls, classes: Classes | None, features: Any, columns: Columns) -> Names:
        if classes is None:
            classes = _class_label(features.get(columns.truth)) or ()
        pairs = (
            [(n, i) for n, i in classes.items()]
            if isinstance(classes, Mapping)
            else [(name, i) for i, name in enumerate(classes)]
        )
        by_number = {int(i): str(name) for name, i in pairs}
        if len(set(by_number.values())) != len(pairs):
            raise DataError(f"classes {[name for name, _ in pairs]} have a name or number twice; give each its own")
        return cls(by_number)

    def name(self, category: Any) -> str | None:
        """The class of a category as the row has it; None for an unknown one."""
        if isinstance(category, str):
            return category if not self.by_number or category in self.by_number.values() else None
        if not is_number(category):
            raise TypeError(f"category {category!r}")
        return self.by_number.get(int(category)) if self.by_number else str(int(category))

    def only(self, where: Path) -> str:
        """The one class of a label image that says none."""
        if len(self.by_number) > 1:
            message = "a label image with one channel says no class; give `classes` one name"
            raise DataError(message, path=where)
        return next(iter(self.by_number.values()), "object")

    def known(self, found: set[str]) -> tuple[list[str], list[int] | None]:
        """Names in the order of their numbers, and the numbers; without numbers the names that were found, sorted."""
        if self.by_number:
            numbers = sorted(self.by_number)
            return [self.by_number[number] for number in numbers], numbers
        if found and all(name.lstrip("-").isdecimal() for name in found):
            numbers = sorted(map(int, found))
            return [str(number) for number in numbers], numbers
        return sorted(found) or ["object"], None


def _class_label(feature: Any) -> list[str] | None:
    """The names of the ClassLabel of the category, however deep: lists and Sequences lie around it."""
    if isinstance(feature, (list, tuple)):
        return _class_label(feature[0]) if feature else None
    if isinstance(feature, Mapping):
        return next((names for key in CATEGORIES if (names := _class_label(feature.get(key)))), None)
    if hasattr(feature, "names"):
        return [str(name) for name in feature.names]
    return _class_label(feature.feature) if hasattr(feature, "feature") else None


# ---------------------------------------------------------------- objects


def from_column(
    row: Mapping[str, Any], index: int, image: Found, columns: Columns, names: Names, skipped: Skipped
) -> list[Object]:
    made = []
    for place, item in enumerate(_items(row[columns.objects])):
        number = _first(item, IDS) if isinstance(item, Mapping) else None
        number = int(number) if is_number(number) else None
        where = image.path, index, place if number is None else number
        try:
            category = _first(item, CATEGORIES)
            name = names.name(category)
            mask, problem = _mask(_first(item, SEGMENTATIONS), image)
            box = _box(_first(item, BOXES), columns.box_format)
            area = None if item.get("area") is None else float(item["area"])
            object_ = Object(name or "", mask, box, bool(item.get("iscrowd")), area, number)
        except WRONG as error:
            skipped.add(ODD, *where, f"{type(error).__name__}: {error}; {item!r:.100}")
            continue
        if problem:
            skipped.add(problem[0], *where, problem[1])
        elif name is None:
            skipped.add(UNKNOWN, *where, f"category {category!r}")
        elif mask is None and box is None:
            skipped.add(ODD, *where, f"neither box nor mask: {item!r:.100}")
        else:
            made.append(object_)
    return made


def _items(objects: Any) -> list[Any]:
    """A list of dicts, from that or from a dict of lists."""
    if objects is None:
        return []
    if not isinstance(objects, Mapping):
        return list(objects) if isinstance(objects, (list, tuple)) else [objects]
    lists = {key: values for key, values in objects.items() if isinstance(values, (list, tuple, np.ndarray))}
    count = max(map(len, lists.values()), default=0)
    return [{key: values[i] for key, values in lists.items() if i < len(values)} for i in range(count)]


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _box(box: Any, box_format: str) -> list[float] | None:
    """x0 y0 x1 y1."""
    if box is None:
        return None
    a, b, c, d = map(float, box)
    return [a, b, a + c, b + d] if box_format == "xywh" else [a, b, c, d]


def _mask(segmentation: Any, image: Found) -> tuple[Mask | None, tuple[str, str] | None]:
    """The mask, or what is wrong with it: (kind, value)."""
    if segmentation is None:
        return None, None
    rle = isinstance(segmentation, Mapping) and "counts" in segmentation
    if isinstance(segmentation, (list, tuple)) or rle:
        return coco_segmentation(segmentation if rle else _rings(segmentation), image.size)
    try:
        labels = _labels(segmentation, image)
    except DataError as error:
        return None, (BAD_MASKS, error.message)
    labels = replace(labels, pixels=(labels.pixels > 0).view(np.uint8))
    found = regions_as_rle(labels, regions_of(labels))
    return (found[0], None) if found else (None, ("empty masks", "no pixel is set"))


def _rings(segmentation: Sequence[Any]) -> list[Any]:
    """COCO's list of flat rings, from that, one flat ring, or one ring of points."""
    rings = list(segmentation)
    if rings and not isinstance(rings[0], (list, tuple, np.ndarray)):
        return [rings]
    if rings and all(len(ring) == 2 for ring in rings):
        return [[value for point in rings for value in point]]
    if rings and all(isinstance(ring[0], (list, tuple)) for ring in rings if len(ring)):
        return [[value for point in ring for value in point] for ring in rings]
    return rings


def _labels(value: Any, image: Found) -> Labels:
    """A label image as numbers (H, W), or (H, W, C). Raises `DataError`: unreadable, or of another size."""
    try:
        height, width = size_of(value)
        if (height, width) != image.size:
            found = f"{width}x{height} instead of {image.size[1]}x{image.size[0]}"
            raise DataError(f"the mask is {found}; save it in the size of its image")
        found = picture(value)
        pixels = np.asarray(Image.open(found) if isinstance(found, (str, Path)) else found)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise DataError(f"the mask cannot be read ({type(error).__name__}: {error})") from error
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    if pixels.dtype.kind not in "iu" or pixels.ndim not in (2, 3):
        raise DataError(f"the mask has {pixels.dtype} values of shape {pixels.shape}; save whole numbers as PNG")
    return Labels(image.path, pixels, False)


def from_label_image(
    row: Mapping[str, Any], index: int, image: Found, columns: Columns, names: Names, skipped: Skipped
) -> list[Object]:
    value = row.get(columns.masks or "")
    if value is None:
        return []
    try:
        labels = _labels(value, image)
        pixels = labels.pixels
        with_class = pixels.ndim == 3 and not (pixels[..., :1] == pixels).all()
        if with_class:  # a number means another object in each class
            numbers = pixels[..., 1].astype(np.int64)
            pixels = np.where(numbers > 0, (pixels[..., 0].astype(np.int64) << 32) + numbers, 0)
        labels = replace(labels, pixels=pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0]))
        regions = regions_of(labels)
        masks = regions_as_rle(labels, regions)
    except DataError as error:
        skipped.add(BAD_MASKS, image.path, index, None, error.message)
        return []
    made = []
    for number, mask in zip(regions.values.tolist(), masks, strict=True):
        category = number >> 32
        name = names.name(category) if with_class else names.only(image.path)
        if name is None:
            skipped.add(UNKNOWN, image.path, index, number & 0xFFFFFFFF, f"category {category}")
        else:
            made.append(Object(name, mask))
    return made
