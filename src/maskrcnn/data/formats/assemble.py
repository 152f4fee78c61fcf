"""What all readers end with: images and objects as found -> `Dataset`, with boxes, labels and ids made sound.

A reader says what is in its files (`Found`, `Object`); here boxes come from masks where there are none, are cut to the
image, objects without an inside are left out and counted, names become labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.layout import MOST_PIXELS, ROUNDING
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file, mask_to_rle, rle_area
from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record, Span

NO_MASK = "objects without a mask, whose box stands in for it"
NO_BOX = "boxes of zero area or outside the image"
REACHES_OUT = "boxes that reach beyond the image"
WILD = "objects with wild coordinates"


@dataclass(slots=True)
class Object:
    """One annotation.

    Attributes:
        name: the class.
        mask: None: only a box is known.
        box: x0, y0, x1, y1, original frame; None: that of the mask.
        area: in square pixels; None: that of the mask, or else of the box.
        number: the annotation's id in the file, for messages; None: counted.
    """

    name: str
    mask: Mask | None = None
    box: Sequence[float] | None = None
    crowd: bool = False
    area: float | None = None
    number: int | None = None


@dataclass(slots=True)
class Found:
    """One image. `file` is the annotation file, for messages; the rest as in `Record`."""

    path: Path
    size: tuple[int, int]
    objects: list[Object] = field(default_factory=list)
    split: str = ""
    span: Span | None = None
    file: Path | None = None
    make: Callable[[], Any] | None = None


def assemble(
    images: Iterable[Found],
    *,
    path: Path,
    format: str,
    skipped: Skipped,
    classes: Sequence[str] | None = None,
    category_ids: Sequence[int] | None = None,
) -> Dataset:
    """A data set from what a reader found.

    Args:
        classes: names in the order of their labels, which must hold every object's; None: sorted as found.
        category_ids: one a class; None: 1, 2, 3 ...

    Raises:
        DataError: no image that can be used.
    """
    images = list(images)
    sound = [[made for o in image.objects if (made := _sound(o, image, skipped))] for image in images]
    if not images:
        reason = f"; {skipped.sentences()[0]}" if skipped else ""
        raise DataError(f"holds no image that can be used{reason}", path=path)
    if classes is None:
        classes = sorted({o.name for objects in sound for o in objects}) or ["object"]
    label_of = {name: label for label, name in enumerate(classes)}
    masked = any(o.mask is not None for objects in sound for o in objects)
    records, next_id = [], 1
    for number, (image, objects) in enumerate(zip(images, sound, strict=True), 1):
        if masked:
            for o in objects:
                if o.mask is None:
                    skipped.add(NO_MASK, image.file or image.path, None, o.number, f"box {o.box}", verb="kept")
                    o.mask = _box_mask(o.box or ())
        ids = [next_id + i if o.number is None else o.number for i, o in enumerate(objects)]
        next_id += len(objects)
        records.append(_record(image, objects, number, ids, label_of))
    return Dataset(
        records=records,
        classes=tuple(classes),
        category_ids=tuple(range(1, len(classes) + 1) if category_ids is None else category_ids),
        name=str(path),
        format=format,
        warnings=tuple(skipped.sentences()),
    )


def _sound(found: Object, image: Found, skipped: Skipped) -> Object | None:
    """The object with a box inside the image and an area, or None where nothing is left of it."""
    height, width = image.size
    where = image.file or image.path, image.path.name, found.number
    try:
        box = _bounds(found.mask, image.size) if found.box is None else np.asarray(found.box, np.float64)
    except DataError as error:
        skipped.add("masks that cannot be read", *where, error.message)
        return None
    if isinstance(found.mask, Polygons) and not all((np.abs(r) < MOST_PIXELS).all() for r in found.mask.rings):
        skipped.add(WILD, *where, f"up to {max(np.abs(r).max() for r in found.mask.rings)}")
        return None
    if box is None or box.shape != (4,) or not (np.abs(box) < MOST_PIXELS).all():  # NaN fails too
        skipped.add(WILD if box is not None else "empty masks", *where, f"box {found.box}")
        return None
    x0, y0, x1, y1 = np.clip(box, 0, [width, height, width, height]).astype(np.float32).tolist()
    if not (x1 > x0 and y1 > y0):
        skipped.add(NO_BOX, *where, f"{box.tolist()} in {width}x{height}")
        return None
    if found.box is not None and (np.abs(box - [x0, y0, x1, y1]) > ROUNDING).any():
        skipped.add(REACHES_OUT, *where, f"{box.tolist()} in {width}x{height}", "cut")
    area = found.area
    if area is None or not 0 < area <= height * width:
        area = _area(found.mask, image.size) or (x1 - x0) * (y1 - y0)
    return Object(found.name, found.mask, (x0, y0, x1, y1), found.crowd, area, found.number)


def _bounds(mask: Mask | None, size: tuple[int, int]) -> np.ndarray | None:
    """(4,) x0 y0 x1 y1 of a mask; None where it is empty."""
    if isinstance(mask, Polygons):
        points = np.concatenate(mask.rings)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
    if isinstance(mask, RLE):
        x, y, w, h = coco_mask.to_bbox(mask_to_rle(mask, size))
        return np.array([x, y, x + w, y + h]) if w > 0 and h > 0 else None
    if mask is None:
        return None
    pixels = load_mask_file(mask)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1.0]) if len(rows) else None


def _area(mask: Mask | None, size: tuple[int, int]) -> float:
    """Square pixels that the mask covers; 0 where that is not known."""
    if mask is None or isinstance(mask, MaskFile):
        return 0.0
    return float(rle_area(mask_to_rle(mask, size)))


def _box_mask(box: Sequence[float]) -> Polygons:
    x0, y0, x1, y1 = map(float, box)
    return Polygons((np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),))


def _record(image: Found, objects: list[Object], number: int, ids: list[int], label_of: dict[str, int]) -> Record:
    return Record(
        path=image.path,
        image_id=number,
        height=image.size[0],
        width=image.size[1],
        boxes=np.array([o.box for o in objects], np.float32).reshape(-1, 4),
        labels=np.array([label_of[o.name] for o in objects], np.int64),
        masks=tuple(o.mask for o in objects if o.mask is not None),
        crowd=np.array([o.crowd for o in objects], bool),
        areas=np.array([o.area for o in objects], np.float32),
        annotation_ids=np.array(ids, np.int64),
        split=image.split,
        span=image.span,
        make=image.make,
    )
