"""CVAT's shapes -> objects: polygons, boxes and ellipses (turned ones too), masks in CVAT's own run lengths, groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.assemble import WILD, Object
from maskrcnn.data.formats.cvat_xml import Attributes, Shape
from maskrcnn.data.formats.layout import MOST_PIXELS
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.ops.rle import window_to_rle
from maskrcnn.structures import RLE, Mask, Polygons

ROUND = 64  # corners of an ellipse
INSIDE = ("polygon", "box", "ellipse", "mask")
ODD = "shapes that are not as CVAT writes them"
FLAT = "shapes without an inside (points, lines, cuboids, tags)"
CROWD = ("iscrowd", "is_crowd")  # attributes, as CVAT's own export to COCO names them

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class _Part:
    """One shape. An upright box has no mask: it stays a box where nothing else has one either."""

    mask: Mask | None
    box: Box | None
    crowd: bool


def objects_of(shapes: list[Shape], size: tuple[int, int], file: Path, image: str, skipped: Skipped) -> list[Object]:
    """The objects of an image of `size` (height, width); what cannot be one is counted."""
    groups: dict[tuple[str, str], list[_Part]] = {}
    for index, shape in enumerate(shapes):
        if shape.tag not in INSIDE:
            skipped.add(FLAT, file, image, index, f"shape {shape.tag!r:.50}")
            continue
        try:
            part = _part(shape, size)
            label = shape.fields["label"]
        except (KeyError, ValueError, OverflowError) as error:
            skipped.add(ODD, file, image, index, f"{shape.tag} {shape.fields!r:.100} ({error!s:.100})")
            continue
        if isinstance(part.mask, Polygons) and not (np.abs(part.mask.rings[0]) < MOST_PIXELS).all():  # NaN fails too
            skipped.add(WILD, file, image, index, f"up to {np.abs(part.mask.rings[0]).max()}")
            continue
        group = shape.fields.get("group_id", "0")
        key = (f"group {group}" if group not in ("", "0") else f"shape {index}"), label
        groups.setdefault(key, []).append(part)
    return [_object(label, parts, size) for (_, label), parts in groups.items()]


def _part(shape: Shape, size: tuple[int, int]) -> _Part:
    crowd = any(shape.extra.get(name, "").lower() in ("true", "1") for name in CROWD)
    if shape.tag == "mask":
        return _Part(_run_lengths(shape.fields, size), None, crowd)
    if shape.tag == "box":
        box = _numbers(shape.fields, "xtl", "ytl", "xbr", "ybr")
        if _turn(shape.fields) == 0:
            return _Part(None, box, crowd)
        x0, y0, x1, y1 = box
        ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return _Part(Polygons((_turned(ring, ((x0 + x1) / 2, (y0 + y1) / 2), shape.fields),)), None, crowd)
    if shape.tag == "ellipse":
        x, y, rx, ry = _numbers(shape.fields, "cx", "cy", "rx", "ry")
        angle = np.arange(ROUND) * (2 * np.pi / ROUND)
        ring = np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)
        return _Part(Polygons((_turned(ring, (x, y), shape.fields),)), None, crowd)
    ring = np.array(shape.fields["points"].replace(";", ",").split(","), np.float64).reshape(-1, 2)
    if len(ring) < 3:
        raise ValueError(f"{len(ring)} points")
    return _Part(Polygons((ring,)), None, crowd)


def _numbers(fields: Attributes, *names: str) -> Box:
    a, b, c, d = (float(fields[name]) for name in names)
    return a, b, c, d


def _turn(fields: Attributes) -> float:
    return float(fields.get("rotation") or 0) % 360


def _turned(ring: np.ndarray, centre: tuple[float, float], fields: Attributes) -> np.ndarray:
    """(P, 2) turned about the centre, in degrees, clockwise on the screen."""
    angle = np.deg2rad(_turn(fields))
    sine, cosine = np.sin(angle), np.cos(angle)
    x, y = (ring - centre).T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1) + centre


def _run_lengths(fields: Attributes, size: tuple[int, int]) -> RLE:
    """CVAT's runs: row by row inside left, top, width, height; the first one is background."""
    left, top, width, height = (int(value) for value in _numbers(fields, "left", "top", "width", "height"))
    if not (0 < width <= size[1] and 0 < height <= size[0]):
        raise ValueError(f"a window of {width}x{height} in an image of {size[1]}x{size[0]}")
    runs = np.array(fields["rle"].split(","), np.int64)
    if (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        raise ValueError(f"runs do not fill a window of {width}x{height}")
    window = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    window = window[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
    rle = window_to_rle(window, max(0, top), max(0, left), size)
    return RLE(size, rle["counts"])


def _object(label: str, parts: list[_Part], size: tuple[int, int]) -> Object:
    """The parts of a group: masks united; boxes beside masks frame them, boxes alone are joined."""
    masks = [part.mask for part in parts if part.mask is not None]
    boxes = [part.box for part in parts if part.box is not None]
    box = (*np.min(boxes, axis=0)[:2].tolist(), *np.max(boxes, axis=0)[2:].tolist()) if boxes else None
    return Object(label, _united(masks, size), box, crowd=any(part.crowd for part in parts))


def _united(masks: list[Mask], size: tuple[int, int]) -> Mask | None:
    if len(masks) <= 1:
        return masks[0] if masks else None
    if all(isinstance(mask, Polygons) for mask in masks):
        return Polygons(tuple(ring for mask in masks if isinstance(mask, Polygons) for ring in mask.rings))
    merged = coco_mask.merge([mask_to_rle(mask, size) for mask in masks])
    return RLE(size, merged["counts"])
