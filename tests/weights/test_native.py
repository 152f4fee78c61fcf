"""Our checkpoints: what goes in comes out, and damage is named."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import maskrcnn
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.structures import KeypointSchema
from maskrcnn.weights.load import find_checkpoint, load_weights
from maskrcnn.weights.native import load_model, read_model, save_model
from maskrcnn.weights.remap import transfer
from tests.training.tiny_run import tiny_backbone, tiny_config


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr("maskrcnn.model.build.build_backbone", tiny_backbone)


def make(classes=("cat", "dog"), seed=0, **changes):
    config = tiny_config(**changes)
    model = build_model(
        config.model, classes=classes, category_ids=range(7, 7 + len(classes)), data=config.data, seed=seed
    )
    return model, config


def test_round_trip(tmp_path):
    model, config = make(seed=5)
    folder = save_model(model, tmp_path / "m", config=config, metrics={"box": {"ap": 0.5}}, extra={"step": 3})
    loaded, loaded_config, header = load_model(folder)
    assert loaded_config == config
    assert (loaded.classes, loaded.category_ids) == (("cat", "dog"), (7, 8))
    assert loaded.data == config.data
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    assert (header["step"], header["metrics"], header["format_version"]) == (3, {"box": {"ap": 0.5}}, 1)
    assert header["maskrcnn_version"] == maskrcnn.__version__
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_the_file_itself_loads(tmp_path):
    model, _ = make()
    folder = save_model(model, tmp_path / "m")
    assert load_model(folder / "model.safetensors")[0].classes == ("cat", "dog")


def test_keypoint_names_survive(tmp_path):
    model, _ = make()
    model.keypoints = KeypointSchema(("left eye", "right eye"), ((0, 1),))
    assert load_model(save_model(model, tmp_path / "m"))[0].keypoints == model.keypoints


def test_overrides(tmp_path):
    model, _ = make()
    save_model(model, tmp_path / "m")
    assert load_weights(tmp_path / "m", **{"box.score_threshold": 0.7}).config.box.score_threshold == 0.7
    with pytest.raises(ConfigError, match=r"model.box.score_treshold: unknown config key, did you mean"):
        load_weights(tmp_path / "m", **{"box.score_treshold": 0.7})
    with pytest.raises(WeightsError, match=r"other shapes .*fpn") as caught:
        load_weights(tmp_path / "m", **{"fpn.channels": 4})
    assert any(name.startswith("fpn.") for name in caught.value.missing)


def test_run_folder_means_best_then_last(tmp_path):
    model, _ = make()
    last = save_model(model, tmp_path / "checkpoints" / "last")
    assert find_checkpoint(tmp_path) == last
    best = save_model(model, tmp_path / "checkpoints" / "best")
    assert find_checkpoint(tmp_path) == best
    best.rename(best.with_name("best.old"))  # a crash between two renames
    assert find_checkpoint(tmp_path) == best.with_name("best.old")
    assert load_weights(tmp_path).classes == ("cat", "dog")


def test_truncated_file(tmp_path):
    folder = save_model(make()[0], tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model.safetensors: damaged or cut short .*copy it again"):
        load_model(folder)


def edit(folder, change):
    path = folder / "model.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("format"), "model.json: not written by maskrcnn"),
        (lambda h: h.update(format_version=99), "format 99 was written by maskrcnn .*update maskrcnn"),
        (lambda h: h.pop("classes"), "model.json: entry missing or wrong: 'classes'"),
        (lambda h: h["config"]["model"].update(depth=3), "model.json: entry missing or wrong: model.depth: unknown"),
    ],
)
def test_wrong_header(tmp_path, change, message):
    folder = save_model(make()[0], tmp_path / "m")
    edit(folder, change)
    with pytest.raises(WeightsError, match=message):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_header_that_is_no_json_object(tmp_path, text):
    folder = save_model(make()[0], tmp_path / "m")
    (folder / "model.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model.json: (not readable as JSON|holds no JSON object)"):
        load_model(folder)


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    model, config = make()
    folder = save_model(model, tmp_path / "m", config=config)
    edit(folder, lambda h: h["config"]["model"]["mask"].update(convolutions=2))
    with pytest.raises(WeightsError, match=r"tensors do not fit the model: missing mask_head") as caught:
        load_model(folder)
    assert all(name.startswith("mask_head.") for name in caught.value.missing)
    edit(folder, lambda h: h["config"]["model"].update(mask=None))
    with pytest.raises(WeightsError, match=r"unexpected mask_head") as caught:
        load_model(folder)
    assert "mask_head.logits.weight" in caught.value.unexpected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: no such file or folder; give a run folder"),
        ("empty", "empty: no checkpoint in this folder; give a run folder"),
        ("weights.safetensors", "weights.safetensors: an empty file; fetch it again"),
        ("yolov3.weights", "yolov3.weights: weights of Darknet, which are a YOLO's; give a run folder"),
        ("model.xyz", "model.xyz: unknown kind of checkpoint; give a run folder"),
        ("gone.pth", "gone.pth: no such file; give a run folder"),
    ],
)
def test_what_is_no_checkpoint(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"")
    (tmp_path / "model.xyz").write_bytes(b"")
    (tmp_path / "yolov3.weights").write_bytes(b"")
    with pytest.raises(WeightsError, match=message):
        load_weights(tmp_path / name)


def test_transfer_by_class_name():
    source, _ = make(classes=("dog", "bird", "cat"), seed=1)
    nn.init.normal_(source.box_head.class_logits.bias)
    target, _ = make(classes=("cat", "fish", "dog"), seed=2)
    fresh, _ = make(classes=("cat", "fish", "dog"), seed=2)
    report = transfer(target, source.state_dict(), source.classes)
    there = {"cat": 2, "dog": 0}
    for label, name in enumerate(target.classes):
        if name in there:
            row = there[name]
            assert torch.equal(target.box_head.class_logits.weight[label], source.box_head.class_logits.weight[row])
            deltas, rows = target.box_head.box_deltas.weight, source.box_head.box_deltas.weight
            assert torch.equal(deltas[4 * label : 4 * label + 4], rows[4 * row : 4 * row + 4])
            assert torch.equal(target.mask_head.logits.weight[label], source.mask_head.logits.weight[row])
        else:
            assert torch.equal(target.box_head.class_logits.weight[label], fresh.box_head.class_logits.weight[label])
    assert torch.equal(target.box_head.class_logits.bias[-1], source.box_head.class_logits.bias[-1])  # background
    assert torch.equal(target.fpn.lateral[0][0].weight, source.fpn.lateral[0][0].weight)
    assert (report.kept_classes, report.new_classes, report.dropped_classes) == (("cat", "dog"), ("fish",), ("bird",))
    assert (report.initialised, report.dropped) == ((), ())
    assert "classes initialised: fish" in str(report)


@pytest.mark.parametrize("agnostic", [True, False])
def test_transfer_to_one_class(agnostic):
    changes = {"model.box.class_agnostic": agnostic, "model.mask.class_agnostic": agnostic}
    source, _ = make(classes=("dog", "cat"), seed=1, **changes)
    target, _ = make(classes=("nucleus",), seed=2, **changes)
    transfer(target, source.state_dict(), source.classes)
    # Rows for all classes come along; rows for a class that the source does not know do not.
    same = torch.equal(target.box_head.box_deltas.weight, source.box_head.box_deltas.weight)
    assert same is agnostic


def test_transfer_between_layouts_initialises():
    source, _ = make(seed=1, **{"model.box.class_agnostic": True, "model.mask": None})
    target, _ = make(seed=2)
    report = transfer(target, source.state_dict(), source.classes)
    assert {"box_head.box_deltas.weight", "mask_head.logits.weight"} <= set(report.initialised)
    assert "box_head.box_deltas.weight" in report.dropped
    assert "tensors initialised: " in str(report)


def test_preprocessing_stays_the_models_own():
    source, _ = make(**{"model.image_mean": (1.0, 2.0, 3.0)})
    target, _ = make()
    transfer(target, source.state_dict(), source.classes)
    assert target.mean.flatten()[0] == pytest.approx(123.675)


def test_reading_builds_no_network(tmp_path, monkeypatch):
    folder = save_model(make()[0], tmp_path / "m")
    monkeypatch.setattr("maskrcnn.weights.native.build_model", None)
    state, _, header = read_model(folder)
    assert header["classes"] == ("cat", "dog")
    assert "box_head.class_logits.weight" in state
