"""`Instances` -> COCO's JSON: results, and a data set with scores. Original frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskrcnn.data.remote import is_url
from maskrcnn.instances import Instances
from maskrcnn.ops.rle import rle_area
from maskrcnn.predict.whole import write_whole

Lines = Iterable[Mapping[str, Any]]
"""Lines of a `Journal`; gone through several times."""


def to_coco(instances: Instances, image_id: int | None = None) -> list[dict]:
    """COCO results: one dict an instance, plain JSON types, in the data set's own category ids; keypoints as x, y and
    score of each; `track_id` where they are tracked.

    Args:
        instances: what was found in one image.
        image_id: the id to write; None: `instances.image_id`, else 0.
    """
    if image_id is None:
        image_id = instances.image_id or 0
    ids = instances.category_ids or tuple(range(1, len(instances.classes) + 1))
    sides = instances.boxes[:, 2:].astype(np.float64) - instances.boxes[:, :2]
    boxes = np.concatenate([instances.boxes[:, :2], sides], axis=1).tolist()  # x, y, width, height
    results = [
        {"image_id": image_id, "category_id": ids[label], "bbox": box, "score": score}
        for label, box, score in zip(instances.labels.tolist(), boxes, instances.scores.tolist(), strict=True)
    ]
    if instances.has_masks:
        for result, rle in zip(results, instances.rle, strict=True):
            result["segmentation"] = {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
    if instances.keypoints is not None:
        for result, points in zip(results, instances.keypoints.astype(np.float64), strict=True):
            result["keypoints"] = points.ravel().tolist()
    if instances.tracks is not None:
        for result, number in zip(results, instances.tracks.ids.tolist(), strict=True):
            result["track_id"] = number
    return results


def write_results(lines: Lines, path: Path) -> Path:
    """COCO's results file: a list of what `to_coco` gives, which `maskrcnn evaluate` and pycocotools score."""
    found = ({**result, "image_id": number} for line, number in _numbered(lines) for result in line["instances"])
    return write_whole(path, lambda file: _write_list(file, found))


def write_data_set(lines: Lines, path: Path) -> Path:
    """A data set: images, annotations with `score`, `area` and `keypoint_scores`, categories. Memory: of one image."""

    def write(file: BinaryIO) -> None:
        file.write(b'{"images": ')
        _write_list(file, (_image(line, count, number) for count, (line, number) in enumerate(_numbered(lines), 1)))
        file.write(b', "annotations": ')
        _write_list(file, _annotations(lines))
        file.write(b', "categories": ' + json.dumps(_categories(lines)).encode() + b"}")

    return write_whole(path, write)


def _write_list(file: BinaryIO, items: Iterable[dict]) -> None:
    file.write(b"[")
    for count, item in enumerate(items):
        file.write((b", " if count else b"") + json.dumps(item).encode())
    file.write(b"]")


def _numbered(lines: Lines) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Each line with an id of its own: the data set's where it is free, else one more than all before."""
    taken: set[int] = set()
    highest = 0
    for line in lines:
        number = line["image_id"]
        if number is None or number in taken:
            number = highest + 1
        taken.add(number)
        highest = max(highest, number)
        yield line, number


def _image(line: Mapping[str, Any], count: int, number: int) -> dict[str, Any]:
    image = {
        "id": number,
        "file_name": line["path"] or _called(line, count),
        "height": line["height"],
        "width": line["width"],
    }
    more = {key: line[key] for key in ("file", "frame", "seconds") if line[key] is not None}
    if address := address_of(line):
        more["coco_url"] = address
    return image | more


def address_of(line: Mapping[str, Any]) -> str | None:
    """What the image of a line was downloaded from, by its key; None for one that was not."""
    key = line["key"] if line["frame"] is None else line["key"].rpartition("#")[0]
    return key if is_url(key) else None


def _called(line: Mapping[str, Any], count: int) -> str:
    return line["name"] or f"image_{count}"


def _annotations(lines: Lines) -> Iterator[dict[str, Any]]:
    identity = 0
    for line, number in _numbered(lines):
        for result in line["instances"]:
            identity += 1
            content = {"id": identity, **result, "image_id": number}
            rle = result.get("segmentation")
            area = rle_area({**rle, "counts": rle["counts"].encode()}) if rle else result["bbox"][2] * result["bbox"][3]
            if "keypoints" in result:
                content |= _labelled(result["keypoints"])
            yield content | {"area": float(area), "iscrowd": 0}


def _labelled(values: list[float]) -> dict[str, Any]:
    """As annotations have it: x, y and visibility, all of them visible; scores may be anything, even negative."""
    points = np.array(values, np.float64).reshape(-1, 3)
    places = [v for x, y, _ in points.tolist() for v in (x, y, 2)]
    return {"keypoints": places, "num_keypoints": len(points), "keypoint_scores": points[:, 2].tolist()}


def _categories(lines: Lines) -> list[dict[str, Any]]:
    names: dict[int, str] = {}
    points: tuple[str, ...] = ()
    for line in lines:
        names.update(zip(line["category_ids"] or range(1, len(line["classes"]) + 1), line["classes"], strict=True))
        scored: list[float] = next((result["keypoints"] for result in line["instances"] if "keypoints" in result), [])
        points = tuple(line["keypoint_names"]) or tuple(f"point_{k + 1}" for k in range(len(scored) // 3)) or points
    more = {"keypoints": list(points), "skeleton": []} if points else {}
    return [{"id": number, "name": name, **more} for number, name in names.items()]
