"""`Instances` -> what the server sends. Boxes and outlines are in pixels of the uploaded image, seen upright."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from maskrcnn.instances import Instances

Masks = Literal["polygons", "rle", "none"]


@dataclass(frozen=True)
class Rle:
    """COCO's compressed run lengths of the whole image."""

    size: list[int]
    counts: str


@dataclass(frozen=True)
class Found:
    """One object. `polygons` are rings of x, y, x, y ..., holes as rings of their own (even-odd rule)."""

    name: str
    label: int
    category_id: int
    score: float
    box: list[float]
    polygons: list[list[float]] | None = None
    rle: Rle | None = None
    keypoints: list[list[float]] | None = None


@dataclass(frozen=True)
class Answer:
    """All objects of one image, best first; or `error`, where it could not be read."""

    file: str
    width: int
    height: int
    instances: list[Found]
    error: str | None = None


@dataclass(frozen=True)
class Answers:
    """One for each image, in their order."""

    images: list[Answer]


@dataclass(frozen=True)
class Problem:
    """Why a request was not answered, in one sentence."""

    detail: str


@dataclass(frozen=True)
class Health:
    """The model behind the server."""

    status: Literal["ok", "stopping"]
    model: str
    classes: list[str]
    masks: bool
    device: str
    version: str
    score_threshold: float


def describe(instances: Instances, masks: Masks) -> Answer:
    """JSON of one image."""
    ids = instances.category_ids or tuple(range(1, len(instances.classes) + 1))
    drawn = masks if instances.roi_masks is not None else "none"
    points = instances.keypoints
    found = [
        Found(
            name=instances.classes[label],
            label=label,
            category_id=ids[label],
            score=round(float(instances.scores[index]), 6),
            box=_rounded(instances.boxes[index]),
            polygons=[_rounded(ring) for ring in instances[index].polygons[0]] if drawn == "polygons" else None,
            rle=_rle(instances.rle[index]) if drawn == "rle" else None,
            keypoints=None if points is None else [_rounded(point) for point in points[index]],
        )
        for index, label in enumerate(instances.labels.tolist())
    ]
    height, width = instances.size
    return Answer(instances.path or "", width, height, found)


def _rounded(numbers: np.ndarray) -> list[float]:
    return np.asarray(numbers, np.float64).round(2).ravel().tolist()


def _rle(rle: dict) -> Rle:
    return Rle([int(side) for side in rle["size"]], rle["counts"].decode("ascii"))


def index_png(instances: Instances) -> bytes:
    """A PNG of one channel: 0 is background, i + 1 instance i of the JSON; 16 bits from 256 instances on."""
    from PIL import Image

    from maskrcnn.predict.results import index_mask

    file = BytesIO()
    Image.fromarray(index_mask(instances)).save(file, format="PNG")
    return file.getvalue()
