"""A small data set and results, made from Python's own random numbers: the same on every machine and version.

The golden numbers in `golden/` were computed on these by the reference implementations; see `golden/make_golden.py`.
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from maskrcnn.dataset import Dataset, Federated
from maskrcnn.ops.rle import polygons_to_rle, rle_area
from maskrcnn.structures import RLE, Record

SIZE = (180, 240)  # a band of 6 pixels for boundaries
CLASSES = ("ant", "bee", "cow", "dog", "elk", "fox")
IDS = (2, 3, 5, 7, 11, 13)


def outline(box: list[float], wobble: float) -> np.ndarray:
    """(16, 2): an ellipse in the box, or with `wobble` a star."""
    x0, y0, x1, y1 = box
    points = []
    for step in range(16):
        angle = 2 * math.pi * step / 16
        reach = 1 - wobble * (step % 2)
        points.append(
            [
                (x0 + x1) / 2 + reach * (x1 - x0) / 2 * math.cos(angle),
                (y0 + y1) / 2 + reach * (y1 - y0) / 2 * math.sin(angle),
            ]
        )
    return np.array(points)


def mask_of(box: list[float], wobble: float) -> dict[str, Any]:
    return polygons_to_rle([outline(box, wobble)], SIZE)


def random_box(random: Random) -> list[float]:
    side = [random.choice([12, 45, 135]) * (0.7 + 0.5 * random.random()) for _ in range(2)]
    x = random.random() * (SIZE[1] - side[0])
    y = random.random() * (SIZE[0] - side[1])
    return [round(v, 2) for v in (x, y, x + side[0], y + side[1])]


def made_dataset(images: int = 30, seed: int = 7) -> Dataset:
    """Images with 0 to 24 objects, some of them crowds; the sixth class has none. With LVIS's lists."""
    random = Random(seed)
    records, negative, partial = [], {}, {}
    for number in range(1, images + 1):
        count = random.choice([0, 1, 1, 3, 5, 8, 24])
        boxes = [random_box(random) for _ in range(count)]
        labels = [random.randrange(5) for _ in range(count)]
        rles = [mask_of(box, 0.3 * random.random()) for box in boxes]
        crowd = [random.random() < 0.08 for _ in range(count)]
        absent = [label for label in range(6) if label not in labels]
        negative[number] = tuple(label for label in absent if random.random() < 0.5)
        partial[number] = tuple(label for label in sorted(set(labels)) if random.random() < 0.3)
        records.append(
            Record(
                path=Path(f"{number}.jpg"),
                image_id=number,
                height=SIZE[0],
                width=SIZE[1],
                boxes=np.array(boxes, np.float32).reshape(-1, 4),
                labels=np.array(labels, np.int64),
                masks=tuple(RLE(SIZE, rle["counts"]) for rle in rles),
                crowd=np.array(crowd, bool),
                areas=np.array([rle_area(rle) for rle in rles], np.float32),
                annotation_ids=np.arange(count) + 1000 * number,
            )
        )
    federated = Federated(negative, partial, ("r", "c", "f", "f", "c", "r"))
    return Dataset(records, CLASSES, IDS, name="made", federated=federated)


def made_results(dataset: Dataset, seed: int = 8, shift: float = 2.0) -> list[dict[str, Any]]:
    """Good and bad copies of the objects, duplicates, wrong classes, and results from nowhere; no two equal scores."""
    random = Random(seed)
    found = []
    for record in dataset:
        for box, label in zip(record.boxes.tolist(), record.labels.tolist(), strict=True):
            for _ in range(random.choice([0, 1, 1, 1, 2])):
                moved = [side + shift * random.gauss(0, 1) for side in box]
                wrong = random.random() < 0.12
                found.append((record.image_id, moved, (label + 1) % 6 if wrong else label, random.random() ** 0.5))
        for _ in range(random.choice([0, 2, 6])):
            found.append((record.image_id, random_box(random), random.randrange(6), random.random()))
    results = []
    for place, (image_id, (x0, y0, x1, y1), label, score) in enumerate(found):
        corner = [max(0.0, min(x0, SIZE[1] - 4)), max(0.0, min(y0, SIZE[0] - 4))]
        end = [min(max(x1, corner[0] + 3), SIZE[1]), min(max(y1, corner[1] + 3), SIZE[0])]
        box = [round(v, 2) for v in (*corner, *end)]
        rle = mask_of(box, 0.3 * random.random())
        results.append(
            {
                "image_id": image_id,
                "category_id": IDS[label],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "score": round(0.99 * score, 4) + place * 1e-7,
                "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()},
            }
        )
    return results


def as_coco(dataset: Dataset) -> dict[str, Any]:
    """The data set as a COCO file with LVIS's lists, written independently of the evaluation."""
    annotations: list[dict[str, Any]] = []
    images = []
    lists = dataset.federated
    assert lists is not None
    for record in dataset:
        image = {"id": record.image_id, "height": record.height, "width": record.width, "file_name": str(record.path)}
        image["neg_category_ids"] = [IDS[label] for label in lists.negative[record.image_id]]
        image["not_exhaustive_category_ids"] = [IDS[label] for label in lists.not_exhaustive[record.image_id]]
        images.append(image)
        columns = (record.boxes.astype(float).tolist(), record.labels.tolist(), record.masks, record.crowd.tolist())
        for (x0, y0, x1, y1), label, mask, crowd in zip(*columns, strict=True):
            assert isinstance(mask, RLE)
            rle = {"size": list(SIZE), "counts": mask.counts.decode()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": IDS[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(rle_area(rle)),
                    "iscrowd": int(crowd),
                    "segmentation": rle,
                }
            )
    categories = [
        {"id": number, "name": name, "frequency": letter}
        for number, name, letter in zip(IDS, dataset.classes, lists.frequency, strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}
