"""The page about one image's way through a model: complete for every family, and its drawings."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskrcnn.errors import ConfigError
from maskrcnn.inspection.model import inspect_model
from maskrcnn.view import model_draw as draw
from maskrcnn.view.model import model_report
from maskrcnn.view.sketch import Sketch, heat, region
from tests.inspection.families import BOXES, FAMILIES, model_of, photo, record
from tests.view.test_data import pictures
from tests.view.test_report import assert_page


@pytest.fixture(scope="module")
def traces():
    return {family: inspect_model(model_of(family), record=record(), score_threshold=0.05) for family in FAMILIES}


def sections(document: str) -> list[str]:
    return re.findall(r'<section id="[^"]*"><h2>(.*?)</h2>', document)


ALWAYS = ["Summary", "Input", "Activations", "Anchors", "Proposals", "RoIs", "Box head", "Detections"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_stage_of_every_family(traces, tmp_path, family):
    trace = traces[family]
    document = model_report(trace, tmp_path / "page.html", name="m").read_text()
    assert_page(document)
    masks = ["Masks"] * (trace.masks is not None)
    points = ["Keypoints"] * (trace.heat_maps is not None)
    assert sections(document) == [*ALWAYS, *masks, *points, "Losses"]
    assert len(pictures(document)) > 20
    assert len(document) < 8_000_000
    for part in trace.losses.parts:
        assert f"<td>{part}</td>" in document
    assert ("The heads of the cascade" in document) == (family == "cascade")


def test_without_truth_and_without_detections(tmp_path):
    trace = inspect_model(model_of("pyramid"), photo(), score_threshold=1.0)
    document = model_report(trace, tmp_path / "page.html").read_text()
    assert_page(document)
    assert sections(document) == [*ALWAYS, "Masks"]
    assert "Give the truth (--data)" in document
    nothing = replace(
        trace,
        detections=replace(trace.detections, **{name: getattr(trace.detections, name)[:0] for name in
                                                ("boxes", "scores", "labels", "proposal", "object", "iou")}),
    )  # fmt: skip
    assert "Nothing was found" in model_report(nothing, tmp_path / "page.html").read_text()


def test_what_became_of_each_object(traces, tmp_path):
    trace = traces["pyramid"]
    found, label = trace.detections, trace.truth.labels[1]
    base = {
        "boxes": BOXES[:1],
        "scores": np.array([0.9], np.float32),
        "labels": np.array([label]),
        "proposal": np.zeros(1, np.int64),
        "object": np.array([1]),
        "iou": np.array([0.8], np.float32),
    }
    proposals = replace(trace.proposals, recall=np.array([0.2, 0.9, 0.9]))

    def page(**changes) -> str:
        detections = replace(found, **{**base, **changes})
        masks = replace(trace.masks, probabilities=trace.masks.probabilities[:1], targets=None, iou=np.array([np.nan]))
        changed = replace(trace, detections=detections, proposals=proposals, masks=masks, score_threshold=0.5)
        return model_report(changed, tmp_path / "page.html").read_text()

    assert "found, score 0.90, IoU 0.80" in page()
    assert "no proposal lies on it" in page()
    assert "the box head takes them for background" in page()
    assert "found, but its score 0.10 is below 0.5" in page(scores=np.array([0.1], np.float32))
    assert "found as square (0.90)" in page(labels=np.array([0]))
    assert "1 of 3 true objects" not in page()
    assert "2 of 3 true objects have a proposal" in page()


def test_drawings_for_notebooks(traces):
    trace = traces["keypoints"]
    whole = [
        draw.draw_input(trace),
        draw.draw_truth(trace),
        *(draw.draw_anchors(trace, state) for state in ("positive", "negative", "ignored")),
        *(draw.draw_proposals(trace, step) for step in ("anchors", "refined", "clipped", "kept")),
        draw.draw_levels(trace),
        draw.draw_refinement(trace),
        draw.draw_candidates(trace),
        draw.draw_detections(trace),
        draw.draw_losses(trace),
        draw.draw_keypoints(trace),
    ]
    for picture in whole:
        assert picture.shape == (480, 640, 3)
        assert picture.dtype == np.uint8
    assert len({picture.tobytes() for picture in whole}) == len(whole)
    assert draw.draw_crop(trace, 0).shape[0] == 98
    assert draw.draw_mask(trace, 0).shape[0] == 96
    assert draw.draw_heat_maps(trace, 0, columns=2).shape == (2 * 98 - 2, 2 * 98 - 2, 3)
    assert draw.draw_activation(trace, "fpn P3").ndim == 3
    with pytest.raises(ConfigError, match=r"'fpn P9' was not kept, did you mean"):
        draw.draw_activation(trace, "fpn P9")
    with pytest.raises(ConfigError, match="the model has no mask head"):
        draw.draw_mask(traces["boxes alone"], 0)
    with pytest.raises(ConfigError, match="the model has no keypoint head"):
        draw.draw_heat_maps(traces["pyramid"], 0)


def test_solid_and_dotted_boxes():
    ground = np.zeros((50, 100, 3), np.uint8)
    box = np.array([(10, 10, 90, 40)], np.float32)
    solid = Sketch(ground, 100).boxes(box, "#ff0000").array()
    dotted = Sketch(ground, 100).boxes(box, "#ff0000", dotted=True).array()
    along = (slice(10, 11), slice(14, 86))
    assert (solid[along][..., 0] == 255).all()
    share = (dotted[along][..., 0] == 255).mean()
    assert 0.4 < share < 0.8
    assert not solid[15:35, 15:85].any()


def test_heat_and_regions():
    values = np.array([[0.0, 1.0, np.nan]])
    low, high, missing = heat(values)[0]
    assert low.tolist() == [13, 8, 60]
    assert high.tolist() == [250, 232, 70]
    assert missing.tolist() == [128, 128, 128]
    assert (heat(np.zeros((2, 2))) == low).all()
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[2:6, 4:8] = 200
    assert (region(pixels, np.array([4.0, 2.0, 8.0, 6.0]), 4)[1:3, 1:3] == 200).all()
    assert region(pixels, np.array([-20.0, -20.0, -10.0, -10.0]), 4).max() == 0


def test_a_model_that_is_broken(tmp_path):
    """A page all the same, and it says why there is nothing on it."""
    model = copy.deepcopy(model_of("pyramid"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    trace = inspect_model(model, record=record())
    assert "tensors of the model hold NaN or infinite numbers, first backbone" in trace.notes[0]
    assert_page(model_report(trace, tmp_path / "page.html").read_text())
