"""Boundary AP, LVIS and TIDE against what the reference implementations found on the same data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.evaluation.coco import NUMBERS, GroundTruth
from maskrcnn.evaluation.findings import Findings, Matter, given_findings, matter_of, score
from maskrcnn.evaluation.lvis import LVIS_NUMBERS
from maskrcnn.evaluation.tide import decide, error_costs, error_counts
from tests.evaluation.made import made_dataset, made_results

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())
DATASET = made_dataset()
RESULTS = made_results(DATASET)


def findings() -> Findings:
    return given_findings(RESULTS, DATASET)


def matter() -> Matter:
    return matter_of(GroundTruth(DATASET), findings())


def test_the_data_is_that_of_the_golden_numbers() -> None:
    objects, results, scores = GOLDEN["input"]
    assert (len(DATASET.table.labels), len(RESULTS)) == (objects, results)
    assert sum(result["score"] for result in RESULTS) == pytest.approx(scores, abs=1e-9)


def test_boundary_ap_equals_the_reference() -> None:
    numbers = score(findings(), DATASET, boundary=True).boundary
    assert numbers is not None
    assert list(numbers) == list(NUMBERS)
    assert numbers["ap"] > 0.05
    np.testing.assert_allclose(list(numbers.values()), GOLDEN["boundary"], atol=1e-9)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_lvis_equals_the_reference(kind: str) -> None:
    numbers = score(findings(), DATASET, lvis=True).lvis
    assert numbers is not None
    assert list(numbers[kind]) == list(LVIS_NUMBERS)
    np.testing.assert_allclose(list(numbers[kind].values()), GOLDEN["lvis"][kind], atol=1e-9)


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_tide_equals_tidecv(kind: str) -> None:
    """tidecv gives AP in 0..100."""
    case, golden = matter(), GOLDEN["tide"][kind]
    decided = decide(case.truth, case.found, case.pairs[kind])  # type: ignore[index]
    assert error_counts(decided) == golden["counts"]
    costs = error_costs(case.truth, case.found, decided, case.classes)
    assert 100 * costs.pop("ap") == pytest.approx(golden["ap"], abs=1e-6)
    assert {name: 100 * cost for name, cost in costs.items()} == pytest.approx(golden["costs"], abs=1e-6)
