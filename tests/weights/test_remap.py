"""Cascades and keypoints: rows of further heads go by class name, a keypoint head by its number of points."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import KeypointHeadConfig
from maskrcnn.model.build import build_model
from maskrcnn.structures import KeypointSchema
from maskrcnn.weights.remap import transfer
from tests.training.tiny_run import tiny_backbone, tiny_config

CASCADE = {
    "model.box.class_agnostic": True,
    "model.box.cascade": ((0.6, (20.0, 20.0, 10.0, 10.0)), (0.7, (30.0, 30.0, 15.0, 15.0))),
    "model.mask.each_stage": True,
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr("maskrcnn.model.build.build_backbone", tiny_backbone)


def make(classes, seed, points=0, **changes):
    config = tiny_config(**changes)
    keypoints = KeypointSchema(tuple(f"point {i}" for i in range(points))) if points else None
    return build_model(config.model, classes=classes, data=config.data, seed=seed, keypoints=keypoints)


def test_every_head_of_a_cascade_goes_by_class_name():
    source, target = make(("dog", "cat"), 1, **CASCADE), make(("cat", "fish", "dog"), 2, **CASCADE)
    report = transfer(target, source.state_dict(), source.classes)
    assert (report.initialised, report.dropped) == ((), ())
    for ours, theirs in zip(target.cascade, source.cascade, strict=True):
        assert torch.equal(ours.class_logits.weight[[0, 2, 3]], theirs.class_logits.weight[[1, 0, 2]])
        assert torch.equal(ours.box_deltas.weight, theirs.box_deltas.weight)  # one box for all classes
    for ours, theirs in zip(target.cascade_masks, source.cascade_masks, strict=True):
        assert torch.equal(ours.logits.weight[[0, 2]], theirs.logits.weight[[1, 0]])


@pytest.mark.parametrize("points", [3, 5])
def test_a_keypoint_head_is_copied_where_the_number_of_points_fits(points):
    changes = {"model.keypoint": KeypointHeadConfig(channels=8, convolutions=2)}
    source, target = make(("a",), 1, 3, **changes), make(("a",), 2, points, **changes)
    report = transfer(target, source.state_dict(), source.classes)
    assert ("keypoint_head.logits.weight" in report.copied) is (points == 3)
    assert "keypoint_head.convolutions.0.weight" in report.copied
    assert report.initialised == (() if points == 3 else ("keypoint_head.logits.weight", "keypoint_head.logits.bias"))
