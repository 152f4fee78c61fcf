"""Our own matching and curves: equal to the COCO library's, and to slow loops that anybody can check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.boundary import mask_boundary
from maskrcnn.evaluation.coco import NUMBERS, GroundTruth, measure
from maskrcnn.evaluation.findings import Matter, given_findings, matter_of, score
from maskrcnn.evaluation.matching import THRESHOLDS, match
from maskrcnn.evaluation.precision import mean_defined
from maskrcnn.evaluation.rle_check import total_runs
from maskrcnn.evaluation.tables import coco_numbers
from maskrcnn.evaluation.voc import area_under, at_eleven, voc_numbers
from maskrcnn.ops.rle import encode_mask, parse_counts
from tests.evaluation.made import made_dataset, made_results
from tests.evaluation.test_coco import random_dataset, random_results, reference

DATASET = made_dataset()
RESULTS = made_results(DATASET)


def matter(dataset: Dataset, results: list[dict]) -> Matter:
    return matter_of(GroundTruth(dataset), given_findings(results, dataset))


@pytest.mark.parametrize("seed", range(4))
def test_all_numbers_equal_the_coco_library(seed: int) -> None:
    """With crowds, equal scores and equal overlaps."""
    dataset = random_dataset(seed, (5, 0, 12, 1, 30))
    results = random_results(dataset, seed, extra=20)
    case, expected = matter(dataset, results), measure(GroundTruth(dataset), results)
    for kind, numbers in (("box", expected.box), ("mask", expected.mask)):
        ours = coco_numbers(case.truth, case.found_as(kind), case.pairs[kind], case.classes)  # type: ignore[arg-type, index]
        assert numbers is not None
        assert list(ours) == list(numbers) == list(NUMBERS)
        np.testing.assert_allclose(list(ours.values()), list(numbers.values()), atol=1e-12)


def test_more_results_than_count() -> None:
    dataset = random_dataset(1, (20, 3))
    results = random_results(dataset, 1, extra=300)
    case = matter(dataset, results)
    ours = coco_numbers(case.truth, case.found_as("box"), case.pairs["box"], case.classes, (1, 10, 50))
    expected = measure(GroundTruth(dataset), results, max_detections=[1, 10, 50])
    assert ours == pytest.approx(expected.box)
    assert expected.box["ar_50"] > expected.box["ar_10"]
    table = reference(dataset, results, "bbox", (1, 10, 50)).eval["precision"][:, :, :, 0, 2]
    assert expected.box["ap"] == pytest.approx(table[table > -1].mean())


def test_weights_are_copies_of_images() -> None:
    """An image of weight 2 counts as two images with the same objects and results; weight 0 leaves it out."""
    case = matter(DATASET, RESULTS)
    ranking = case.ranked("mask")
    weights = np.random.default_rng(0).integers(0, 3, len(DATASET))
    records, results = [], []
    for record, weight in zip(DATASET, weights.tolist(), strict=True):
        for copy in range(weight):
            number = record.image_id + 1000 * copy
            records.append(replace(record, image_id=number))
            results += [r | {"image_id": number} for r in RESULTS if r["image_id"] == record.image_id]
    copied = matter(replace(DATASET, records=records), results)
    again = copied.ranked("mask")
    np.testing.assert_allclose(ranking.average_precision(weights), again.average_precision(), atol=1e-9)


def test_ap_by_count_is_ap_of_those_images() -> None:
    metrics = score(given_findings(RESULTS, DATASET), DATASET, by_count=True)
    assert score(given_findings(RESULTS, DATASET), DATASET).by_count == {}
    counts = [int((~record.crowd).sum()) for record in DATASET]
    for name, low, high in (("1", 1, 1), ("2-5", 2, 5), ("more", 21, 99)):
        part = replace(DATASET, records=[r for r, n in zip(DATASET, counts, strict=True) if low <= n <= high])
        ids = {record.image_id for record in part}
        expected = score(given_findings([r for r in RESULTS if r["image_id"] in ids], part), part)
        row = metrics.by_count[name]
        assert row["images"] == len(part)
        assert row["objects"] == expected.objects
        assert expected.mask is not None
        assert (row["box"], row["mask"]) == pytest.approx((expected.box["ap"], expected.mask["ap"]))
    assert "objects in the image" in str(metrics)


def test_numbers_of_each_class_and_size() -> None:
    metrics = score(given_findings(RESULTS, DATASET), DATASET)
    rows = [numbers for numbers in metrics.by_class["mask"].values() if numbers["ap_small"] >= 0]
    assert metrics.mask is not None
    assert np.mean([row["ap_small"] for row in rows]) == pytest.approx(metrics.mask["ap_small"])
    assert metrics.by_class["mask"]["fox"]["ap"] == -1
    assert metrics.per_class["ant"]["box"] == metrics.by_class["box"]["ant"]["ap"]


def slow_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """A pixel whose square of 2 width + 1 pixels is not all mask."""
    padded = np.pad(mask, width)
    inside = np.ones_like(mask)
    for row in range(2 * width + 1):
        for column in range(2 * width + 1):
            inside &= padded[row : row + mask.shape[0], column : column + mask.shape[1]]
    return mask & ~inside


@pytest.mark.parametrize("width", [1, 2, 5, 9])
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (30, 25), (11, 11)])
def test_mask_boundary_equals_slow_erosion(width: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(width)
    for part in (0.9, 0.995, 1.0):
        mask = rng.random(shape) < part
        np.testing.assert_array_equal(mask_boundary(mask, width), slow_boundary(mask, width))


def test_boundary_does_not_depend_on_how_masks_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = given_findings(RESULTS, DATASET)
    whole = score(findings, DATASET, boundary=True).boundary
    monkeypatch.setattr("maskrcnn.evaluation.boundary._SMALL_FRAME", 0)
    assert score(findings, DATASET, boundary=True).boundary == whole


def test_voc_curves_by_hand() -> None:
    """Right, wrong, right, with three objects."""
    recall, precision = np.array([1, 1, 2]) / 3, np.array([1, 1 / 2, 2 / 3])
    assert area_under(recall, precision) == pytest.approx(1 / 3 + 2 / 9)
    assert at_eleven(recall, precision) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
    assert (area_under(np.zeros(0), np.zeros(0)), at_eleven(np.zeros(0), np.zeros(0))) == (0, 0)


def slow_voc(case: Matter) -> float:
    """The development kit's loop on continuous boxes."""
    iou = {(int(d), int(g)): v for d, g, v in zip(*vars(case.pairs["box"]).values(), strict=True)}
    areas = []
    for label in range(case.classes):
        objects = [g for g in range(len(case.truth)) if case.truth.labels[g] == label]
        real = sum(not case.truth.crowd[g] for g in objects)
        if not real:
            continue
        taken, right = set(), []
        for d in sorted(
            (d for d in range(len(case.found)) if case.found.labels[d] == label), key=lambda d: -case.found.scores[d]
        ):
            here = [g for g in objects if case.truth.images[g] == case.found.images[d]]
            best = max(here, key=lambda g: iou.get((d, g), 0.0), default=None)
            if best is not None and iou.get((d, best), 0.0) >= 0.5:
                if not case.truth.crowd[best]:
                    right.append(best not in taken)
                    taken.add(best)
            else:
                right.append(False)
        hits = np.cumsum(right)
        areas.append(area_under(hits / real, hits / np.arange(1, len(hits) + 1)))
    return float(np.mean(areas))


