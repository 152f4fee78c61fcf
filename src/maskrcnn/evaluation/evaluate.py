"""A model, or the results of one, and a data set in, `Metrics` out, on one process or on many."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maskrcnn.data.open import open_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.evaluation.findings import Findings, given_findings, is_results, score
from maskrcnn.evaluation.metrics import Metrics
from maskrcnn.instances import Instances
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.ahead import prepare_ahead
from maskrcnn.predict.coco import to_coco
from maskrcnn.predict.devices import Precision
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.tiles import Tiling, predict_tiled
from maskrcnn.structures import Record

if TYPE_CHECKING:
    from accelerate import Accelerator


def evaluate(
    model: MaskRCNN | Predictor | str | Path | Sequence[Mapping[str, Any]],
    dataset: Dataset | str | Path,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    score_threshold: float | None = None,
    max_images: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    accelerator: Accelerator | None = None,
    max_detections: int | Sequence[int] | None = None,
    boundary: bool = False,
    lvis: bool = False,
    voc: bool = False,
    by_count: bool = False,
    tiling: Tiling | None = None,
) -> Metrics:
    """COCO box, mask and keypoint AP and AR of a model on a data set, by the same path as prediction; or of results.

    Classes are matched by name: what the model calls "cat" counts as the data set's "cat", whatever the labels and ids.
    Classes that only the model knows are ignored; those that only the data set knows are never found. Keypoints are
    measured where model and data set have the same ones, in the same order.

    Args:
        model: a model (left as it is), a predictor, or a checkpoint; or COCO results of any framework: a path that ends
            in .json, or a list of dicts, in the image and category ids of the data set.
        dataset: a data set, or a path; of a path with splits, "val" is taken.
        batch_size: images a forward pass; None: 8 on a GPU, 2 on a CPU. Results do not depend on it.
        device: "auto": where the model is when that is no CPU, else the best there is. Not used for a predictor.
        precision: "auto", "float32" or "bf16". Not used for a predictor.
        score_threshold: weaker detections do not count; None: all that the model gives, as COCO's AP wants.
        max_images: evaluate this many images, evenly spread over the data set.
        workers: threads that decode images; None: one a core, at most 8.
        progress: show a bar.
        accelerator: share the images out over its processes; every process returns the same metrics.
        max_detections: limits of detections an image and class, such as [1, 10, 300]: AR at each, everything else at
            the largest; None: COCO's 1, 10 and 100.
        boundary: measure boundary AP too.
        lvis: measure LVIS's numbers too; the data must be LVIS's.
        voc: measure Pascal VOC's AP too.
        by_count: measure AP by the number of objects in the image too.
        tiling: cut images larger than a tile up, as `Predictor.predict_tiled`.

    Raises:
        DataError: no images, none that can be read, no class in common, a wrong result, or lvis without LVIS's lists.
        WeightsError: the checkpoint cannot be read.
        ConfigError: limits of detections that are no positive numbers.
    """
    dataset = measured_part(dataset, max_images, truth_only=is_results(model))
    findings = find(
        model,
        dataset,
        batch_size=batch_size,
        device=device,
        precision=precision,
        score_threshold=score_threshold,
        workers=workers,
        progress=progress,
        accelerator=accelerator,
        tiling=tiling,
    )
    metrics = score(
        findings,
        dataset,
        max_detections=max_detections,
        boundary=boundary,
        lvis=lvis,
        voc=voc,
        by_count=by_count,
    )
    if accelerator is not None and accelerator.num_processes > 1:
        metrics = replace(metrics, speed=_broadcast(metrics.speed))
    return metrics


def find(
    model: MaskRCNN | Predictor | str | Path | Sequence[Mapping[str, Any]],
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    score_threshold: float | None = None,
    workers: int | None = None,
    progress: bool = True,
    accelerator: Accelerator | None = None,
    tiling: Tiling | None = None,
) -> Findings:
    """What a model finds in a data set, or what a file says that it found; see `evaluate` for arguments and errors."""
    if not len(dataset):
        raise DataError("no images to evaluate", path=dataset.name or None)
    if is_results(model):
        return given_findings(model, dataset, score_threshold or 0.0)  # type: ignore[arg-type]
    assert isinstance(model, (MaskRCNN, Predictor, str, Path, torch.nn.Module))
    if accelerator is not None and str(device) == "auto":
        device = accelerator.device
    predictor = _predictor(model, device, precision)
    labels = _label_map(predictor.model.classes, dataset)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)

    began = time.perf_counter()
    clock = _Clock()
    share = replace(dataset, records=_by_size(dataset.records, predictor)[rank::processes])
    results: list[dict[str, Any]] = []
    image_ids: list[int] = []
    found = predict_dataset(
        predictor,
        share,
        batch_size=batch_size,
        score_threshold=score_threshold or 0.0,
        workers=workers,
        progress=progress and rank == 0,
        clock=clock,
        tiling=tiling,
    )
    for record, instances in found:
        with clock("masks"):
            results += to_coco(_relabelled(instances, labels, dataset), record.image_id)
        image_ids.append(record.image_id)
    seconds = clock.seconds | {"total": time.perf_counter() - began}
    if processes > 1:
        results, image_ids, seconds = _gathered(results, image_ids, seconds)
    if not image_ids:
        raise DataError(f"none of the {len(dataset)} images can be read", path=dataset.name or None)

    config, ours, theirs = predictor.model.config, predictor.model.keypoints, dataset.keypoints
    same_points = ours is not None and theirs is not None and ours.names == theirs.names
    if config.keypoint is not None and not same_points and rank == 0:
        message = "keypoints are not measured: the data does not have those that the model finds"
        warnings.warn(message, stacklevel=2)
    return Findings(
        results,
        image_ids,
        masks=config.mask is not None,
        keypoints=config.keypoint is not None and same_points,
        max_detections=config.box.detections_per_image or 100,
        speed={"images_per_second": len(image_ids) / seconds.pop("total"), **seconds},
    )


def measured_part(dataset: Dataset | str | Path, max_images: int | None = None, *, truth_only: bool = False) -> Dataset:
    """The data set; of a path with splits "val"; of many images `max_images`, evenly spread.

    `truth_only`: as in `open_dataset`.
    """
    dataset = _opened(dataset, truth_only)
    return dataset if max_images is None else _thinned(dataset, max_images)


def predict_dataset(
    predictor: Predictor,
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    score_threshold: float = 0.0,
    workers: int | None = None,
    progress: bool = False,
    clock: _Clock | None = None,
    tiling: Tiling | None = None,
) -> Iterator[tuple[Record, Instances]]:
    """Each record with what the model finds in its image, original frame.

    Images of one padded size come together, largest first, so that batches are full and memory runs out at once or
    never. An image that cannot be read is left out with a warning. With a `tiling` they come one by one.
    """
    clock = clock or _Clock()
    if tiling is not None:
        yield from _predict_tiled(predictor, dataset, tiling, batch_size, score_threshold, clock, progress)
        return
    batch_size = batch_size or (2 if predictor.device.type == "cpu" else 8)
    workers = workers or min(8, os.cpu_count() or 1)
    records = _by_size(dataset.records, predictor)
    skipped = 0
    ahead = prepare_ahead(predictor.prepare, records, workers=workers, ahead=batch_size + 2 * workers)
    with _Bar(len(records), progress) as bar, contextlib.closing(ahead) as coming:
        for start in range(0, len(records), batch_size):
            readable, images = [], []
            for record in records[start : start + batch_size]:
                try:
                    with clock("load"):
                        images.append(next(coming).result())
                    readable.append(record)
                except DataError as error:
                    skipped += 1
                    warnings.warn(f"{error}; left out of the evaluation, {skipped} so far", stacklevel=2)
            with clock("model"):
                answers = predictor.predict_prepared(images, score_threshold, batch_size)
            for record, instances in zip(readable, answers, strict=True):
                yield record, replace(instances, image_id=record.image_id)
            bar.advance(len(readable))


def _predict_tiled(
    predictor: Predictor,
    dataset: Dataset,
    tiling: Tiling,
    batch_size: int | None,
    threshold: float,
    clock: _Clock,
    progress: bool,
) -> Iterator[tuple[Record, Instances]]:
    skipped = 0
    with _Bar(len(dataset), progress) as bar:
        for record in dataset.records:
            try:
                with clock("model"):
                    found = predict_tiled(predictor, record, tiling, threshold, batch_size)
            except DataError as error:
                skipped += 1
                warnings.warn(f"{error}; left out of the evaluation, {skipped} so far", stacklevel=3)
            else:
                yield record, replace(found, image_id=record.image_id)
            bar.advance(1)


# ---------------------------------------------------------------- what goes in


def _opened(dataset: Dataset | str | Path, truth_only: bool) -> Dataset:
    if isinstance(dataset, Dataset):
        return dataset
    opened = open_dataset(dataset, truth_only=truth_only)
    return opened.split("val") if "val" in opened.splits else opened


def _thinned(dataset: Dataset, count: int) -> Dataset:
    """`count` images, evenly spread, because data sets are often sorted by class."""
    chosen = np.linspace(0, len(dataset), min(count, len(dataset)), endpoint=False).astype(int)
    return replace(dataset, records=[dataset.records[index] for index in chosen])


def _predictor(model: MaskRCNN | Predictor | str | Path, device: str | torch.device, precision: Precision) -> Predictor:
    if isinstance(model, Predictor):
        return model
    if isinstance(model, (str, Path)):
        return Predictor.load(model, device, precision)
    home = next(model.parameters()).device
    return Predictor(model, home if str(device) == "auto" and home.type != "cpu" else device, precision)


def _label_map(classes: Sequence[str], dataset: Dataset) -> np.ndarray:
    """(C,) int64: the data set's label for each label of the model, by class name; -1 where it has none."""
    known = {name: label for label, name in enumerate(dataset.classes)}
    labels = np.array([known.get(name, -1) for name in classes], np.int64)
    if (labels < 0).all():
        raise DataError(
            f"the model and the data have no class in common: the model knows {_listed(classes)}; "
            f"the data has {_listed(dataset.classes)}; name those of the model with --label-map (classes= in Python), "
            "or rename those of the data",
            path=dataset.name or None,
        )
    return labels


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _relabelled(instances: Instances, labels: np.ndarray, dataset: Dataset) -> Instances:
    """The same instances in the data set's classes, without those of classes that it does not have."""
    kept = instances[labels[instances.labels] >= 0]
    return replace(kept, labels=labels[kept.labels], classes=dataset.classes, category_ids=dataset.category_ids)


