"""Lines of a `Journal` -> `via.json`, a project of VGG Image Annotator 2 beside its images. One region an object: parts
are joined by lines of no width."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from maskrcnn.instances import Instances
from maskrcnn.ops.rle import join_rings
from maskrcnn.predict.formats.records import drawn, to_record
from maskrcnn.predict.journal import instances_of
from maskrcnn.predict.whole import write_whole
from maskrcnn.structures import Polygons

FILE = "via.json"


def write(lines: Iterable[Mapping[str, Any]], folder: Path, images: Mapping[str, str]) -> Path:
    """The annotations of a folder.

    Args:
        images: result name -> file name in the folder, of every image that `put_image` has left there.
    """

    def entries(file: BinaryIO) -> None:
        file.write(b"{")
        first = True
        for line in lines:
            name = images.get(line["name"])
            if name is None:
                continue
            size = (folder / name).stat().st_size
            content = {"filename": name, "size": size, "regions": regions(instances_of(line)), "file_attributes": {}}
            file.write((b"" if first else b",\n") + json.dumps(f"{name}{size}").encode() + b": ")
            file.write(json.dumps(content).encode())
            first = False
        file.write(b"}")

    return write_whole(folder / FILE, entries)


def regions(instances: Instances) -> list[dict[str, Any]]:
    """VIA's regions of one image: polygons, or rectangles where there are no masks."""
    instances = drawn(instances)
    record = to_record(instances, Path(instances.path or ""), outlines=True)
    found = []
    for index, score in enumerate(instances.scores.tolist()):
        attributes = {"name": instances.classes[int(record.labels[index])], "score": f"{score:.3f}"}
        found.append({"shape_attributes": _shape(record, index), "region_attributes": attributes})
    return found


def _shape(record: Any, index: int) -> dict[str, Any]:
    if record.masks and isinstance(record.masks[index], Polygons):
        ring = join_rings(record.masks[index].rings)
        return {"name": "polygon", "all_points_x": ring[:, 0].tolist(), "all_points_y": ring[:, 1].tolist()}
    x0, y0, x1, y1 = record.boxes[index].astype(float).tolist()
    return {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
