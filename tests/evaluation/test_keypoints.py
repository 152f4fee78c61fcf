"""COCO's 10 numbers of keypoints against pycocotools, on random truth and detections."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.coco import GroundTruth, Metrics, measure
from maskrcnn.evaluation.keypoints import KEYPOINT_NUMBERS, oks_sigmas
from maskrcnn.structures import KeypointSchema, Record

PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
PERSON = ("nose", *(f"{side}_{part}" for part in PARTS for side in ("left", "right")))
CATEGORY_IDS = (7, 3)
SIZE = (300, 400)


def random_dataset(seed: int, names: tuple[str, ...], counts: tuple[int, ...] = (5, 0, 9, 1, 0, 7)) -> Dataset:
    """Small to large objects; of some no keypoint is labelled, some are crowds, some images have none at all."""
    rng = np.random.default_rng(seed)
    records = []
    for index, n in enumerate(counts):
        sides = rng.choice([15, 60, 150], (n, 1)) * rng.uniform(0.6, 1.3, (n, 2))
        corners = rng.uniform(0, 200, (n, 2))
        points = corners[:, None] + rng.random((n, len(names), 2)) * sides[:, None]
        seen = rng.integers(0, 3, (n, len(names), 1)) * (rng.random((n, 1, 1)) > 0.2)
        records.append(
            Record(
                path=Path(f"{index}.jpg"),
                image_id=1000 - 7 * index,
                height=SIZE[0],
                width=SIZE[1],
                boxes=np.concatenate([corners, corners + sides], axis=1).astype(np.float32),
                labels=rng.integers(0, 2, n),
                masks=(),
                crowd=rng.random(n) < 0.15,
                areas=(0.6 * sides.prod(axis=1)).astype(np.float32),
                annotation_ids=np.arange(n),
                keypoints=(np.concatenate([points, seen], axis=2) * (seen > 0)).astype(np.float32) if n != 1 else None,
            )
        )
    return Dataset(records, ("man", "ape"), CATEGORY_IDS, keypoints=KeypointSchema(names))


def random_results(dataset: Dataset, seed: int, extra: int = 15) -> list[dict]:
    """Shifted copies of the truth, and more from nowhere than are looked at."""
    rng = np.random.default_rng(seed)
    assert dataset.keypoints is not None
    results = []
    for record in dataset:
        count = len(dataset.keypoints.names)
        truth = np.zeros((len(record), count, 3)) if record.keypoints is None else record.keypoints
        nowhere = rng.uniform(0, 300, (extra, count, 3))
        for index, points in enumerate([*truth, *nowhere]):
            moved = points + rng.normal(0, rng.choice([1, 4, 9]), points.shape)
            x0, y0 = moved[:, :2].min(axis=0)
            label = record.labels[index] if index < len(record) else rng.integers(0, 2)
            results.append(
                {
                    "image_id": record.image_id,
                    "category_id": CATEGORY_IDS[label],
                    "bbox": [x0, y0, 20.0, 20.0],
                    "keypoints": moved.ravel().tolist(),
                    "score": round(float(rng.random()), 2),  # with ties
                }
            )
    return results


def reference(dataset: Dataset, results: list[dict], kind: str) -> COCOeval:
    """pycocotools on a COCO file of the same truth, and on a results file with `kind` alone."""
    annotations = []
    for record in dataset:
        for index, box in enumerate(record.boxes.astype(float)):
            points = np.zeros((len(dataset.keypoints.names), 3))  # type: ignore[union-attr]
            if record.keypoints is not None:
                points = record.keypoints[index].astype(float)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": CATEGORY_IDS[record.labels[index]],
                    "bbox": [*box[:2], *(box[2:] - box[:2])],
                    "area": float(record.areas[index]),
                    "iscrowd": int(record.crowd[index]),
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in dataset],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, dataset.classes, strict=True)],
    }
    keep = ("image_id", "category_id", "score", kind)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes([{name: result[name] for name in keep} for result in results])
        evaluation = COCOeval(truth, found, kind)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.array(oks_sigmas(dataset.keypoints.names))  # type: ignore[union-attr]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("names", [PERSON, ("head", "tail", "nose")], ids=["person", "other"])
@pytest.mark.parametrize("seed", range(4))
def test_all_numbers_equal_pycocotools(seed: int, names: tuple[str, ...]) -> None:
    dataset = random_dataset(seed, names)
    results = random_results(dataset, seed)
    metrics = measure(GroundTruth(dataset), results, keypoints=True)
    expected = reference(dataset, results, "keypoints")
    assert metrics.keypoint is not None
    found = [metrics.keypoint[name] for name in KEYPOINT_NUMBERS]
    np.testing.assert_allclose(found, expected.stats, atol=1e-9)
    assert 0 < metrics.keypoint["ap"] < 1
    for name, category in zip(dataset.classes, CATEGORY_IDS, strict=True):
        column = expected.eval["precision"][:, :, sorted(CATEGORY_IDS).index(category), 0, 0]
        assert metrics.per_class[name]["keypoint"] == pytest.approx(column[column > -1].mean(), abs=1e-9)
    boxes = reference(dataset, results, "bbox")
    np.testing.assert_allclose(list(metrics.box.values()), boxes.stats, atol=1e-9)


def test_sigmas_are_cocos() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCOeval(iouType="keypoints").params.kpt_oks_sigmas
    np.testing.assert_allclose(oks_sigmas(PERSON), theirs)
    assert oks_sigmas(("tail", "nose")) == [0.05, 0.026]


def test_table_and_round_trip() -> None:
    dataset = random_dataset(0, PERSON)
    metrics = measure(GroundTruth(dataset), random_results(dataset, 0), keypoints=True)
    assert metrics.keypoint is not None
    row = next(line.split() for line in str(metrics).splitlines() if line.startswith("keypoint"))
    assert row[1] == f"{metrics.keypoint['ap']:.3f}"
    assert "box AP  keypoint AP" in str(metrics)
    assert Metrics.from_dict(metrics.to_dict()) == metrics


def test_nothing_found_and_not_asked_for() -> None:
    dataset = random_dataset(0, PERSON)
    truth = GroundTruth(dataset)
    none = measure(truth, [], keypoints=True).keypoint
    assert none is not None
    assert none["ap"] == 0
    assert measure(truth, []).keypoint is None
    unlabelled = Dataset(random_dataset(0, PERSON, (0, 1)).records, ("man", "ape"), CATEGORY_IDS, keypoints=None)
    assert measure(GroundTruth(unlabelled), [], keypoints=True).keypoint is None
    named = Dataset(unlabelled.records, ("man", "ape"), CATEGORY_IDS, keypoints=KeypointSchema(PERSON))
    assert measure(GroundTruth(named), [], keypoints=True).keypoint["ap"] == -1  # type: ignore[index]
