"""What was found in a data set, apart from how well: `find` makes it, with a model or from a file; `score` measures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.boundary import boundary_pairs
from maskrcnn.evaluation.coco import GroundTruth, measure
from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.lvis import lvis_numbers
from maskrcnn.evaluation.matching import THRESHOLDS, Kind, Pairs, find_pairs, match
from maskrcnn.evaluation.metrics import Metrics
from maskrcnn.evaluation.precision import Ranking, mean_defined, rank_results
from maskrcnn.evaluation.results_file import read_results
from maskrcnn.evaluation.tables import COUNTS, coco_numbers, limited, of_count
from maskrcnn.evaluation.voc import voc_numbers

# Training evaluates the same data set many times; the truth of one that is no longer used is forgotten. What overlaps
# is found once for scoring and explaining the same findings.
_truths: WeakKeyDictionary[Dataset, GroundTruth] = WeakKeyDictionary()
_matters: WeakKeyDictionary[Findings, tuple[GroundTruth, Matter]] = WeakKeyDictionary()
HAVE_MASKS, HAVE_POINTS = "segmentation", "keypoints"


@dataclass(frozen=True, eq=False)
class Findings:
    """Results on a data set, in its ids.

    Attributes:
        results: COCO results, as `measure` takes them.
        image_ids: the images that were looked at.
        masks, keypoints: whether the results have those, and they are to be measured.
        max_detections: most detections an image.
        speed: `images_per_second` and seconds by part; empty where no model ran.
    """

    results: list[dict[str, Any]]
    image_ids: list[int]
    masks: bool = True
    keypoints: bool = False
    max_detections: int = 100
    speed: dict[str, float] = field(default_factory=dict)


def is_results(given: object) -> bool:
    """Whether this is a results file, or the results themselves, and no model."""
    if isinstance(given, (str, Path)):
        return str(given).lower().endswith(".json") and not Path(given).is_dir()
    return isinstance(given, Sequence)


def given_findings(
    given: str | Path | Sequence[Mapping[str, Any]], dataset: Dataset, score_threshold: float = 0.0
) -> Findings:
    """Results of any framework, checked. All images of the data set count: in those without a result all is missed.

    Raises:
        DataError: see `read_results`.
    """
    results = read_results(given, dataset)
    first = results[0] if results else {HAVE_MASKS: None}
    if score_threshold:
        results = [result for result in results if result["score"] >= score_threshold]
    points = HAVE_POINTS in first and dataset.keypoints is not None
    if HAVE_POINTS in first and "bbox" in first and dataset.keypoints is None:
        warnings.warn("keypoints are not measured: the data has none", stacklevel=2)
    return Findings(results, dataset.table.image_ids.tolist(), HAVE_MASKS in first, points)


def truth_of(dataset: Dataset) -> GroundTruth:
    """The truth of a data set, made once."""
    if dataset not in _truths:
        _truths[dataset] = GroundTruth(dataset)
    return _truths[dataset]


def score(
    findings: Findings,
    dataset: Dataset,
    *,
    max_detections: int | Sequence[int] | None = None,
    boundary: bool = False,
    lvis: bool = False,
    voc: bool = False,
    by_count: bool = False,
) -> Metrics:
    """How good the findings are; see `evaluate`. Needs no model and no device, so that it may run beside training.

    Args:
        findings: what was found.
        dataset: where.
        max_detections, boundary, lvis, voc, by_count: as in `evaluate`.
    """
    began = time.perf_counter()
    truth = truth_of(dataset)
    limits: int | Sequence[int] = findings.max_detections if max_detections is None else max_detections
    metrics = measure(
        truth,
        findings.results,
        image_ids=findings.image_ids,
        masks=findings.masks,
        keypoints=findings.keypoints,
        max_detections=limits,
    )
    if by_count or boundary or voc:
        metrics = _with_own_numbers(metrics, truth, findings, boundary=boundary, voc=voc, by_count=by_count)
    if lvis:
        masks = findings.masks and truth.has_masks
        numbers = lvis_numbers(truth, findings.results, findings.image_ids, masks=masks)
        metrics = replace(metrics, lvis=numbers)
    seconds = {"score": time.perf_counter() - began} if findings.speed else {}
    return replace(metrics, speed={**findings.speed, **seconds})


@dataclass(frozen=True, eq=False)
class Matter:
    """Truth and results of the images that count, and what of them overlaps: the matter of all explanations.

    Attributes:
        truth, found: objects and results.
        pairs: "box", and "mask" where there are masks.
        classes: how many.
        images: (I,) how many objects each image has, crowds left out; -1 for images that do not count.
    """

    truth: Items
    found: Items
    pairs: dict[Kind, Pairs]
    classes: int
    images: np.ndarray

    def ranked(self, kind: Kind, thresholds: np.ndarray = THRESHOLDS, most: int = 100) -> Ranking:
        """The `most` best results of each image and class, matched at these thresholds: for all curves and AP."""
        found, pairs = limited(self.found_as(kind), self.pairs[kind], most)
        matches = match(self.truth, found, pairs, thresholds)
        return rank_results(self.truth, found, matches.right, matches.ignored, self.classes, ~self.truth.crowd)

    def found_as(self, kind: Kind) -> Items:
        """The results with the areas that COCO takes for this kind."""
        if kind == "mask":
            return self.found
        return replace(self.found, areas=self.found.boxes[:, 2] * self.found.boxes[:, 3])


def matter_of(truth: GroundTruth, findings: Findings) -> Matter:
    """Arrays of truth and findings, made once."""
    kept = _matters.get(findings)
    if kept is None or kept[0] is not truth:
        kept = _matters[findings] = truth, _matter_of(truth, findings)
    return kept[1]


def _matter_of(truth: GroundTruth, findings: Findings) -> Matter:
    masks = findings.masks and truth.has_masks
    wanted = np.zeros(len(truth.image_ids), bool)
    wanted[np.asarray(truth.numbers(findings.image_ids), np.int64) - 1] = True
    objects = truth.items.take(wanted[truth.items.images])
    found = truth.found_items(findings.results, masks=masks)
    found = found.take(wanted[found.images]) if not wanted.all() else found
    kinds: tuple[Kind, ...] = ("box", "mask") if masks else ("box",)
    counts = np.bincount(objects.images[~objects.crowd], minlength=len(wanted))
    pairs = {kind: find_pairs(objects, found, kind) for kind in kinds}
    return Matter(objects, found, pairs, len(truth.classes), np.where(wanted, counts, -1))


def _with_own_numbers(
    metrics: Metrics, truth: GroundTruth, findings: Findings, *, boundary: bool, voc: bool, by_count: bool
) -> Metrics:
    matter = matter_of(truth, findings)
    rankings = {kind: matter.ranked(kind, most=metrics.limits[-1]) for kind in matter.pairs if by_count}
    counted: dict[str, dict[str, float]] = {}
    for name in COUNTS if by_count else ():
        inside = of_count(matter.images, name)
        if inside.any():
            ap = {str(kind): mean_defined(ranking.average_precision(inside)) for kind, ranking in rankings.items()}
            counted[name] = {"images": int(inside.sum()), "objects": int(matter.images[inside > 0].sum()), **ap}
    voc_found = {
        str(kind): voc_numbers(matter.truth, matter.found_as(kind), pairs, matter.classes)
        for kind, pairs in matter.pairs.items()
        if voc
    }
    outlines = None
    if boundary and "mask" in matter.pairs:
        found, pairs = limited(matter.found, matter.pairs["mask"], metrics.limits[-1])
        pairs = boundary_pairs(matter.truth, found, pairs)
        outlines = coco_numbers(matter.truth, found, pairs, matter.classes, metrics.limits)
    return replace(metrics, by_count=counted, voc=voc_found or None, boundary=outlines)
