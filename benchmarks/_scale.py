"""An annotation file of the size of COCO train2017, made up: 118,000 images, 860,000 objects, about 450 MB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

IMAGES, OBJECTS, CLASSES = 118_000, 860_000, 80


def write_large(folder: Path, images: int = IMAGES, objects: int = OBJECTS, seed: int = 0) -> Path:
    """`folder/annotations/instances_train.json` and empty files in `folder/train`; returns the JSON's path."""
    rng = np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "train").mkdir(exist_ok=True)
    for index in range(images):
        (folder / "train" / f"{index:012d}.jpg").touch()
    file = folder / "annotations" / "instances_train.json"
    owners = np.sort(rng.integers(0, images, objects))
    points = np.clip(rng.gamma(2.0, 11.0, objects), 4, 200).astype(int)  # COCO: about 22 corners a polygon
    with file.open("w") as out:
        out.write('{"info": {}, "images": [')
        out.write(", ".join(
            json.dumps({"license": 1, "file_name": f"{i:012d}.jpg", "coco_url": f"http://images/{i:012d}.jpg",
                        "height": 480, "width": 640, "id": i + 1})
            for i in range(images)
        ))  # fmt: skip
        out.write('], "annotations": [')
        for number in range(objects):
            out.write((", " if number else "") + _annotation(number, int(owners[number]), int(points[number]), rng))
        categories = [{"supercategory": "thing", "id": c + 1, "name": f"class {c}"} for c in range(CLASSES)]
        out.write(f'], "categories": {json.dumps(categories)}}}')
    return file


def _annotation(number: int, owner: int, points: int, rng: np.random.Generator) -> str:
    centre, radius = rng.uniform([100, 100], [540, 380]), rng.uniform(5, 90)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    ring = np.round(centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), 2)
    (x0, y0), (x1, y1) = ring.min(axis=0), ring.max(axis=0)
    return json.dumps({
        "segmentation": [ring.ravel().tolist()], "area": round(float(radius**2 * 3), 4), "iscrowd": 0,
        "image_id": owner + 1, "bbox": [float(x0), float(y0), round(float(x1 - x0), 2), round(float(y1 - y0), 2)],
        "category_id": number % CLASSES + 1, "id": number + 1,
    })  # fmt: skip
