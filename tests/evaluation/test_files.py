"""Files of an evaluation, and the command that writes them, on a data set with results of another framework."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn import cli
from maskrcnn.data.open import open_dataset
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.evaluation.explain import Explanation
from maskrcnn.evaluation.files import write_evaluation
from maskrcnn.evaluation.findings import given_findings, score
from maskrcnn.evaluation.metrics import Metrics
from tests.evaluation.made import SIZE, as_coco, made_dataset, made_results

DATASET = made_dataset()
RESULTS = made_results(DATASET)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data set as LVIS writes it, with black images, and two results files."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for record in DATASET:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "data" / record.path.name)
    (tmp_path / "data" / "lvis.json").write_text(json.dumps(as_coco(DATASET)))
    (tmp_path / "first.json").write_text(json.dumps(RESULTS))
    (tmp_path / "second.json").write_text(json.dumps(made_results(DATASET, shift=0.3)))
    return tmp_path


def test_the_whole_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--boundary",
        "--lvis",
        "--voc",
        "--explain",
        "--compare",
        "second.json",
        "--draws",
        "30",
        "--out",
        "out",
    ]
    assert cli.main(["evaluate", "first.json", "data", *options]) == 0
    said = capsys.readouterr().out
    for part in ("box", "mask", "boundary", "LVIS", "VOC", "what costs AP", "first.json -> second.json", "clear"):
        assert part in said
    out = folder / "out"
    files = ["comparison.json", "explanation.json", "metrics.csv", "metrics.json", "per_class.csv"]
    assert sorted(path.name for path in out.iterdir()) == [*files, "report.html", "results.json"]
    metrics = Metrics.from_dict(json.loads((out / "metrics.json").read_text()))
    expected = score(given_findings(RESULTS, DATASET), DATASET, boundary=True, lvis=True, voc=True, by_count=True)
    assert metrics == expected
    explanation = Explanation.from_dict(json.loads((out / "explanation.json").read_text()))
    assert explanation.parts["mask"].worst[0].path.endswith(".jpg")
    assert cli.main(["evaluate", "out/results.json", "data", "--json", "again.json", "--max-detections", "1", "5"]) == 0
    assert set(json.loads((folder / "again.json").read_text())["box"]) >= {"ar_1", "ar_5"}


def test_results_need_no_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Annotations and results alone are enough; a model says what it lacks."""
    (folder / "alone").mkdir()
    (folder / "data" / "lvis.json").rename(folder / "alone" / "lvis.json")
    shutil.rmtree(folder / "data")
    options = ["--explain", "--draws", "5", "--out", "out", "--json", "alone.json"]
    assert cli.main(["evaluate", "first.json", "alone", *options]) == 0
    found = Metrics.from_dict(json.loads((folder / "alone.json").read_text()))
    assert found == score(given_findings(RESULTS, DATASET), DATASET, by_count=True)
    assert "grey: the file cannot be read" in (folder / "out" / "report.html").read_text()
    opened = open_dataset("alone", truth_only=True)
    assert len(opened) == len(DATASET)
    with pytest.raises(DataError, match=r"1\.jpg: "):
        load_record(opened[0])
    with pytest.raises(DataError, match=r"holds no image that can be used; .* images whose file is missing"):
        open_dataset("alone")
    assert cli.main(["evaluate", "first.json", "alone", "--draws", "0"]) == 2
    assert "--draws 0 must be at least 1" in capsys.readouterr().err


def test_tables(tmp_path: Path) -> None:
    metrics = score(given_findings(RESULTS, DATASET), DATASET, boundary=True, voc=True, by_count=True)
    write_evaluation(tmp_path / "deep" / "out", metrics)
    rows = list(csv.DictReader((tmp_path / "deep/out/metrics.csv").open()))
    values = {(row["kind"], row["metric"]): float(row["value"]) for row in rows}
    assert metrics.boundary is not None
    assert metrics.mask is not None
    assert values["mask", "ap"] == metrics.mask["ap"]
    assert values["boundary", "ap75"] == metrics.boundary["ap75"]
    assert ("voc box", "ap50_11") in values
    assert ("mask", "ap with 2-5 objects") in values
    classes = list(csv.DictReader((tmp_path / "deep/out/per_class.csv").open()))
    assert [(row["kind"], row["class"]) for row in classes][:2] == [("box", "ant"), ("box", "bee")]
    assert float(classes[0]["ap_small"]) == metrics.by_class["box"]["ant"]["ap_small"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    metrics = score(given_findings(RESULTS, DATASET), DATASET)
    with pytest.raises(DataError, match=r"cannot make this folder: .*; choose another --out"):
        write_evaluation(tmp_path / "file" / "out", metrics)


@pytest.mark.parametrize("times", [1, 2])
def test_lvis_lists_are_read_and_cached(folder: Path, times: int) -> None:
    for _ in range(times):
        opened = open_dataset(folder / "data")
    assert opened.federated == DATASET.federated
    assert opened.take([3, 4]).federated == DATASET.federated


def test_wrong_lvis_lists_are_named(folder: Path) -> None:
    content = as_coco(DATASET)
    content["images"][0]["neg_category_ids"] = 5
    (folder / "data" / "lvis.json").write_text(json.dumps(content))
    opened = open_dataset(folder / "data")
    assert any("LVIS lists are not lists of category ids" in warning for warning in opened.warnings)
    content["categories"][0].pop("frequency")
    (folder / "data" / "lvis.json").write_text(json.dumps(content))
    assert open_dataset(folder / "data").federated is None
