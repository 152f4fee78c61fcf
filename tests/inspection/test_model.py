"""The trace of a prediction: the same numbers as everywhere else, for every family of models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError, WeightsError
from maskrcnn.inspection.model import inspect_model
from maskrcnn.inspection.trace import IGNORED, NEGATIVE, POSITIVE, Trace
from maskrcnn.model.build import fused_copy
from maskrcnn.ops.boxes import iou
from maskrcnn.predict.predictor import Predictor
from tests.inspection.families import BOXES, CLASSES, FAMILIES, model_of, photo, record
from tests.model.tiny import tiny_model

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {family: inspect_model(model_of(family), record=record(), score_threshold=0.05) for family in FAMILIES}


@every_family
def test_the_trace_is_what_the_predictor_gives(traces, family):
    trace, model = traces[family], model_of(family)
    expected = Predictor(model, "cpu")(photo(), score_threshold=0.05)
    assert len(expected) > 3
    for name in ("boxes", "scores", "labels", "roi_masks", "keypoints"):
        np.testing.assert_array_equal(getattr(trace.instances, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(trace.photo, photo())


@every_family
def test_stages_follow_from_each_other(traces, family):
    trace = traces[family]
    found, proposals = trace.detections, trace.proposals
    assert len(found) >= len(trace.instances)
    # A detection is its proposal as the last head moves it, and its score that of the mean of the heads.
    pairs = zip(trace.candidates.proposal.tolist(), trace.candidates.labels.tolist(), strict=True)
    same = {pair: index for index, pair in enumerate(pairs)}
    for box, label, proposal in zip(found.boxes, found.labels, found.proposal, strict=True):
        index = same[int(proposal), int(label)]
        np.testing.assert_allclose(trace.candidates.boxes[index], box, atol=1e-4)
    assert trace.candidate_counts.sum() >= len(found)
    # A proposal is the clipped, refined box of its anchor.
    assert proposals.kept.any()
    for index in np.flatnonzero(proposals.kept):
        distance = np.abs(proposals.boxes - proposals.clipped[index]).max(axis=1)
        assert distance.min() < 1e-3
        assert proposals.anchor[distance.argmin()] == proposals.top[index]
    np.testing.assert_array_equal(trace.anchors.boxes[proposals.top].shape, proposals.anchors.shape)
    assert (np.diff(proposals.scores) <= 0).all()


@every_family
def test_losses_are_those_of_training_and_shares_add_up(traces, family):
    trace, model = traces[family], fused_copy(model_of(family))
    truth = record(points=model.keypoints is not None)
    dataset = Dataset([truth], CLASSES, (1, 2, 3), keypoints=model.keypoints)
    batch = next(Loader(dataset, replace(model.data, workers=0), batch_size=1).steps(0))[0]
    with torch.no_grad():
        expected = model(batch.images, batch.sizes, batch.targets)
    losses = trace.losses
    assert losses is not None
    assert losses.parts == tuple(expected)
    np.testing.assert_allclose(losses.values, [float(value) for value in expected.values()], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses.shares.sum(axis=0), losses.values, rtol=1e-4, atol=1e-6)
    assert losses.shares.shape == (4, len(expected))
    foreground = [losses.parts.index(name) for name in losses.parts if name.partition("_")[0] in ("box", "mask")]
    assert (losses.shares[-1, foreground] == 0).all(), "background has no box and no mask"
    assert losses.samples.sum() > 0


@every_family
def test_labels_of_anchors(traces, family):
    trace = traces[family]
    anchors, truth = trace.anchors, trace.truth
    overlap = iou(torch.from_numpy(anchors.boxes), torch.from_numpy(truth.boxes)).numpy()
    config = model_of(family).config.rpn
    if not model_of(family).config.inclusive and config.anchors.border == "keep":
        assert (anchors.state[(overlap >= config.foreground_iou).any(axis=1)] == POSITIVE).all()
        between = (overlap.max(axis=1) > config.background_iou) & (overlap.max(axis=1) < config.foreground_iou)
        assert (anchors.state[between] >= IGNORED).all()
        assert (anchors.state[overlap.max(axis=1) < config.background_iou] != IGNORED).all()
    assert set(anchors.object[anchors.state == POSITIVE]) <= {0, 1, 2}
    assert (anchors.object[anchors.state != POSITIVE] == -1).all()
    assert (anchors.state[anchors.sampled] != IGNORED).all()
    assert (anchors.state == NEGATIVE).any()
    assert trace.losses.anchors.sum() == (anchors.state[anchors.sampled] == POSITIVE).sum()


@every_family
def test_masks_and_their_targets(traces, family):
    trace, model = traces[family], model_of(family)
    if model.mask_head is None:
        assert trace.masks is None
        return
    masks, on = trace.masks, trace.detections.object >= 0
    assert masks.probabilities.shape == (len(trace.detections), *[model.mask_head.resolution] * 2)
    assert np.isfinite(masks.targets[on]).all()
    assert np.isnan(masks.targets[~on]).all()
    assert (masks.iou[on] >= 0).all()
    assert (masks.iou[on] <= 1).all()


def test_shapes_of_the_rest(traces):
    trace = traces["keypoints"]
    assert trace.heat_maps.maps.shape[1:] == (3, 56, 56)
    np.testing.assert_allclose(trace.heat_maps.maps.sum(axis=(2, 3)), 1, rtol=1e-4)
    assert traces["pyramid"].heat_maps is None
    assert len(traces["cascade"].stages) == 3
    assert traces["cascade"].stages[1].boxes.shape == traces["cascade"].proposals.boxes.shape
    assert traces["c4"].crops.features.shape[2:] == (14, 14)
    assert len(traces["pyramid"].crops.rows) == 12
    assert set(traces["pyramid"].proposals.roi_level) <= {0, 1, 2, 3}
    names = [activation.name for activation in traces["pyramid"].activations]
    assert names == [*(f"backbone {n}" for n in (1, 2, 3, 4)), *(f"fpn P{n}" for n in (2, 3, 4, 5, 6))]
    assert [activation.name for activation in traces["c4"].activations] == ["backbone"]
    corner = traces["matterport"].input.content
    assert corner == (0, 16, 128, 112), "in the middle of the square"
    np.testing.assert_allclose(traces["pyramid"].truth.boxes, BOXES * (128 / 120), atol=0.5)


def test_statistics_of_the_input_count_the_content_alone():
    pixels = np.full((96, 128, 3), (10, 20, 30), np.uint8)
    trace = inspect_model(model_of("matterport"), pixels)
    np.testing.assert_allclose(trace.input.raw[:, 0], (10, 20, 30))
    np.testing.assert_allclose(trace.input.raw[:, 1], 0, atol=1e-9)
    config = model_of("matterport").config
    expected = (np.array([10, 20, 30]) - config.image_mean) / config.image_std
    np.testing.assert_allclose(trace.input.normalised[:, 0], expected, rtol=1e-5)
    assert trace.truth is None
    assert trace.losses is None
    assert trace.anchors.state is None
    assert trace.masks.targets is None


def test_chosen_layers_and_the_model_stays_as_it_was():
    model = model_of("pyramid")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace = inspect_model(model, photo(), layers=["backbone.layer1", "mask_head.layers.0"])
    assert [activation.name for activation in trace.activations] == ["backbone.layer1", "mask_head.layers.0"]
    assert trace.activations[0].shape[1:] == (24, 32)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(vars(module).get("forward") for module in model.modules())


def test_truth_of_other_classes_without_masks_and_without_objects():
    model = model_of("pyramid")
    other = inspect_model(model, record=record(masks=False), classes=("circle", "hexagon", "square"))
    assert other.truth.labels.tolist() == [1, 0]
    assert "hexagon" in other.notes[0]
    assert "no mask loss" in other.notes[1]
    assert "mask" not in other.losses.parts
    bare = record()
    nothing = replace(
        bare, boxes=BOXES[:0], labels=bare.labels[:0], masks=(), crowd=bare.crowd[:0], areas=bare.areas[:0],
        annotation_ids=bare.annotation_ids[:0], keypoints=None,
    )  # fmt: skip
    empty = inspect_model(model, record=nothing)
    assert empty.notes == ()
    assert len(empty.truth.boxes) == 0
    assert empty.losses.shares.shape[0] == 1
    np.testing.assert_allclose(empty.losses.shares[0], empty.losses.values, rtol=1e-5)


def test_a_model_that_finds_nothing():
    model = model_of("pyramid")
    trace = inspect_model(model, photo(), record(), score_threshold=1.0)
    assert len(trace.instances) == 0
    silent = model_of("keypoints")
    threshold = silent.box_head.config
    silent.box_head.config = replace(threshold, score_threshold=1.0)
    try:
        trace = inspect_model(silent, photo(), record())
    finally:
        silent.box_head.config = threshold
    assert len(trace.detections) == 0
    assert trace.masks.probabilities.shape[0] == 0
    assert trace.heat_maps.maps.shape[0] == 0


def test_images_of_four_channels_and_sixteen_bits():
    """Shown stretched, traced in their own numbers."""
    plain = dict.fromkeys(("data.brightness", "data.contrast", "data.saturation"), 0.0)
    four = {"model.image_mean": (500.0,) * 4, "model.image_std": (300.0,) * 4, "data.pixels": "raw"}
    model = tiny_model(**plain, **four)
    values = np.random.default_rng(0).integers(0, 1000, (90, 120, 4)).astype(np.uint16)
    trace = inspect_model(model, record=replace(record(), make=lambda: values))
    assert trace.input.raw.shape == (4, 4)
    assert trace.input.raw[:, 0] == pytest.approx(500, abs=30)
    assert trace.input.pixels.max() > 200
    assert trace.photo.shape == (90, 120, 3)
    assert trace.losses.shares.shape[0] == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "give an image, a record, or both"),
        ({"image": photo(), "layers": ["backbone.layer9"]}, ConfigError, "no layer 'backbone.layer9', did you mean"),
        ({"image": photo(), "layers": ["box_head.class_logits"]}, ConfigError, "box_head.class_logits gives no map"),
        ({"image": photo(), "score_threshold": 2}, ConfigError, "2 must lie between 0 and 1"),
        ({"image": "nowhere.png"}, DataError, "nowhere.png"),
        ({"record": record(), "classes": ("one",)}, DataError, "label 2, but there are 1 classes"),
    ],
)
def test_mistakes(options, error, message):
    with pytest.raises(error, match=message):
        inspect_model(model_of("pyramid"), **options)


def test_an_exported_file_has_no_inside(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match="give the checkpoint it came from"):
        inspect_model(tmp_path / "model.onnx", photo())