def test_voc_equals_the_slow_loop() -> None:
    case = matter(DATASET, RESULTS)
    numbers = voc_numbers(case.truth, case.found, case.pairs["box"], case.classes)
    assert numbers["ap50"] == pytest.approx(slow_voc(case))
    assert 0 < numbers["ap50_11"] < 1
    assert "VOC box" in str(score(given_findings(RESULTS, DATASET), DATASET, voc=True))


def test_nothing_found_and_nothing_there() -> None:
    empty = score(given_findings([], DATASET), DATASET, boundary=False, voc=True, lvis=True)
    assert empty.voc is not None
    assert (empty.box["ap"], empty.voc["box"]["ap50"]) == (0, 0)
    assert empty.lvis is not None
    assert set(empty.lvis["box"].values()) == {0.0}
    case = matter(DATASET, [])
    assert not match(case.truth, case.found, case.pairs["box"]).right.any()
    assert mean_defined(np.array([-1.0])) == -1


def test_runs_of_many_masks_at_once() -> None:
    rng = np.random.default_rng(0)
    counts = [encode_mask(rng.random((37, 53)) < part)["counts"] for part in np.linspace(0, 1, 30)]
    assert total_runs(counts).tolist() == [int(parse_counts(one).sum()) for one in counts] == [37 * 53] * 30
    broken = [b"", b"PP", counts[3][:-1], counts[4], "é", b"\x00" * 5]
    assert total_runs(broken).tolist() == [0, -1, -1, 37 * 53, -1, -1]
    assert len(total_runs([])) == 0
    huge = _compressed([2**58] * 64 + [37 * 53])  # 64 of them and 37 x 53 are 37 x 53 in 64 bits
    assert total_runs([huge, counts[3]]).tolist() == [-1, 37 * 53]
    assert total_runs([*counts, ""] * 100).tolist() == [*[37 * 53] * 30, 0] * 100


def _compressed(runs: list[int]) -> str:
    text = ""
    for place, run in enumerate(runs):
        value, more = run - (runs[place - 2] if place > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
    return text


def test_pairs_do_not_depend_on_how_many_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matter(DATASET, RESULTS).pairs["mask"]
    monkeypatch.setattr("maskrcnn.evaluation.matching.MOST_AT_ONCE", 7)
    parts = matter(DATASET, RESULTS).pairs["mask"]
    for name in ("found", "truth", "iou"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_thresholds_are_pycocotools() -> None:
    np.testing.assert_array_equal(THRESHOLDS, np.linspace(0.5, 0.95, int(np.round((0.95 - 0.5) / 0.05)) + 1))
