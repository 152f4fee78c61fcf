"""Opening annotations of the size of COCO train2017: 118,000 images, 860,000 objects, 435 MB, made up.

python benchmarks/scale.py FOLDER     writes them there, unless they are there; then times the first opening, the
                                      second one from the cache, and what a process more costs in memory
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
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


OPEN = """
import sys, time
import maskrcnn.data.loader, maskrcnn.plan
from maskrcnn import open_dataset
from maskrcnn.config import DataConfig

def private():  # MB that are this process's alone; pages of the mapped files are shared by all
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

before, start = private(), time.perf_counter()
dataset = open_dataset(sys.argv[1])
opened = time.perf_counter() - start
train, val, _ = maskrcnn.plan.choose_splits(dataset)
maskrcnn.plan.plan(train)
loader = maskrcnn.data.loader.Loader(train, DataConfig(workers=0), batch_size=2, training=True)
[dataset[i] for i in range(0, len(dataset), 100)]
print(f"{opened:.2f} s to open, {time.perf_counter() - start:.2f} s to the first batch, {private() - before:.0f} MB")
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    file = folder / "annotations" / "instances_train.json"
    if not file.exists():
        write_large(folder)
    print(f"{file.stat().st_size / 1e6:.0f} MB of JSON, {IMAGES} images, {OBJECTS} objects")
    with tempfile.TemporaryDirectory() as cache:
        for turn in ("first", "from the cache", "from the cache, again"):
            command = [sys.executable, "-c", OPEN, str(file)]
            done = subprocess.run(command, env={**os.environ, "MASKRCNN_CACHE": cache}, capture_output=True, text=True)
            print(f"{turn}: {done.stdout.strip() or done.stderr.strip()}")


if __name__ == "__main__":
    main()
