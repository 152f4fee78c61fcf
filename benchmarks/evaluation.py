"""Time of an evaluation with as much to do as COCO val2017: 5,000 images, 36,000 objects, 100 results in each image.

    python benchmarks/evaluation.py [--images 5000] [--json FILE]

Truth and results are made up: ellipses on 480 x 640 pixels; half of the results are copies of objects, moved a little.
The time of reading the results from a JSON file stands by itself. Everything runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.explain import compare_findings, explain_findings
from maskrcnn.evaluation.findings import Findings, given_findings, score, truth_of
from maskrcnn.structures import RLE, Record

HEIGHT, WIDTH, CLASSES, RESULTS = 480, 640, 80, 100
OBJECTS = 7.2  # an image: 36,000 in 5,000
ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 4) x0 y0 x1 y1; a third of them small, medium and large, as in COCO."""
    side = rng.choice([20.0, 60.0, 180.0], (count, 1)) * rng.uniform(0.5, 1.5, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - side)
    return np.concatenate([corner, corner + side], axis=1)


def ellipse(box: list[float]) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(ANGLES)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(ANGLES)
    return coco_mask.fr_poly(np.stack([x, y], axis=1).ravel().tolist(), HEIGHT, WIDTH)


def make(images: int) -> tuple[Dataset, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    records, results = [], []
    for number in range(1, images + 1):
        count = rng.poisson(OBJECTS)
        boxes, labels = random_boxes(rng, count), rng.integers(0, CLASSES, count)
        rles = [ellipse(box) for box in boxes.tolist()]
        records.append(
            Record(
                path=Path(f"{number}.jpg"),
                image_id=number,
                height=HEIGHT,
                width=WIDTH,
                boxes=boxes.astype(np.float32),
                labels=labels,
                masks=tuple(RLE((HEIGHT, WIDTH), rle["counts"]) for rle in rles),
                crowd=rng.random(count) < 0.01,
                areas=np.array([coco_mask.area(rle) for rle in rles], np.float32),
                annotation_ids=np.arange(count),
            )
        )
        found, classes = random_boxes(rng, RESULTS), rng.integers(0, CLASSES, RESULTS)
        if count:
            copies = rng.integers(0, count, RESULTS // 2)
            size = np.tile(boxes[copies, 2:] - boxes[copies, :2], 2)
            moved = boxes[copies] + rng.normal(0, 0.1, (RESULTS // 2, 4)) * size
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
            found[: RESULTS // 2] = np.clip(moved, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            same = rng.random(RESULTS // 2) < 0.8
            classes[: RESULTS // 2] = np.where(same, labels[copies], classes[: RESULTS // 2])
        scores = rng.random(RESULTS)
        for box, label, value in zip(found.tolist(), classes.tolist(), scores.tolist(), strict=True):
            x0, y0, x1, y1 = box
            mask = {"size": [HEIGHT, WIDTH], "counts": ellipse(box)["counts"].decode()}
            place = {"image_id": number, "category_id": label + 1, "score": value}
            results.append({**place, "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": mask})
    names = tuple(f"class {label}" for label in range(CLASSES))
    return Dataset(records, names, tuple(range(1, CLASSES + 1)), name="made"), results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="write the seconds here as well")
    options = parser.parse_args()
    dataset, results = make(options.images)
    seconds: dict[str, float] = {}

    def timed(name: str, job: Callable[[], Any]) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        answer = job()
        seconds[name] = time.perf_counter() - began
        print(f"{name:48} {seconds[name]:7.2f} s {time.process_time() - busy:7.2f} s of processor", flush=True)
        return answer

    print(f"{len(dataset)} images, {len(dataset.table.labels)} objects, {len(results)} results")
    findings = Findings(results, dataset.table.image_ids.tolist())
    timed("truth, once for a data set", lambda: truth_of(dataset))
    timed("box and mask AP", lambda: score(findings, dataset))
    timed("the same, and by number of objects", lambda: score(findings, dataset, by_count=True))
    timed("box and mask AP, boundary AP, VOC AP", lambda: score(findings, dataset, boundary=True, voc=True))
    timed("explain, 200 draws", lambda: explain_findings(findings, dataset))
    timed("compare, 200 draws", lambda: compare_findings(findings, findings, dataset, samples=200))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        file.write_text(json.dumps(results))
        print(f"results file: {file.stat().st_size / 1e6:.0f} MB")
        timed("reading and checking the results file", lambda: given_findings(file, dataset))
    if options.json:
        options.json.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
