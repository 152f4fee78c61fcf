"""Why an evaluation comes out as it does: one record with all that a report, a notebook or a tracker draws.

Everything is counted at one IoU (0.5 unless another is asked for), except the intervals of AP, over COCO's ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.evaluation.bootstrap import SAMPLES, Difference, Interval, bootstrap_ap, compare_ap
from maskrcnn.evaluation.calibration import Bin, Calibration, calibration
from maskrcnn.evaluation.confusion import Confusion, confusion_matrix
from maskrcnn.evaluation.curves import Curve, class_curves
from maskrcnn.evaluation.evaluate import find, measured_part
from maskrcnn.evaluation.findings import Findings, Matter, is_results, matter_of, truth_of
from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Kind
from maskrcnn.evaluation.suspects import (
    Album,
    Shown,
    Suspect,
    WorstImage,
    all_images,
    label_errors,
    worst_images,
)
from maskrcnn.evaluation.tide import Decided, decide, error_costs, error_counts
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.predictor import Predictor

COMPARED, MANY_IMAGES = 1000, 2000
"""Draws of a comparison, and the images beyond which `SAMPLES` must do."""
Source = MaskRCNN | Predictor | str | Path | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Tide:
    """TIDE's errors, see `maskrcnn.evaluation.tide`.

    Attributes:
        ap: AP at the IoU, over classes with objects or results.
        counts: kind of error -> how many.
        costs: kind of error -> AP that would be gained without it; "FalsePos" and "FalseNeg" too.
    """

    ap: float
    counts: dict[str, int]
    costs: dict[str, float]


@dataclass(frozen=True)
class Part:
    """What is explained of boxes, or of masks.

    Attributes:
        ap: AP over ten IoU thresholds, with its interval; `class_ap` of each class with objects.
        overall: curve of all classes together; its `best_score` is the score threshold of what follows.
        curves: of each class.
        confusion: true class against found class.
        tide: kinds of errors and what they cost.
        calibration: scores against truth.
        worst: images with the most errors.
        suspects: annotations that are likely wrong.
    """

    ap: Interval
    class_ap: dict[str, Interval]
    overall: Curve
    curves: list[Curve]
    confusion: Confusion
    tide: Tide
    calibration: Calibration
    worst: list[WorstImage]
    suspects: list[Suspect]

    @property
    def thresholds(self) -> dict[str, float]:
        """Class name -> score threshold with the best F1."""
        return {curve.name: curve.best_score for curve in self.curves}


@dataclass(frozen=True)
class Explanation:
    """An explanation of results on a data set.

    Attributes:
        name: of the data set.
        classes: names.
        images, objects, results: how many; crowds are no objects.
        iou: least IoU of a right result.
        parts: "box", and "mask" where there are masks.
    """

    name: str
    classes: list[str]
    images: int
    objects: int
    results: int
    iou: float
    parts: dict[str, Part] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Explanation:
        """The inverse of `to_dict`."""
        parts = {kind: _part_from(part) for kind, part in data["parts"].items()}
        return Explanation(**{**data, "parts": parts})

    def __str__(self) -> str:
        from maskrcnn.evaluation.explained_text import lines

        return "\n".join(lines(self))


def explain(
    model: Source,
    dataset: Dataset | str | Path,
    *,
    iou: float = 0.5,
    samples: int = SAMPLES,
    seed: int = 0,
    worst: int = 20,
    max_images: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Explanation:
    """Explain what a model finds and what it does not.

    Args:
        model: a model, predictor, checkpoint, results file (.json) or list of results, as in `evaluate`.
        dataset: a data set, or a path; of a path with splits, "val" is taken.
        iou: least IoU of a right result.
        samples: draws of the bootstrap; 0: no intervals.
        seed: of the draws.
        worst: images that are listed with their results; of suspects so many of each problem.
        max_images: as in `evaluate`.
        device: where the model runs.
        progress: show a bar.

    Raises:
        ConfigError: an IoU that is not above 0.1 and at most 1.
        DataError, WeightsError: as in `evaluate`.
    """
    _check_iou(iou)
    dataset = measured_part(dataset, max_images, truth_only=is_results(model))
    findings = find(model, dataset, device=device, progress=progress)
    return explain_findings(findings, dataset, iou=iou, samples=samples, seed=seed, worst=worst)


def explain_findings(
    findings: Findings,
    dataset: Dataset,
    *,
    iou: float = 0.5,
    samples: int = SAMPLES,
    seed: int = 0,
    worst: int = 20,
) -> Explanation:
    """`explain` for what was found already."""
    _check_iou(iou)
    matter = matter_of(truth_of(dataset), findings)
    parts = {kind: _explained(matter, dataset, kind, iou, samples, seed, worst) for kind in matter.pairs}
    counted = matter.images >= 0
    return Explanation(
        dataset.name,
        list(dataset.classes),
        int(counted.sum()),
        int(matter.images[counted].sum()),
        len(matter.found),
        iou,
        {str(kind): part for kind, part in parts.items()},
    )


def look_at(findings: Findings, images: Dataset, score: float = 0.5, *, iou: float = 0.5) -> list[WorstImage]:
    """What is right and wrong in each of a few images, in their order: by masks where there are any.

    Args:
        findings: of these images, and perhaps of others.
        images: a part of the data set.
        score: least score of a result that is shown.
        iou: least IoU of a right result.
    """
    ids = images.table.image_ids.tolist()
    wanted = {*ids}
    kept = [result for result in findings.results if result["image_id"] in wanted]
    matter = matter_of(truth_of(images), replace(findings, results=kept, image_ids=ids))
    kind: Kind = "mask" if "mask" in matter.pairs else "box"
    found = matter.found_as(kind)
    decided = decide(matter.truth, found, matter.pairs[kind], iou=iou)
    seen = {image.image_id: image for image in all_images(_album(images, matter.truth, found, decided), score)}
    return [seen[image_id] for image_id in ids]


def compare(
    first: Source,
    second: Source,
    dataset: Dataset | str | Path,
    *,
    samples: int | None = None,
    seed: int = 0,
    max_images: int | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> dict[str, Difference]:
    """Whether the second model is better than the first, or only luckier with these images.

    Args:
        first, second: models or results, as in `evaluate`.
        dataset: the images, the same for both.
        samples: draws of the bootstrap; None: 1,000, of more than 2,000 images 200.
        seed, max_images, device, progress: as in `explain`.

    Returns:
        "box", and "mask" where both have masks -> difference of AP with interval and p.

    Raises:
        DataError: as in `evaluate`, or results on other images.
    """
    dataset = measured_part(dataset, max_images, truth_only=is_results(first) and is_results(second))
    both = [find(model, dataset, device=device, progress=progress) for model in (first, second)]
    return compare_findings(both[0], both[1], dataset, samples=samples, seed=seed)


def compare_findings(
    first: Findings, second: Findings, dataset: Dataset, *, samples: int | None = None, seed: int = 0
) -> dict[str, Difference]:
    """`compare` for what was found already. Raises `DataError` where the images are not the same."""
    if set(first.image_ids) != set(second.image_ids):
        raise DataError(
            f"the results are of {len(first.image_ids)} and {len(second.image_ids)} images, not the same ones; "
            "evaluate both on the same data",
            path=dataset.name or None,
        )
    if samples is None:
        samples = COMPARED if len(first.image_ids) <= MANY_IMAGES else SAMPLES
    truth = truth_of(dataset)
    matters = [matter_of(truth, findings) for findings in (first, second)]
    found = {}
    for kind in matters[0].pairs:
        if kind in matters[1].pairs:
            one, other = (matter.ranked(kind) for matter in matters)
            found[str(kind)] = compare_ap(one, other, matters[0].images >= 0, samples=samples, seed=seed)
    return found


# ---------------------------------------------------------------- one kind


def _explained(matter: Matter, dataset: Dataset, kind: Kind, iou: float, samples: int, seed: int, worst: int) -> Part:
    names = list(dataset.classes)
    truth, found, pairs = matter.truth, matter.found_as(kind), matter.pairs[kind]
    coco, one = matter.ranked(kind), matter.ranked(kind, np.array([iou]))
    ap, class_ap = bootstrap_ap(coco, matter.images >= 0, names, samples=samples, seed=seed)
    overall, curves = class_curves(one, names)
    decided = decide(truth, found, pairs, iou=iou)
    costs = error_costs(truth, found, decided, matter.classes)
    album = _album(dataset, truth, found, decided)
    return Part(
        ap,
        class_ap,
        overall,
        curves,
        confusion_matrix(truth, found, pairs, names, iou=iou, score=overall.best_score),
        Tide(costs.pop("ap"), error_counts(decided), costs),
        calibration(one, names),
        worst_images(album, overall.best_score, worst),
        label_errors(album, pairs, overall.best_score, worst),
    )


def _album(dataset: Dataset, truth: Items, found: Items, decided: Decided) -> Album:
    table, paths = dataset.table, dataset.table.paths
    order = np.argsort(table.image_ids, kind="stable")
    return Album(
        truth,
        found,
        decided,
        dataset.classes,
        table.image_ids[order].tolist(),
        [paths[row] for row in order.tolist()],
        table.annotation_ids,
    )


def _check_iou(iou: float) -> None:
    if not 0.1 < iou <= 1:
        raise ConfigError(f"iou {iou} must be above 0.1 and at most 1, such as 0.5")


# ---------------------------------------------------------------- JSON


def _part_from(data: Mapping[str, Any]) -> Part:
    return Part(
        ap=Interval(**data["ap"]),
        class_ap={name: Interval(**value) for name, value in data["class_ap"].items()},
        overall=Curve(**data["overall"]),
        curves=[Curve(**curve) for curve in data["curves"]],
        confusion=Confusion(**data["confusion"]),
        tide=Tide(**data["tide"]),
        calibration=Calibration(**{**data["calibration"], "bins": [Bin(**b) for b in data["calibration"]["bins"]]}),
        worst=[_worst_from(image) for image in data["worst"]],
        suspects=[_suspect_from(suspect) for suspect in data["suspects"]],
    )


def _worst_from(data: Mapping[str, Any]) -> WorstImage:
    shown = {name: [Shown(**one) for one in data[name]] for name in ("truth", "results")}
    return WorstImage(**{**data, **shown})


def _suspect_from(data: Mapping[str, Any]) -> Suspect:
    shown = {name: data[name] and Shown(**data[name]) for name in ("result", "truth")}
    return Suspect(**{**data, **shown})
