"""The 12 numbers against pycocotools, on random truth and detections."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.evaluation.coco import NUMBERS, GroundTruth, Metrics, measure
from maskrcnn.structures import RLE, Polygons, Record

CATEGORY_IDS = (7, 3, 90)
SIZE = (160, 200)


def random_box(rng: np.random.Generator) -> np.ndarray:
    side = rng.choice([8, 40, 110], 2) * rng.uniform(0.6, 1.3, 2)  # small, medium and large
    corner = rng.uniform(0, 1, 2) * np.maximum(np.array(SIZE[::-1]) - side, 0)
    return np.concatenate([corner, np.minimum(corner + side, SIZE[::-1])]).astype(np.float32)


def ring(box: np.ndarray) -> np.ndarray:
    """A diamond in the box."""
    x0, y0, x1, y1 = box.astype(float)
    return np.array([[(x0 + x1) / 2, y0], [x1, (y0 + y1) / 2], [(x0 + x1) / 2, y1], [x0, (y0 + y1) / 2]])


def rle(box: np.ndarray) -> dict:
    return coco_mask.merge(coco_mask.frPyObjects([ring(box).reshape(-1).tolist()], *SIZE))


def box_rle(box: np.ndarray) -> dict:
    x0, y0, x1, y1 = box.tolist()
    return coco_mask.merge(coco_mask.frPyObjects([[x0, y0, x1, y0, x1, y1, x0, y1]], *SIZE))


def random_dataset(seed: int, counts: tuple[int, ...], classes: int = 2) -> Dataset:
    """Images with `counts` objects; polygons, and crowds as RLE. The last of three classes has no object."""
    rng = np.random.default_rng(seed)
    records = []
    for index, count in enumerate(counts):
        boxes = np.array([random_box(rng) for _ in range(count)], np.float32).reshape(-1, 4)
        crowd = rng.random(count) < 0.2
        masks = [RLE(SIZE, rle(b)["counts"]) if c else Polygons((ring(b),)) for b, c in zip(boxes, crowd, strict=True)]
        records.append(
            Record(
                path=Path(f"{index}.jpg"),
                image_id=1000 - 7 * index,  # ids need not ascend
                height=SIZE[0],
                width=SIZE[1],
                boxes=boxes,
                labels=rng.integers(0, classes, count),
                masks=tuple(masks),
                crowd=crowd,
                areas=np.array([coco_mask.area(rle(box)) for box in boxes], np.float32),
                annotation_ids=np.arange(count),
            )
        )
    return Dataset(records, ("cat", "dog", "owl"), CATEGORY_IDS)


def random_results(dataset: Dataset, seed: int, extra: int = 4) -> list[dict]:
    """Shifted copies of the truth, some of a wrong class, and some from nowhere."""
    rng = np.random.default_rng(seed)
    results = []
    for record in dataset:
        found = [(box + rng.normal(0, 3, 4), label) for box, label in zip(record.boxes, record.labels, strict=True)]
        found += [(random_box(rng), rng.integers(0, 3)) for _ in range(extra)]
        for box, label in found:
            box = np.concatenate([np.minimum(box[:2], box[2:] - 1), box[2:]]).astype(float)
            category = CATEGORY_IDS[label if rng.random() < 0.9 else (label + 1) % 3]
            counts = rle(box)["counts"].decode()
            results.append(
                {
                    "image_id": record.image_id,
                    "category_id": category,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": round(float(rng.random()), 2),  # with ties
                    "segmentation": {"size": list(SIZE), "counts": counts},
                }
            )
    return results


def reference(dataset: Dataset, results: list[dict], kind: str, max_dets: tuple[int, ...] = (1, 10, 100)) -> COCOeval:
    """pycocotools on a COCO file of the same truth, written independently of `GroundTruth`."""
    annotations = []
    for record in dataset:
        for box, label, crowd, area in zip(record.boxes, record.labels, record.crowd, record.areas, strict=True):
            mask = rle(box)
            x0, y0, x1, y1 = box.astype(float)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": CATEGORY_IDS[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(area),
                    "iscrowd": int(crowd),
                    "segmentation": mask if crowd else [ring(box).reshape(-1).tolist()],
                }
            )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in dataset],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, dataset.classes, strict=True)],
    }
    drop = "bbox" if kind == "segm" else "segmentation"
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = COCO()
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
        if results:
            found = truth.loadRes([{k: v for k, v in result.items() if k != drop} for result in results])
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
        if len(max_dets) == 3:
            evaluation.summarize()
    return evaluation


def assert_same(metrics: Metrics, dataset: Dataset, results: list[dict]) -> None:
    for kind, numbers in (("bbox", metrics.box), ("segm", metrics.mask)):
        expected = reference(dataset, results, kind)
        assert numbers is not None
        np.testing.assert_allclose([numbers[name] for name in NUMBERS], expected.stats, atol=1e-9, err_msg=kind)
        for name, category in zip(dataset.classes, CATEGORY_IDS, strict=True):
            column = expected.eval["precision"][:, :, sorted(CATEGORY_IDS).index(category), 0, 2]
            ap = column[column > -1].mean() if (column > -1).any() else -1
            assert metrics.per_class[name]["box" if kind == "bbox" else "mask"] == pytest.approx(ap, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_all_numbers_equal_pycocotools(seed: int) -> None:
    dataset = random_dataset(seed, (5, 0, 12, 1, 0, 7))
    results = random_results(dataset, seed)
    metrics = measure(GroundTruth(dataset), results)
    assert 0 < metrics.box["ap"] < 1
    assert metrics.mask is not None
    assert 0 < metrics.mask["ap"] < 1
    assert_same(metrics, dataset, results)


def test_ids_beyond_what_a_float_holds() -> None:
    dataset = random_dataset(3, (5, 4))
    results = random_results(dataset, 3)
    wanted = measure(GroundTruth(dataset), results)
    larger = {1000: 2**53 + 1, 993: 2**53}
    records = [replace(record, image_id=larger[record.image_id]) for record in dataset]
    moved = [{**result, "image_id": larger[result["image_id"]]} for result in results]
    assert measure(GroundTruth(Dataset(records, dataset.classes, CATEGORY_IDS)), moved) == wanted


def test_results_of_another_data_set() -> None:
    dataset = random_dataset(0, (3, 2))
    result = random_results(dataset, 0)[0]
    with pytest.raises(DataError, match="a result is of image 5, which the data set does not have"):
        measure(GroundTruth(dataset), [{**result, "image_id": 5}])
    with pytest.raises(DataError, match="a result is of category 5, which the data set does not have"):
        measure(GroundTruth(dataset), [{**result, "category_id": 5}])


def test_no_detection_at_all() -> None:
    dataset = random_dataset(0, (3, 0, 2))
    metrics = measure(GroundTruth(dataset), [])
    assert_same(metrics, dataset, [])
    assert metrics.box["ap"] == 0


def test_no_object_at_all_gives_minus_one() -> None:
    dataset = random_dataset(0, (0, 0))
    results = random_results(dataset, 0)
    metrics = measure(GroundTruth(dataset), results)
    assert metrics.box["ap"] == -1
    assert metrics.objects == 0
    assert "-" in str(metrics)
    # A data set without one mask has no mask AP.
    assert metrics.mask is None


def test_class_without_objects_gives_minus_one() -> None:
    dataset = random_dataset(0, (4, 4))
    metrics = measure(GroundTruth(dataset), random_results(dataset, 0))
    assert metrics.per_class["owl"] == {"box": -1, "mask": -1}


def test_a_subset_of_the_images() -> None:
    dataset = random_dataset(3, (6, 4, 9, 2))
    results = random_results(dataset, 3)
    part = dataset[1:3]
    chosen = [record.image_id for record in part]
    metrics = measure(GroundTruth(dataset), [r for r in results if r["image_id"] in chosen], image_ids=chosen)
    assert_same(metrics, part, [r for r in results if r["image_id"] in chosen])
    assert metrics.images == 2
    assert metrics.objects == sum(int((~record.crowd).sum()) for record in part)


def test_no_image_is_not_all_images() -> None:
    metrics = measure(GroundTruth(random_dataset(0, (2,))), [], image_ids=[])
    assert (metrics.box["ap"], metrics.images) == (-1, 0)


def test_more_than_100_detections() -> None:
    """AP at 100 stays the headline; `ap_all` counts them all."""
    dataset = random_dataset(1, (60, 30))
    results = random_results(dataset, 1, extra=150)
    metrics = measure(GroundTruth(dataset), results, max_detections=300)
    assert_same(metrics, dataset, results)
    precision = reference(dataset, results, "bbox", (1, 10, 300)).eval["precision"][:, :, :, 0, 2]
    assert metrics.box["ap_all"] == pytest.approx(precision[precision > -1].mean())
    assert "AP@300" in str(metrics)
    assert "ap_all" not in measure(GroundTruth(dataset), results).box


def test_perfect_results_give_one() -> None:
    dataset = random_dataset(5, (4, 3))
    results = [
        {
            "image_id": record.image_id,
            "category_id": CATEGORY_IDS[record.labels[i]],
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "score": 0.9,
            "segmentation": {"size": list(SIZE), "counts": rle(box)["counts"].decode()},
        }
        for record in dataset
        for i, box in enumerate(record.boxes)
    ]
    metrics = measure(GroundTruth(dataset), results)
    assert metrics.mask is not None
    assert metrics.box["ap"] == pytest.approx(1)
    assert metrics.mask["ap"] == pytest.approx(1)


def test_an_image_without_masks_among_others_counts_its_boxes() -> None:
    dataset = random_dataset(5, (4, 3))
    records = [replace(dataset[0], masks=()), dataset[1]]
    results = [
        {
            "image_id": record.image_id,
            "category_id": CATEGORY_IDS[record.labels[i]],
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "score": 0.9,
            "segmentation": {"size": list(SIZE), "counts": (rle if record.masks else box_rle)(box)["counts"].decode()},
        }
        for record in records
        for i, box in enumerate(record.boxes)
    ]
    metrics = measure(GroundTruth(Dataset(records, dataset.classes, dataset.category_ids)), results)
    assert metrics.mask is not None
    assert metrics.mask["ap"] == pytest.approx(1)


def test_boxes_only() -> None:
    dataset = random_dataset(0, (3, 2))
    truth = GroundTruth(dataset)
    results = [{k: v for k, v in r.items() if k != "segmentation"} for r in random_results(dataset, 0)]
    metrics = measure(truth, results, masks=False)
    assert metrics.mask is None
    assert set(metrics.per_class["cat"]) == {"box"}


def test_metrics_survive_json_and_print() -> None:
    dataset = random_dataset(0, (3, 2))
    metrics = measure(GroundTruth(dataset), random_results(dataset, 0))
    again = Metrics.from_dict(json.loads(json.dumps(metrics.to_dict())) | {"later": 1})
    assert again == metrics
    assert str(metrics).splitlines()[0].startswith("2 images")
    assert all(word in str(metrics) for word in ("box", "mask", "AP50", "cat", "owl"))


def test_a_mask_of_another_size_than_its_image() -> None:
    dataset = random_dataset(0, (1,))
    record = replace(dataset[0], masks=(RLE((10, 20), b"0"),), annotation_ids=np.array([77]))
    with pytest.raises(
        DataError, match=r"0\.jpg, image 1000, annotation 77: mask is 20 x 10 pixels but its image 200 x"
    ):
        GroundTruth(Dataset([record], dataset.classes, dataset.category_ids))
