"""The page about an evaluation, its charts and its pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.evaluation.bootstrap import Interval
from maskrcnn.evaluation.calibration import Bin
from maskrcnn.evaluation.confusion import Confusion
from maskrcnn.evaluation.explain import compare_findings, explain_findings, look_at
from maskrcnn.evaluation.findings import given_findings, score
from maskrcnn.evaluation.suspects import Shown, Suspect
from maskrcnn.view.evaluation import evaluation_report
from maskrcnn.view.evaluation_charts import heat_map, intervals, reliability, shown_classes
from maskrcnn.view.evaluation_draw import COLORS, FALSE, draw_shown, draw_suspect
from maskrcnn.view.evaluation_pictures import link_to
from maskrcnn.view.evaluation_plots import evaluation_plots
from tests.evaluation.made import SIZE, made_dataset, made_results
from tests.view.test_report import assert_page

MADE = made_dataset()
RESULTS = made_results(MADE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The made data with black images, all but the first of them."""
    folder = tmp_path_factory.mktemp("images") / "with space"
    folder.mkdir()
    records = [replace(record, path=folder / record.path.name) for record in MADE]
    for record in records[1:]:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(record.path)
    return replace(MADE, records=records)


@pytest.fixture(scope="module")
def explained(dataset):
    findings = given_findings(RESULTS, dataset)
    return findings, explain_findings(findings, dataset, samples=10)


def test_the_page(dataset, explained, tmp_path):
    findings, explanation = explained
    other = given_findings(made_results(MADE, shift=0.3), dataset)
    page = evaluation_report(
        explanation,
        score(findings, dataset, by_count=True, voc=True),
        dataset,
        tmp_path / "out" / "report.html",
        comparison=compare_findings(findings, other, dataset, samples=10),
        names=("old.json", "new.json"),
    )
    document = page.read_text()
    assert_page(re.sub(r'<a href="[^"#][^"]*">', '<a href="#">', document))
    sections = re.findall(r"<h2>(.*?)</h2>", document)
    assert sections == ["Numbers", "Comparison", "What costs AP", "Classes", "Curves", "Confusion", "Calibration",
                        "Worst images", "Likely label errors"]  # fmt: skip
    assert "<th>old.json</th><th>new.json</th>" in document
    assert "By the number of objects" in document
    for kind in ("box", "mask"):
        assert f"{explanation.parts[kind].ap.value:.3f}" in document
    links = re.findall(r'<a href="([^"#][^"]*jpg)">', document)
    assert links
    assert all("%20" in link and (page.parent / link.replace("%20", " ")).is_file() for link in links)


def test_boxes_alone_and_nothing_found(dataset, tmp_path):
    for results in ([{k: v for k, v in one.items() if k != "segmentation"} for one in RESULTS], []):
        findings = given_findings(results, dataset)
        explanation = explain_findings(findings, dataset, samples=2)
        page = evaluation_report(explanation, score(findings, dataset), dataset, tmp_path / "report.html")
        assert "<h2>Comparison</h2>" not in page.read_text()
        assert evaluation_plots(explanation).keys() == {"precision_recall", "confusion", "errors", "calibration"}


def test_plots_are_pixels(explained):
    plots = evaluation_plots(explained[1])
    for pixels in plots.values():
        assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)
        assert len(np.unique(pixels)) > 5


def test_the_heat_map_shows_what_is_mixed_up_most():
    counts = np.eye(31, dtype=int) * 50
    counts[7, 9], counts[30, 30] = 20, 0
    confusion = Confusion([f"c{i}" for i in range(30)] + ["background"], counts.tolist(), 0.5, 0.4)
    chosen = shown_classes(confusion, most=5)
    assert {7, 9, 30} <= set(chosen)
    assert len(chosen) == 6
    chart = heat_map(confusion, "confusion")
    assert "c7 found as c9: 20, 29% of them" in chart
    assert "fill-opacity: 1.00" in chart


def test_intervals_and_reliability():
    chart = intervals({"cat": Interval(0.5, 0.4, 0.6)}, "AP")
    assert "cat: 0.500, 0.400 to 0.600" in chart
    assert 'class="mark"' in intervals({"cat": Interval(-0.1, -0.3, 0.1)}, "", zero=True)
    bins = [Bin(0.8, 0.9, 4, 0.85, 0.25), Bin(0.9, 1.0, 0, 0.0, 0.0)]
    chart = reliability(bins, "calibration")
    assert "4 results with scores of 0.85 on average: 25% are right" in chart
    assert chart.count("<rect") == 1


def shown(outcome, box, rle=None):
    return Shown("cat", box, 0.8, outcome, rle, 0)


def color_at(pixels, x, y):
    return "#{:02x}{:02x}{:02x}".format(*pixels[y, x].tolist())


def test_errors_have_their_colours_and_lie_on_top():
    """A large photo is shrunk, and the boxes with it."""
    pixels = np.full((200, 400, 3), 128, np.uint8)
    right, wrong = shown("right", [40.0, 40.0, 160.0, 160.0]), shown("Bkg", [200.0, 40.0, 320.0, 160.0])
    drawn = draw_shown(pixels, [right, wrong], side=200)
    assert drawn.shape == (100, 200, 3)
    assert color_at(drawn, 20, 60) == COLORS["right"]
    assert color_at(drawn, 100, 60) == FALSE
    both = draw_shown(pixels, [right, replace(wrong, box=right.box)], side=200)
    assert color_at(both, 20, 60) == FALSE


def test_masks_are_filled():
    from maskrcnn.ops.masks import encode_mask

    mask = np.zeros((100, 100), bool)
    mask[20:80, 20:80] = True
    rle = encode_mask(mask)
    rle = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    drawn = draw_shown(np.zeros((100, 100, 3), np.uint8), [shown("missed", [20.0, 20.0, 80.0, 80.0], rle)], side=100)
    assert drawn[50, 50, 0] > 60
    assert drawn[50, 50, 0] > drawn[50, 5, 0]


def test_a_suspect_is_drawn_with_its_surroundings(dataset):
    for record in dataset.records[:2]:  # the first has no file
        suspect = Suspect("missing", record.image_id, str(record.path), 0.9, shown("Bkg", [0.0, 0.0, 20.0, 20.0]))
        pixels = draw_suspect(suspect, record, 120)
        assert max(pixels.shape[:2]) == 120
        assert (pixels == [int(FALSE[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1).any()


def test_links(dataset, tmp_path):
    page = tmp_path / "report.html"
    assert link_to(dataset[0], page) is None
    assert link_to(dataset[1], page).endswith("with%20space/2.jpg")
    assert link_to(replace(dataset[1], path=Path(tmp_path / "gone.jpg")), page) is None


def test_look_at_says_of_chosen_images_what_the_whole_says(dataset, explained):
    """Images in the order that is asked for; the same outcome for each result as in the whole data set."""
    findings, explanation = explained
    part = explanation.parts["mask"]
    wanted = [image.image_id for image in part.worst[:3]][::-1]
    ids = dataset.table.image_ids.tolist()
    seen = look_at(findings, dataset.take([ids.index(one) for one in wanted]), part.overall.best_score)
    assert [image.image_id for image in seen] == wanted
    for image, whole in zip(seen, part.worst[:3][::-1], strict=True):
        assert (image.right, image.missed, image.false) == (whole.right, whole.missed, whole.false)
        assert [one.outcome for one in image.results] == [one.outcome for one in whole.results]
