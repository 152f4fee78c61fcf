"""`Instances` -> a `Record` with outlines that people can correct, for the writers of `data.write`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.sample import to_display
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.rle import rle_area, rle_to_union_polygons
from maskrcnn.ops.simplify import simplify_ring
from maskrcnn.predict.whole import write_image, write_whole
from maskrcnn.structures import RLE, Mask, Polygons, Record

TOLERANCE = 1.0
"""Pixels that an outline for people may leave the mask; less for small objects, see `outline`."""
_COPIED = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def to_record(instances: Instances, path: Path, *, outlines: bool) -> Record:
    """What was found as if it were annotated; empty masks are left out.

    Args:
        path: the image file.
        outlines: simplified polygons, else masks pixel by pixel.
    """
    instances = drawn(instances)
    count, masks = len(instances), ()
    if instances.has_masks:
        masks = tuple(_mask(rle, outlines) for rle in instances.rle)  # type: ignore[assignment]
    return Record(
        path=path,
        image_id=instances.image_id or 0,
        height=instances.size[0],
        width=instances.size[1],
        boxes=instances.boxes,
        labels=instances.labels,
        masks=masks,
        crowd=np.zeros(count, bool),
        areas=instances.areas.astype(np.float32),
        annotation_ids=np.arange(1, count + 1),
    )


def drawn(instances: Instances) -> Instances:
    """Those that have a pixel, where there are masks."""
    if not instances.has_masks:
        return instances
    return instances[np.array([rle_area(rle) > 0 for rle in instances.rle], bool)]


def outline(rle: dict) -> tuple[np.ndarray, ...]:
    """Rings (P, 2) float64, one a connected part, with as few corners as `TOLERANCE` allows; of an object smaller than
    50 pixels in diameter, a fiftieth of that diameter. A part with holes keeps all of its corners."""
    tolerance = min(TOLERANCE, 0.02 * rle_area(rle) ** 0.5)
    return tuple(
        simplify_ring(ring, tolerance) if len(np.unique(ring, axis=0)) == len(ring) else ring
        for ring in rle_to_union_polygons(rle)
    )


def put_image(folder: Path, name: str, instances: Instances, image: Any) -> Path:
    """The image as a file of this name beside its annotations: the file itself where it has one, else a PNG.

    Raises:
        DataError: there is no image, or it cannot be written.
    """
    if instances.path is not None and Path(instances.path).suffix.lower() in _COPIED:
        source, path = Path(instances.path), folder / f"{name}{Path(instances.path).suffix}"

        def copy(file: Any) -> None:
            with source.open("rb") as stream:
                shutil.copyfileobj(stream, file)

        return write_whole(path, copy)
    if image is None and instances.path is None:
        raise DataError("these instances come from no file; give the image")
    return write_image(folder / f"{name}.png", to_display(instances.path if image is None else image))


def _mask(rle: dict, outlines: bool) -> Mask:
    return Polygons(outline(rle)) if outlines else RLE(tuple(rle["size"]), rle["counts"])
