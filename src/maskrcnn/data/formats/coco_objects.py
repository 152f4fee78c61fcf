"""COCO's annotations on their way from dictionaries to the columns of a `Table`, one at a time and in any order.

Images and categories may come after the annotations in a file, and there may be a million of these. So what needs no
image goes into flat arrays at once, here, and the rest is arithmetic on whole columns, in `coco_columns`.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask

from maskrcnn.data.formats.coco_masks import FEW_POINTS, Odd, rle_of, whole_rings
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.table.pack import NO_MASK, POLYGONS, RLES

ODD = "annotations that are not as COCO writes them"
SHORT_RINGS = "rings of fewer than three points, from objects that have others"
NO_BOX = (math.nan,) * 4


def is_id(value: object) -> bool:
    """Whole floats too: tables turn 7 into 7.0, and the two are the same key."""
    return value is None or isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer())


def number_of(value: object) -> int | None:
    """An id as an integer of 64 bits, or None."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value) if abs(value) < 1 << 62 else None
    return None


@dataclass(eq=False)
class Objects:
    """Annotations of one file. `images` and `categories` number the ids as they turn up; `image` and `category` hold
    those numbers."""

    file: Path
    skipped: Skipped
    images: dict[Any, int] = field(default_factory=dict)
    categories: dict[Any, int] = field(default_factory=dict)
    image: array = field(default_factory=lambda: array("q"))
    category: array = field(default_factory=lambda: array("q"))
    ids: list[Any] = field(default_factory=list)
    crowd: array = field(default_factory=lambda: array("b"))
    area: array = field(default_factory=lambda: array("d"))
    box: array = field(default_factory=lambda: array("d"))  # x0, y0, x1, y1; NaN where there is none
    mask_kind: array = field(default_factory=lambda: array("b"))
    mask_at: array = field(default_factory=lambda: array("q"))
    rings: array = field(default_factory=lambda: array("q"))  # of each polygon
    ring_points: array = field(default_factory=lambda: array("q"))
    points: array = field(default_factory=lambda: array("d"))
    rle_size: array = field(default_factory=lambda: array("q"))
    rle_lengths: array = field(default_factory=lambda: array("q"))
    rle_bytes: bytearray = field(default_factory=bytearray)
    keypoint_lengths: array = field(default_factory=lambda: array("q"))
    keypoints: array = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, annotation: Any) -> None:
        """One annotation; what is not as it should be is counted and left out."""
        before = len(self.points), len(self.ring_points)
        try:
            self._add(annotation)
        except (Odd, TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError):
            del self.points[before[0] :], self.ring_points[before[1] :]
            name = annotation.get("id") if isinstance(annotation, dict) else None
            image = annotation.get("image_id") if isinstance(annotation, dict) else None
            self.skipped.add(ODD, self.file, image, name, f"{annotation!r:.100}")

    def _add(self, annotation: dict[str, Any]) -> None:
        get = annotation.get
        name, image, category = get("id"), get("image_id"), get("category_id")
        if not (type(name) is type(image) is type(category) is int or all(map(is_id, (name, image, category)))):
            raise Odd
        box = _given_box(get("bbox"))
        area = float(get("area") or 0)
        given = get("keypoints")
        keypoints = array("d", given) if given else ()
        kind, at, bounds = self._mask(get("segmentation"), image, name)
        if kind is None:
            return
        self.ids.append(name)
        self.image.append(self.images.setdefault(image, len(self.images)))
        self.category.append(self.categories.setdefault(category, len(self.categories)))
        self.crowd.append(bool(get("iscrowd")))
        self.area.append(area)
        self.box.extend(box or bounds or NO_BOX)
        self.mask_kind.append(kind)
        self.mask_at.append(at)
        self.keypoints.extend(keypoints)
        self.keypoint_lengths.append(len(keypoints))

    def _mask(self, segmentation: Any, image: Any, name: Any) -> tuple[int | None, int, tuple[float, ...] | None]:
        """(kind, place, bounds); kind None where the object has to go."""
        if not segmentation:
            return NO_MASK, 0, None
        if isinstance(segmentation, dict):
            rle, trouble = rle_of(segmentation)
            if rle is None:
                self._leave(trouble or (ODD, ""), image, name)
                return None, 0, None
            self.rle_size.extend(rle.size)
            self.rle_lengths.append(len(rle.counts))
            self.rle_bytes += rle.counts
            x, y, w, h = coco_mask.to_bbox({"size": list(rle.size), "counts": rle.counts})
            return RLES, len(self.rle_lengths) - 1, (x, y, x + w, y + h)
        whole = whole_rings(segmentation)
        if not whole:
            self._leave((FEW_POINTS, f"{len(segmentation[0])} numbers"), image, name)
            return None, 0, None
        if len(whole) < len(segmentation):
            short = len(segmentation) - len(whole)
            self.skipped.add(SHORT_RINGS, self.file, image, name, f"{short} of {len(segmentation)} rings")
        x, y = whole[0][0::2], whole[0][1::2]
        for ring in whole:
            self.points.extend(ring)
            self.ring_points.append(len(ring) // 2)
            if ring is not whole[0]:
                x += ring[0::2]
                y += ring[1::2]
        self.rings.append(len(whole))
        return POLYGONS, len(self.rings) - 1, (min(x), min(y), max(x), max(y))

    def _leave(self, trouble: tuple[str, str], image: Any, name: Any) -> None:
        self.skipped.add(trouble[0], self.file, image, name, trouble[1])


def _given_box(box: Any) -> tuple[float, ...] | None:
    """x, y, width, height -> corners; None where there is none."""
    if not box:
        return None
    x, y, w, h = box
    return float(x), float(y), float(x) + float(w), float(y) + float(h)