def _by_size(records: Sequence[Record], predictor: Predictor) -> list[Record]:
    """Images of one padded size together, largest first."""

    def padded(record: Record) -> tuple[int, int, int]:
        height, width = predictor.fit(record.size)[1]
        return -height * width, height, width

    return sorted(records, key=padded)


# ---------------------------------------------------------------- processes, time, progress


def _gathered(
    results: list[dict[str, Any]], image_ids: list[int], seconds: dict[str, float]
) -> tuple[list[dict[str, Any]], list[int], dict[str, float]]:
    """Everybody's results on every process; of the times the longest."""
    from accelerate.utils import gather_object

    times = gather_object([seconds])
    longest = {name: max(each[name] for each in times) for name in seconds}
    return gather_object(results), gather_object(image_ids), longest


def _broadcast(value: dict[str, float]) -> dict[str, float]:
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


@dataclass
class _Clock:
    """Seconds spent in each part: `with clock("load"): ...`."""

    seconds: dict[str, float] = field(default_factory=lambda: {"load": 0.0, "model": 0.0, "masks": 0.0})
    part: str = ""
    began: float = 0.0

    def __call__(self, part: str) -> _Clock:
        self.part = part
        return self

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds[self.part] = self.seconds.get(self.part, 0.0) + time.perf_counter() - self.began


class _Bar:
    """A progress bar, or nothing."""

    def __init__(self, total: int, shown: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, disable=not shown, transient=True)
        self.task = self.progress.add_task("evaluating", total=total)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def advance(self, count: int) -> None:
        self.progress.advance(self.task, count)
