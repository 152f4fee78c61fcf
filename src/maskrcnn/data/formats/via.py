"""VGG Image Annotator JSON, versions 1 and 2: one file, or train/ and val/ folders with a file in each (balloon).

Polygons are taken as drawn; rectangles, circles and ellipses become polygons; points
and lines are left out and counted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.layout import MOST_PIXELS, json_files, load_json, split_of_name
from maskrcnn.data.formats.mask_images import in_threads, read_size
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Polygons

NAME = "via"
LOOKS_FOR = "a .json of VGG Image Annotator (regions with shape_attributes), here or one folder down"
CLASS_KEYS = ("name", "class", "type", "label", "category")
ROUND = 64  # corners of a circle


def sniff(path: Path) -> bool:
    """Whether there is a VIA JSON: the file itself, or one in the folder, one level down."""
    return bool(_files(path))


def read(path: Path) -> Dataset:
    """Open a VIA JSON file, or all splits of a folder.

    Raises:
        DataError: not JSON, or no image that can be used.
    """
    files = _files(path)
    if not files:
        raise DataError("no VGG Image Annotator JSON here", path=path)
    skipped = Skipped()
    images: list[Found] = []
    for file in files:
        split = (split_of_name(file.parent.name) or file.parent.name) if len(files) > 1 else ""
        default = _default_class(path, file)
        entries = _entries(file)
        places = [file.parent / str(entry["filename"]) for entry in entries]
        for entry, image, size in zip(entries, places, in_threads(read_size, places), strict=True):
            if isinstance(size, DataError):
                kind = "images that cannot be opened" if os.path.isfile(image) else "images whose file is missing"
                skipped.add(kind, file, entry["filename"], None, str(image))
                continue
            regions = entry.get("regions") or []
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            if not isinstance(regions, list):
                skipped.add("images whose regions are no list", file, image.name, None, f"{regions!r:.100}")
                continue
            objects = _objects(regions, size, default, file, image.name, skipped)
            images.append(Found(image, size, objects, split, file=file))
    classes = sorted({o.name for image in images for o in image.objects}) or [_default_class(path, files[0])]
    return assemble(images, path=path, format=NAME, skipped=skipped, classes=classes)


def _files(path: Path) -> list[Path]:
    return json_files(path, 1, _looks_right)


def _looks_right(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(1 << 18)
    except OSError:
        return False
    return b'"regions"' in head and b'"filename"' in head


def _entries(file: Path) -> list[dict[str, Any]]:
    content = load_json(file)
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else content
    entries = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise DataError("holds no images; a VGG Image Annotator file has one entry for each", path=file)
    return [entry for entry in entries if isinstance(entry, dict) and "filename" in entry]


def _default_class(path: Path, file: Path) -> str:
    """The data set's folder name, for regions without attributes."""
    folder = (path if path.is_dir() else file.parent).resolve()
    return (folder.parent.name if split_of_name(folder.name) else folder.name) or "object"


def _objects(
    regions: list[Any], size: tuple[int, int], default: str, file: Path, image: str, skipped: Skipped
) -> list[Object]:
    objects = []
    for index, region in enumerate(regions):
        try:
            shape = region.get("shape_attributes") or {}
            ring = _ring(shape)
            name = _class(region.get("region_attributes") or {}, default)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            skipped.add("regions that are not as VIA writes them", file, image, index, f"{region!r:.100}")
            continue
        if ring is not None and not (np.abs(ring) < MOST_PIXELS).all():  # NaN fails too
            skipped.add("regions with wild coordinates", file, image, index, f"{np.abs(ring).max()}")
            continue
        if ring is None or _area(ring) == 0:
            skipped.add("regions that enclose nothing", file, image, index, f"shape {shape.get('name')!r}")
            continue
        low = np.maximum(ring.min(axis=0), 0)
        high = np.minimum(ring.max(axis=0), [size[1], size[0]])
        if not (high > low).all():
            skipped.add("boxes of zero area or outside the image", file, image, index, f"in {size[1]}x{size[0]}")
            continue
        objects.append(Object(name, Polygons((ring,)), area=_area(ring)))
    return objects


def _ring(shape: dict[str, Any]) -> np.ndarray | None:
    """(P, 2) corners, or None for a shape without an inside."""
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        ring = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1).astype(np.float64)
        closed = kind == "polygon" or bool((ring[0] == ring[-1]).all())
        return ring if len(ring) >= 3 and closed else None
    if kind == "rect":
        x, y, w, h = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    if kind in ("circle", "ellipse"):
        angle = np.arange(ROUND) * (2 * np.pi / ROUND)
        rx, ry = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
        turn = float(shape.get("theta", 0.0))
        x, y = float(rx) * np.cos(angle), float(ry) * np.sin(angle)
        turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
        return turned + np.array([float(shape["cx"]), float(shape["cy"])])
    return None


def _class(attributes: dict[str, Any], default: str) -> str:
    key = next((k for k in CLASS_KEYS if attributes.get(k)), next((k for k, v in attributes.items() if v), None))
    value = attributes[key] if key else default
    if isinstance(value, dict):  # a group of check boxes: the ticked ones
        value = next((name for name, ticked in value.items() if ticked), default)
    return str(value)


def _area(ring: np.ndarray) -> float:
    """Shoelace formula, square pixels."""
    x, y = ring.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
