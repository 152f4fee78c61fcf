"""What an explanation says, on a scene small enough to count by hand, and against slow or foreign oracles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import metrics as oracle

import maskrcnn
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.evaluation.bootstrap import draws
from maskrcnn.evaluation.coco import GroundTruth
from maskrcnn.evaluation.explain import Explanation, Part, compare, compare_findings, explain
from maskrcnn.evaluation.explained_text import difference_line
from maskrcnn.evaluation.findings import Findings, given_findings, matter_of
from maskrcnn.evaluation.matching import match
from maskrcnn.structures import Record
from tests.evaluation.made import made_dataset, made_results

DATASET = made_dataset()
RESULTS = made_results(DATASET)


def image(number: int, *objects: tuple[int, list[float]], crowd: tuple[bool, ...] = ()) -> Record:
    boxes = np.array([box for _, box in objects], np.float32).reshape(-1, 4)
    return Record(
        path=Path(f"photos/{number}.jpg"),
        image_id=number,
        height=100,
        width=200,
        boxes=boxes,
        labels=np.array([label for label, _ in objects], np.int64),
        masks=(),
        crowd=np.array(crowd or [False] * len(objects), bool),
        areas=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        annotation_ids=np.arange(len(objects)) + 100 * number,
    )


def result(number: int, category: int, score: float, box: list[float]) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    return {"image_id": number, "category_id": category, "score": score, "bbox": [x0, y0, x1 - x0, y1 - y0]}


A, B, C = [0, 0, 40, 40], [60, 0, 100, 40], [120, 0, 160, 40]
SCENE = Dataset(
    [image(1, (0, A), (1, B), (0, C)), image(2, (0, A), (1, [0, 50, 150, 100]), crowd=(False, True)), image(3)],
    ("cat", "dog"),
    (1, 2),
    name="scene",
)
FOUND = [
    result(1, 1, 0.9, A),  # right
    result(1, 1, 0.8, B),  # a dog taken for a cat
    result(1, 1, 0.75, A),  # found twice
    result(1, 1, 0.6, [120, 0, 160, 12]),  # badly placed: IoU 0.3
    result(2, 2, 0.7, [10, 55, 50, 95]),  # inside the crowd of dogs: counts as nothing
    result(3, 2, 0.95, B),  # nothing there
]


def scene() -> Part:
    return explain(FOUND, SCENE, samples=20).parts["box"]


def test_confusion_by_hand() -> None:
    explained = explain(FOUND, SCENE, samples=0)
    part = explained.parts["box"]
    sure = part.overall.best_score
    assert sure == 0.9
    # The only results of at least 0.9: a right cat, and a dog from nowhere.
    assert part.confusion.counts == [[1, 0, 2], [0, 0, 1], [0, 1, 0]]
    assert part.confusion.names == ["cat", "dog", "background"]
    assert (explained.images, explained.objects, explained.results) == (3, 4, 6)
    assert part.ap.low == part.ap.high == part.ap.value


def test_confusion_prefers_the_own_class() -> None:
    """A dog at 0.95 does not take the cat from the cat at 0.6."""
    part = explain([result(1, 2, 0.95, A), result(1, 1, 0.6, A)], replace(SCENE, records=SCENE.records[:1])).parts[
        "box"
    ]
    assert part.confusion.score == 0.6
    assert part.confusion.counts == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_tide_by_hand() -> None:
    tide = scene().tide
    assert tide.counts == {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 2, "Miss": 1}
    assert tide.costs["Miss"] > 0
    assert tide.costs["Both"] == 0


def test_curves_equal_counting() -> None:
    """At every threshold: of the results with at least that score, how many are right."""
    case = matter_of(GroundTruth(DATASET), given_findings(RESULTS, DATASET))
    decided = match(case.truth, case.found, case.pairs["box"], np.array([0.5]))
    part = explain(RESULTS, DATASET, samples=0).parts["box"]
    for label, curve in enumerate(part.curves):
        objects = int(((case.truth.labels == label) & ~case.truth.crowd).sum())
        assert curve.objects == objects
        for place, threshold in enumerate(np.linspace(0, 1, 101)):
            kept = (case.found.labels == label) & (case.found.scores >= threshold) & ~decided.ignored[0]
            hits = int(decided.right[0][kept].sum())
            assert curve.precision_at[place] == pytest.approx(hits / kept.sum() if kept.any() else 0, abs=1e-5)
            assert curve.recall_at[place] == pytest.approx(hits / objects if objects else 0, abs=1e-5)
        assert curve.best_f1 >= max(curve.f1) - 1e-5
        assert all(a >= b for a, b in zip(curve.precision[:-1], curve.precision[1:], strict=True))
        if objects:
            assert np.mean(curve.precision) == pytest.approx(curve.ap, abs=1e-4)
    assert part.thresholds["ant"] == part.curves[0].best_score
    assert part.overall.ap == pytest.approx(np.mean([c.ap for c in part.curves if c.ap >= 0]))


def test_calibration_equals_the_oracle() -> None:
    case = matter_of(GroundTruth(DATASET), given_findings(RESULTS, DATASET))
    decided = match(case.truth, case.found, case.pairs["box"], np.array([0.5]))
    counted = ~decided.ignored[0]
    scores, right = case.found.scores[counted], decided.right[0][counted]
    found = explain(RESULTS, DATASET, samples=0).parts["box"].calibration
    assert found.ece == pytest.approx(oracle.calibration_error(scores, right)[0])
    assert sum(one.count for one in found.bins) == counted.sum()
    assert set(found.per_class) == {DATASET.classes[label] for label in np.unique(case.found.labels)}


def test_worst_images_first() -> None:
    """Image 3: a false result of 0.95; image 1: two cats... of which the threshold 0.9 leaves two objects unfound."""
    worst = scene().worst
    assert [one.image_id for one in worst] == [1, 2, 3]
    first = worst[0]
    assert (first.right, first.missed, first.false, first.cost) == (1, 2, 0, 2)
    assert first.path.endswith("1.jpg")
    assert [one.outcome for one in first.truth] == ["found", "missed", "missed"]
    assert [(one.name, one.outcome, one.box) for one in first.results] == [("cat", "right", A)]
    assert first.truth[1].source == 101
    assert worst[2].errors == {"Bkg": 1}


def test_counts_of_an_image_are_those_of_its_outcomes() -> None:
    """An object that only a weak result finds is missed, in the number and in the picture."""
    for part in explain(RESULTS, DATASET, samples=0).parts.values():
        assert any(image.missed for image in part.worst)
        for image in part.worst:
            outcomes = [one.outcome for one in image.truth]
            assert (outcomes.count("found"), outcomes.count("missed")) == (image.right, image.missed)


def test_suspects() -> None:
    """A dog where nothing is annotated, and a dog that is found as a cat."""
    suspects = {(one.problem, one.image_id): one for one in scene().suspects}
    assert set(suspects) == {("missing", 3)}
    found = explain([result(1, 1, 0.9, A), result(1, 1, 0.85, B), result(1, 1, 0.8, C), result(2, 1, 0.7, A)], SCENE)
    (wrong,) = found.parts["box"].suspects if found.parts["box"].overall.best_score <= 0.85 else [None]
    assert wrong is not None
    assert (wrong.problem, wrong.image_id, wrong.confidence) == ("class", 1, 0.85)
    assert wrong.truth is not None
    assert (wrong.truth.name, wrong.truth.source) == ("dog", 101)


def test_an_object_that_nothing_overlaps_though_its_like_are_found() -> None:
    places = [[50 * step, 0, 50 * step + 40, 40] for step in range(4)]
    dataset = replace(SCENE, records=[image(1, *((0, box) for box in places)), image(2, (0, A))])
    found = explain([result(1, 1, 0.9 - step / 100, box) for step, box in enumerate(places)], dataset)
    (lost,) = found.parts["box"].suspects
    assert (lost.problem, lost.image_id, lost.confidence, lost.result) == ("extra", 2, 1.0, None)


def test_intervals_hold_the_value_and_are_seeded() -> None:
    one, again, other = (explain(RESULTS, DATASET, samples=60, seed=seed).parts["mask"] for seed in (0, 0, 1))
    assert one.ap.low < one.ap.value < one.ap.high
    assert one == again
    assert other.ap.value == one.ap.value
    assert other.ap.low != one.ap.low
    assert set(one.class_ap) == {"ant", "bee", "cow", "dog", "elk"}


def test_draws_take_as_many_images_as_there_are() -> None:
    images = np.array([True, False, True, True])
    for weights in draws(images, 5, 0):
        assert weights.sum() == 3
        assert weights[1] == 0


def test_better_is_clear_and_equal_is_not() -> None:
    better = made_results(DATASET, shift=0.3)
    found = compare(RESULTS, better, DATASET, samples=200)
    assert found["mask"].is_clear
    assert found["mask"].p < 0.05
    assert found["mask"].difference.low > 0
    assert "clear" in difference_line("mask", found["mask"])
    same = compare(RESULTS, RESULTS, DATASET, samples=50)
    assert (same["box"].difference.value, same["box"].p, same["box"].is_clear) == (0, 1, False)
    back = compare(better, RESULTS, DATASET, samples=200)
    assert back["mask"].difference.high == pytest.approx(-found["mask"].difference.low)


def test_one_image_says_nothing_about_others() -> None:
    """Every draw of one image is the same: that is no certainty."""
    alone = replace(SCENE, records=[image(1, (0, A), (0, B))])
    first, second = [result(1, 1, 0.9, A)], [result(1, 1, 0.9, A), result(1, 1, 0.8, B)]
    found = compare(first, second, alone, samples=50)["box"]
    assert found.difference.value > 0
    assert (found.difference.low, found.difference.high, found.p, found.is_clear) == (-1, 1, 1, False)
    ap = explain(first, alone, samples=50).parts["box"]
    assert (ap.ap.low, ap.ap.high) == (0, 1)
    assert all((each.low, each.high) == (0, 1) for each in ap.class_ap.values())


def test_results_on_other_images_cannot_be_compared() -> None:
    first = Findings([], [1, 2])
    with pytest.raises(DataError, match="made: the results are of 2 and 1 images, not the same ones"):
        compare_findings(first, Findings([], [1]), DATASET)


def test_json_and_text() -> None:
    explained = maskrcnn.explain(RESULTS, DATASET, samples=5)
    assert Explanation.from_dict(json.loads(json.dumps(explained.to_dict()))) == explained
    text = str(explained)
    for part in ("box AP", "mask AP", "found twice", "best score threshold", "worst images", "annotations to look at"):
        assert part in text
    worst = explained.parts["mask"].worst[0]
    assert worst.results[0].rle is not None
    assert isinstance(worst.results[0].rle["counts"], str)


@pytest.mark.parametrize("given", [[], RESULTS[:1]])
def test_hardly_any_results(given: list[dict]) -> None:
    explained = explain(given, DATASET, samples=3)
    assert Explanation.from_dict(json.loads(json.dumps(explained.to_dict()))) == explained
    assert str(explained)


def test_no_objects_at_all() -> None:
    explained = explain([result(3, 1, 0.5, A)], replace(SCENE, records=SCENE.records[2:]), samples=3)
    assert explained.parts["box"].ap.value == -1
    assert "box AP -: no objects to find" in str(explained)


def test_another_iou() -> None:
    assert explain(FOUND, SCENE, iou=0.25, samples=0).parts["box"].tide.counts["Loc"] == 0
    with pytest.raises(ConfigError, match=r"iou 0\.1 must be above 0\.1 and at most 1"):
        explain(FOUND, SCENE, iou=0.1)
