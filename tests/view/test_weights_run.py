"""The pages about weights and runs, and the charts that they need."""

from __future__ import annotations

import re

import numpy as np

from maskrcnn.inspection.run import inspect_run
from maskrcnn.inspection.weights import inspect_weights
from maskrcnn.view.charts import bars, line_chart, spark
from maskrcnn.view.run import names_of, run_report, table_of
from maskrcnn.view.weights import weights_report
from tests.inspection.families import model_of
from tests.inspection.test_run import FALLING, evaluated, steps, write
from tests.model.tiny import tiny_model
from tests.view.test_report import assert_page


def test_the_page_about_weights(tmp_path):
    document = weights_report(inspect_weights(model_of("pyramid")), tmp_path / "page.html").read_text()
    assert_page(document)
    assert "<td>rpn.objectness.weight</td>" in document
    assert "Comparison" not in document
    assert document.count('aria-label="histogram"') > 50


def test_a_run_without_objects_to_validate_on(tmp_path):
    rows = steps(FALLING) + evaluated(-1.0, -1.0)
    assert_page(run_report([inspect_run(write(tmp_path / "run", rows))], tmp_path / "page.html").read_text())


def test_charts_of_odd_numbers():
    assert "not finite" in str(bars(["a", "b"], {"": [1.0, float("nan")]}, "title", longest=float("nan")))
    assert "<svg" in str(line_chart({"": (np.arange(2), np.array([-1.0, -1.0]))}, "title"))


def test_the_comparison(tmp_path):
    model = tiny_model()
    model.rpn.objectness.weight.data.mul_(2)
    document = weights_report(inspect_weights(tiny_model(), model), tmp_path / "page.html").read_text()
    assert_page(document)
    assert "<td>equal bit for bit</td>" in document
    rows = re.findall(r"<td>rpn.objectness.weight</td><td>changed</td>.*?</tr>", document)
    assert "100 %" in rows[0]
    other = weights_report(inspect_weights(tiny_model(), model_of("cascade")), tmp_path / "page.html").read_text()
    assert "only in the second" in other
    assert "of another shape" in other


def test_the_page_about_one_run(tmp_path):
    folder = write(tmp_path / "<run>", steps(FALLING) + evaluated(0.1, 0.5, 0.4, 0.3))
    document = run_report([inspect_run(folder)], tmp_path / "page.html").read_text()
    assert_page(document)
    assert "&lt;run&gt;" in document
    assert "overfitting" in document
    for title in ("sum of all losses", "learning rate", "images per second", "gradient norm"):
        assert f">{title}</text>" in document
    assert "<td>best</td>" in document


def test_several_runs_in_one_chart(tmp_path):
    runs = [
        inspect_run(write(tmp_path / name / "run", steps(FALLING) + evaluated(0.1, 0.3), finished=True))
        for name in ("a", "b")
    ]
    assert names_of(runs) == [str(run.path) for run in runs]
    document = run_report(runs, tmp_path / "page.html").read_text()
    assert_page(document)
    total = document[document.index(">total</text>") :]
    assert total[: total.index("</svg>")].count("<polyline") == 2
    text = table_of(runs)
    assert "loss/total: 4 at step 10, 1 at the end" in text
    assert "mask/ap: best 0.3000 at step 40" in text
    bare = inspect_run(write(tmp_path / "c", steps(FALLING)))
    assert "There was none: give --val" in run_report([bare], tmp_path / "page.html").read_text()


def test_lines():
    x = np.arange(5)
    chart = line_chart({"": (x, np.array([1.0, 2.0, np.nan, 4.0, 5.0]))}, "t", dots=True, marks=[(3.0, "best")])
    assert chart.count("<polyline") == 2, "a gap"
    assert chart.count("<circle") == 4
    assert ">best</text>" in chart
    many = line_chart({"a": (np.arange(10_000), np.ones(10_000)), "b": (x, x)}, "t")
    assert max(len(points.split()) for points in re.findall(r'points="([^"]*)"', many)) == 300
    assert "nan" not in line_chart({"": (x, np.full(5, np.nan))}, "t")
    assert "<polyline" in line_chart({"": (x, x - 2.0)}, "t", log=True)
    twelve = line_chart({f"a long name {i}": (x, x + i) for i in range(12)}, "t")
    assert "stroke-dasharray: 6 3" in twelve
    assert line_chart({}, "t")
    assert spark(np.zeros(4)).count("M0") == 0
    assert spark([0, 4, 1]).count("h") >= 2
