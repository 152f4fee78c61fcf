"""Which network `train` starts with: of a config file, of weights with their config, of a run of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from maskrcnn.cli.commands import _planned
from maskrcnn.config import Config, KeypointHeadConfig, TrainConfig
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.structures import KeypointSchema
from maskrcnn.training import setup
from maskrcnn.weights.native import save_model
from tests.training.tiny_run import write_squares
from tests.weights.oracle import folder, oracles

YAML = "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true, RESNETS: {DEPTH: 101}}\nINPUT: {MIN_SIZE_TEST: 320}\n"


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """`train`'s plan for six squares: (config, reasons)."""
    monkeypatch.chdir(tmp_path)
    dataset = write_squares(Path("d"), 6)

    def make(fixed=None, data=dataset, **changes):
        usual = {"preset": "auto", "weights": "none", "resume": False, "val": None, "device": "cpu", "check": "none"}
        usual |= {"model_config": None, "out": "runs/train"}
        monkeypatch.setattr("maskrcnn.cli.commands._fields", lambda given: fixed or {})
        monkeypatch.setattr("maskrcnn.cli.commands._open", lambda given: data)
        config, reasons, *_ = _planned(SimpleNamespace(**(usual | changes)))
        return config, reasons

    make.data = dataset
    return make


def pointed(dataset):
    """The data set with two keypoints an object."""
    records = [replace(record, keypoints=np.ones((len(record.boxes), 2, 3), np.float32)) for record in dataset.records]
    return replace(dataset, records=records, keypoints=KeypointSchema(("top", "tip")))


def test_a_config_alone_is_the_network(planned):
    Path("d2.yaml").write_text(YAML)
    config, reasons = planned(model_config="d2.yaml", weights="auto")
    assert (config.model.backbone.name, config.model.image_std) == ("resnet101", (1.0, 1.0, 1.0))
    assert (config.data.min_size, config.train.learning_rate_batch) == (320, 16)
    assert config.model.backbone.stride_in_1x1
    assert "the network of d2.yaml, on resnet101" in reasons
    assert reasons[-1] == "d2.yaml: its schedule is not taken over, the fields of train set it"
    scratch, _ = planned(model_config="d2.yaml")
    assert (scratch.model.backbone.norm, scratch.model.fpn.norm) == ("bn", "bn")
    no_pyramid, _ = planned(model_config="COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x")
    assert no_pyramid.model.fpn is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "r18-fpn"}, "--preset r18-fpn and --model-config both name a network"),
        ({"resume": True}, "a resumed run keeps its own network"),
        ({"weights": "coco"}, "--weights coco has no config file"),
    ],
)
def test_two_networks_are_refused(planned, changes, message):
    Path("d2.yaml").write_text(YAML)
    with pytest.raises(ConfigError, match=message):
        planned(model_config="d2.yaml", **changes)


def test_weights_with_the_config_they_had(planned, data_dir, tmp_path):
    """An oracle of MMDetection in caffe style, away from its config: where blocks halve cannot be told from weights."""
    oracle = folder(data_dir, "mm_r50_caffe_fpn")
    oracles(data_dir).write(oracle.name, Path("whole.pth"))
    state = torch.load("whole.pth", weights_only=True)["state_dict"]
    torch.save({"state_dict": state}, "epoch_12.pth")
    theirs = str(oracle / "config.py")
    config, reasons = planned(weights="epoch_12.pth", model_config=theirs)
    assert config.model.backbone.stride_in_1x1
    assert any(reason.startswith(f"the network of the weights, as {theirs} describes it") for reason in reasons)
    model, said = setup.initial_model(config, planned.data, "epoch_12.pth", tmp_path / "run", theirs)
    first = torch.as_tensor(state["backbone.conv1.weight"])
    assert torch.equal(model.backbone.conv1.weight, first.flip(1))  # blue first, as the config says
    assert "from epoch_12.pth" in said
    assert "warning" not in said


def test_a_run_of_ours_brings_its_network_and_its_optimiser(planned, tmp_path):
    earlier = preset("shapes").replace(**{"train.seed": 3, "train.steps": 9, "model.box.detections_per_image": 7})
    model = build_model(earlier.model, classes=["x"], data=earlier.data)
    save_model(model, tmp_path / "runs/first/checkpoints/last", config=earlier, extra={"step": 9})
    config, reasons = planned(weights="last")
    assert replace(config.model, box=replace(config.model.box, detections_per_image=7)) == earlier.model
    assert config.model.box.detections_per_image is None
    assert (config.train.optimizer, config.train.batch_size) == ("adamw", 8)
    assert (config.train.seed, config.train.steps) == (0, None)
    assert "the network of the weights, on resnet18" in reasons
    assert planned(weights="runs/first")[0] == config
    assert planned(weights="last", preset="r34-fpn")[0].model.backbone.name == "resnet34"
    with pytest.raises(WeightsError, match=r"a checkpoint of maskrcnn brings its own config; leave d2.yaml out"):
        planned(weights="last", model_config="d2.yaml")
    save_model(model, tmp_path / "converted", config=Config(earlier.model, earlier.data))
    assert planned(weights="converted")[0].train.optimizer == TrainConfig().optimizer


def test_keypoints_in_the_data_get_a_head(planned):
    data = pointed(planned.data)
    config, reasons = planned(data=data)
    assert config.model.keypoint == KeypointHeadConfig(channels=192)  # the light preset's pyramid has 96
    assert any(
        reason.startswith("the data has 2 keypoints an object: a keypoint head learns them") for reason in reasons
    )
    without, _ = planned({"model.keypoint": None}, data=data)
    assert without.model.keypoint is None

    named, reasons = planned(data=data, preset="mask_rcnn_R_50_FPN_3x")
    assert named.model.keypoint is None
    (told,) = [reason for reason in reasons if "keypoints" in reason]
    assert "they are not learned; --preset COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x, --preset auto or" in told
    set_by_hand, reasons = planned({"model.keypoint.convolutions": 2}, data=data, preset="r18-fpn")
    assert set_by_hand.model.keypoint.convolutions == 2
    assert not any("keypoints" in reason for reason in reasons)

    Path("d2.yaml").write_text(YAML)
    config, reasons = planned(data=data, model_config="d2.yaml")
    assert config.model.keypoint.channels == 512
    assert "the data has keypoints: a keypoint head is added, which the weights do not have" in reasons
