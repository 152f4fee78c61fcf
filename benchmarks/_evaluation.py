"""COCO evaluation of boxes and masks, load to numbers: hotcoco through our `measure`, and pycocotools."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import Row, no_collection, timed
from _torchvision import ellipse
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.coco import NUMBERS, GroundTruth, Metrics, measure
from maskrcnn.ops.masks import encode_mask
from maskrcnn.structures import RLE, Record

CLASSES = 80
SIDE = 256  # pixels of the square images


def run(repeat: int, images: int = 1000, objects: int = 7, results_per_image: int = 100) -> list[Row]:
    """Truth and results made up: ellipses, and ellipses moved a little or put anywhere. Runs on the CPU.

    pycocotools needs half a minute for 1,000 images and runs once, in the middle of our runs.
    """
    generator = torch.Generator().manual_seed(0)
    records, results = [], []
    for image_id in range(1, images + 1):
        boxes = random_boxes(objects, generator)
        labels = torch.randint(0, CLASSES, (objects,), generator=generator)
        records.append(record(image_id, boxes, labels))
        index = torch.randint(0, objects, (results_per_image,), generator=generator)
        moved = boxes[index] + torch.randn(results_per_image, 4, generator=generator) * 4
        anywhere = torch.rand(results_per_image, 1, generator=generator) < 0.5
        found = torch.where(anywhere, random_boxes(results_per_image, generator), moved)
        found[:, 2:] = torch.maximum(found[:, 2:], found[:, :2] + 1)
        scores = torch.rand(results_per_image, generator=generator)
        results += to_results(image_id, found.clamp(0, SIDE), labels[index], scores)
    names = tuple(f"class {i}" for i in range(CLASSES))
    dataset = Dataset(records, names, tuple(range(1, CLASSES + 1)))

    def ours() -> Metrics:
        return measure(GroundTruth(dataset), results)

    def theirs() -> dict[str, list[float]]:
        return pycocotools_numbers(dataset, results)

    metrics, device = ours(), torch.device("cpu")
    with no_collection():
        our_seconds = [timed(ours, device) for _ in range(repeat - repeat // 2)]
        start = time.perf_counter()
        expected = theirs()
        their_ms = 1e3 * (time.perf_counter() - start)
        our_seconds += [timed(ours, device) for _ in range(repeat // 2)]
    for kind, numbers in (("bbox", metrics.box), ("segm", metrics.mask or {})):
        np.testing.assert_allclose([numbers[name] for name in NUMBERS], expected[kind], atol=1e-9, err_msg=kind)
    name = f"{images} images, {images * objects} objects, {len(results)} results"
    our_ms = [1e3 * seconds for seconds in our_seconds]
    spread = max(our_ms) - min(our_ms)
    return [Row("evaluation against pycocotools", name, statistics.median(our_ms), their_ms, spread, 0.0, repeat)]


def random_boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * SIDE * 0.7
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * SIDE * 0.25 + 4], dim=1)


def rles(boxes: torch.Tensor) -> list[dict[str, Any]]:
    return [encode_mask(mask) for mask in ellipse(boxes, SIDE).numpy()]


def record(image_id: int, boxes: torch.Tensor, labels: torch.Tensor) -> Record:
    masks = ellipse(boxes, SIDE)
    return Record(
        path=Path(f"{image_id}.png"),
        image_id=image_id,
        height=SIDE,
        width=SIDE,
        boxes=boxes.numpy(),
        labels=labels.numpy(),
        masks=tuple(RLE((SIDE, SIDE), rle["counts"]) for rle in rles(boxes)),
        crowd=np.zeros(len(boxes), bool),
        areas=masks.sum(dim=(1, 2)).float().numpy(),
        annotation_ids=np.arange(len(boxes)),
    )


def to_results(image_id: int, boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor) -> list[dict[str, Any]]:
    """COCO results; RLE as text, as a results file has it."""
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    return [
        {
            "image_id": image_id,
            "category_id": label + 1,
            "score": score,
            "bbox": box,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        }
        for box, label, score, rle in zip(sides, labels.tolist(), scores.tolist(), rles(boxes), strict=True)
    ]


def pycocotools_numbers(dataset: Dataset, results: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The reference: truth and results in memory, both kinds, 12 numbers each."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        truth = COCO()
        truth.dataset = to_coco(dataset)
        truth.createIndex()
        numbers = {}
        for kind, geometry in (("bbox", "bbox"), ("segm", "segmentation")):
            wanted = ("image_id", "category_id", "score", geometry)
            found = truth.loadRes([{name: result[name] for name in wanted} for result in results])
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            numbers[kind] = list(evaluation.stats)
    return numbers


def to_coco(dataset: Dataset) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for item in dataset:
        columns = (item.boxes.tolist(), item.labels.tolist(), item.masks, item.areas.tolist())
        for box, label, mask, area in zip(*columns, strict=True):
            assert isinstance(mask, RLE)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": item.image_id,
                    "category_id": label + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": {"size": list(mask.size), "counts": mask.counts},
                }
            )
    return {
        "images": [{"id": item.image_id, "height": item.height, "width": item.width} for item in dataset],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.classes, start=1)],
    }
