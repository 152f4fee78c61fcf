"""`Instances` -> files: overlays, COCO JSON, mask PNGs. Original frame; a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.rle import decode_window, rle_area

KINDS = ("overlay", "json", "masks")
"""What `save_results` can write."""


@dataclass(frozen=True)
class Saved:
    """What `save_results` wrote; printed, it is a sentence.

    Attributes:
        folder: where.
        images, instances: how many.
        overlays, masks: one file an image, in order; empty when not asked for.
        json: `predictions.json`, or None.
        without_masks: images that masks were asked for, of a model that has none.
    """

    folder: Path
    images: int = 0
    instances: int = 0
    overlays: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    json: Path | None = None
    without_masks: int = 0

    @property
    def paths(self) -> list[Path]:
        """Every file."""
        return [*self.overlays, *self.masks, *([self.json] if self.json else [])]

    def __str__(self) -> str:
        told = "; no masks are among them: the model has no mask head" if self.without_masks else ""
        return f"{self.instances} instances in {self.images} images; {len(self.paths)} files in {self.folder}{told}"


def to_coco(instances: Instances, image_id: int | None = None) -> list[dict]:
    """COCO results: one dict an instance, plain JSON types, in the data set's own category ids; keypoints as x, y and
    score of each.

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
    if instances.roi_masks is not None:
        for result, rle in zip(results, instances.rle, strict=True):
            result["segmentation"] = {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
    if instances.keypoints is not None:
        for result, points in zip(results, instances.keypoints.astype(np.float64), strict=True):
            result["keypoints"] = points.ravel().tolist()
    return results


def index_mask(instances: Instances) -> np.ndarray:
    """(H, W) uint8, or uint16 from 256 instances on: 0 is background, i + 1 instance i; the best on top."""
    numbers = np.zeros(instances.size, np.uint8 if len(instances) < 256 else np.uint16)
    for index in range(len(instances) - 1, -1, -1):
        rle = instances.rle[index]
        left, top, width, height = (int(side) for side in coco_mask.to_bbox(rle))
        window = numbers[top : top + height, left : left + width]
        window[decode_window(rle, top, left, top + height, left + width)] = index + 1
    return numbers


def save_results(
    results: Iterable[Instances | tuple[Instances, np.ndarray]],
    out: str | Path,
    save: Collection[str] = KINDS,
) -> Saved:
    """Write what was found, image by image as it comes.

    `NAME.jpg` is the image with masks, boxes, keypoints and names on it; `NAME_masks.png` the `index_mask`;
    `predictions.json` a COCO file of all images, whose annotations carry a `score` and `keypoint_scores`: it opens as a
    data set. NAME is that of the image file; the second of one name becomes `NAME_2`.

    Args:
        results: instances, or pairs of instances and their image (H, W, 3) uint8 RGB where there is no file.
        out: the folder; made when missing.
        save: any of `KINDS`.

    Raises:
        ConfigError: an unknown kind.
        DataError: the folder cannot be written, or is that of the images, which overlays would overwrite.
    """
    unknown = [kind for kind in save if kind not in KINDS]
    if unknown:
        raise ConfigError(f"cannot save {unknown[0]!r}; kinds: {', '.join(KINDS)}", field="save")
    out, names = Path(out), _Names()
    overlays, masks, document = [], [], _Document()
    images = count = maskless = 0
    _make(out)
    for result in results:
        instances, image = result if isinstance(result, tuple) else (result, None)
        images, count = images + 1, count + len(instances)
        if instances.path and Path(instances.path).resolve().parent == out.resolve():
            raise DataError("the results would overwrite the images; choose another folder", path=out)
        name = names.free(instances.path, images)
        if "overlay" in save:
            overlays.append(_save_image(out / f"{name}.jpg", instances.draw(image)))
        if "masks" in save and instances.roi_masks is not None:
            masks.append(_save_image(out / f"{name}_masks.png", index_mask(instances)))
        maskless += "masks" in save and instances.roi_masks is None
        if "json" in save:
            document.add(instances)
    path = document.write(out / "predictions.json") if "json" in save else None
    return Saved(out, images, count, overlays, masks, path, maskless)


class _Names:
    """Base names for output files, no two alike; case does not distinguish files everywhere."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def free(self, path: str | None, number: int) -> str:
        stem = Path(path).stem if path else f"image_{number}"
        name, copy = stem, 1
        while name.lower() in self.taken:
            copy += 1
            name = f"{stem}_{copy}"
        self.taken.add(name.lower())
        return name


class _Document:
    """A COCO file that grows image by image."""

    def __init__(self) -> None:
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.categories: dict[int, str] = {}
        self.points: tuple[str, ...] = ()
        self.ids: set[int] = set()

    def add(self, instances: Instances) -> None:
        number = instances.image_id
        if number is None or number in self.ids:
            number = max(self.ids, default=0) + 1
        self.ids.add(number)
        height, width = instances.size
        file_name = instances.path or f"image_{len(self.images) + 1}"
        self.images.append({"id": number, "file_name": file_name, "height": height, "width": width})
        ids = instances.category_ids or range(1, len(instances.classes) + 1)
        self.categories.update(zip(ids, instances.classes, strict=True))
        if instances.keypoints is not None:
            count = instances.keypoints.shape[1]
            self.points = instances.keypoint_names or tuple(f"point_{k + 1}" for k in range(count))
        areas = [rle_area(rle) for rle in instances.rle] if instances.roi_masks is not None else None
        for index, result in enumerate(to_coco(instances, number)):
            area = areas[index] if areas else result["bbox"][2] * result["bbox"][3]
            if instances.keypoints is not None:
                result |= self._labelled(instances.keypoints[index])
            self.annotations.append({"id": len(self.annotations) + 1, **result, "area": float(area), "iscrowd": 0})

    @staticmethod
    def _labelled(points: np.ndarray) -> dict:
        """As annotations have it: x, y and visibility, all of them visible; scores may be anything, even negative."""
        places = [v for x, y, _ in points.astype(np.float64).tolist() for v in (x, y, 2)]
        return {"keypoints": places, "num_keypoints": len(points), "keypoint_scores": points[:, 2].tolist()}

    def write(self, path: Path) -> Path:
        points = {"keypoints": list(self.points), "skeleton": []} if self.points else {}
        categories = [{"id": number, "name": name, **points} for number, name in self.categories.items()]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        return write_whole(path, lambda file: file.write(json.dumps(content).encode()))


def _save_image(path: Path, pixels: np.ndarray) -> Path:
    from PIL import Image

    options = {"format": "JPEG", "quality": 92} if path.suffix == ".jpg" else {"format": "PNG"}
    return write_whole(path, lambda file: Image.fromarray(pixels).save(file, **options))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file beside its place and move it there when it is complete. Raises `DataError` when it cannot."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise DataError(
            f"cannot write: {error.strerror or error}; free some space or choose another folder", path=path
        ) from error
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make this folder: {error.strerror or error}; choose another one", path=folder
        ) from error
