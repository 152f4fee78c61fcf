"""Evaluation: COCO's numbers of made-up results on the whole data, and the whole path of a model on some images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.subject import Subject, random_subject
from maskrcnn.benchmark.timing import Times, measure
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.evaluation.coco import GroundTruth
from maskrcnn.evaluation.coco import measure as score
from maskrcnn.evaluation.evaluate import evaluate
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.predict.predictor import Predictor

SYNTHETIC = 60  # drawn images, where no data is given
RESULTS = 100  # made up for an image that has objects
MODEL_IMAGES = 10  # that go through the network


@contextmanager
def evaluation_data(dataset: Dataset | None) -> Iterator[Dataset]:
    """The split `val` of the user's data, or drawn shapes as long as the context lasts."""
    if dataset is not None:
        yield dataset.split("val") if "val" in dataset.splits else dataset
        return
    with tempfile.TemporaryDirectory() as folder:
        yield open_dataset(write_shapes(folder, train=0, val=SYNTHETIC, size=(480, 640)))


def run(context: Context, subject: Subject, dataset: Dataset | None) -> list[Row]:
    """Rows of scoring alone, and of each part of an evaluation."""
    with evaluation_data(dataset) as chosen:
        if not len(chosen):
            raise DataError("no images to evaluate", path=chosen.name or None)
        return _scoring(context, subject, chosen) + _whole(context, subject, chosen)


def made_up_results(dataset: Dataset) -> list[dict[str, Any]]:
    """COCO results: the true objects again and again, with random scores and, for half of them, random classes."""
    rng = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for record in dataset.records:
        if not len(record):
            continue
        boxes = record.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rles = [mask_to_rle(mask, record.size) for mask in record.masks]
        for index in rng.integers(0, len(record), RESULTS).tolist():
            guess = rng.integers(0, len(dataset.classes)) if rng.random() < 0.5 else record.labels[index]
            result: dict[str, Any] = {
                "image_id": record.image_id,
                "category_id": dataset.category_ids[guess],
                "score": float(rng.random()),
                "bbox": boxes[index].tolist(),
            }
            if rles:
                result["segmentation"] = {**rles[index], "counts": rles[index]["counts"].decode("ascii")}
            found.append(result)
    return found


def _scoring(context: Context, subject: Subject, dataset: Dataset) -> list[Row]:
    made = made_up_results(dataset)
    context.say(f"eval: scoring {len(made)} made-up results on {len(dataset)} images")
    truth = GroundTruth(dataset)
    jobs = {"truth": lambda: GroundTruth(dataset), "scoring": lambda: score(truth, made, masks=dataset.has_masks)}
    times = measure(jobs, context.device, repeat=context.settings.repeat)
    extra = {"images": len(dataset), "objects": int(dataset.table.counts.sum())}
    return [_row(subject, name, times[name], len(dataset), {**extra, "results": len(made)}) for name in jobs]


def _whole(context: Context, subject: Subject, dataset: Dataset) -> list[Row]:
    """`maskrcnn evaluate` on a few images, by part."""
    if subject.random:  # the random network learns the data's classes by name
        subject = random_subject(subject.name, subject.config, dataset.classes)
    images = min(MODEL_IMAGES, len(dataset))
    context.say(f"eval: the model on {images} of {len(dataset)} images")
    predictor = Predictor(subject.model, context.device, context.settings.precision)
    batch = context.settings.batches[0] if context.settings.batches else None
    metrics = evaluate(predictor, dataset, max_images=images, batch_size=batch, progress=False)
    names = {"load": "load and resize", "model": "network", "masks": "predictions to RLE"}
    seconds = {name: metrics.speed[key] for key, name in names.items()}
    seconds["whole evaluation"] = metrics.images / metrics.speed["images_per_second"]
    return [
        _row(subject, name, Times((value,)), metrics.images, {"images": metrics.images})
        for name, value in seconds.items()
    ]


def _row(subject: Subject, name: str, times: Times, images: int, extra: dict[str, Any]) -> Row:
    return Row(
        "eval",
        name,
        subject.name,
        None,
        None,
        **times.columns,  # type: ignore[arg-type]
        images_per_second=images / times.median if times.median else None,
        extra=extra,
    )
