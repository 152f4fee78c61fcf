"""Words for weights on the command line: coco, a detector's file, and no model at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch

from maskrcnn import cli
from maskrcnn.cli.commands import _planned, _weights
from maskrcnn.cli.measured import PUBLISHED, choose_model
from maskrcnn.config import KeypointHeadConfig
from maskrcnn.presets import preset
from tests.training.tiny_run import write_squares


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache, no internet, and a picture in the working directory."""

    def download(*arguments, **keywords):
        raise URLError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    write_squares(tmp_path / "photos", 1)
    return tmp_path


@pytest.mark.parametrize("arguments", [["photos/001.png"], ["photos"], [PUBLISHED, "photos"]])
def test_predict_without_a_model_and_without_internet(offline, arguments, capsys):
    assert run("predict", *arguments) == 2
    told = capsys.readouterr()
    assert ("no model is named: torchvision:maskrcnn_resnet50_fpn_v2 finds" in told.out) is (len(arguments) == 1)
    assert told.err.count("\n") == 1
    assert f"cannot download {PUBLISHED} to {offline / 'torch'}" in told.err
    assert "fetch https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco" in told.err


def test_what_names_a_model(offline):
    def chosen(*words: str) -> tuple[str, list[str]]:
        given = SimpleNamespace(model=words[0], source=list(words[1:]))
        choose_model(given)
        return given.model, given.source

    assert chosen("run", "photos") == ("run", ["photos"])
    assert chosen("a.jpg", "b.JPG") == (PUBLISHED, ["a.jpg", "b.JPG"])
    assert chosen("photos", "more") == ("photos", ["more"])  # meant to be a run; none is there, which is said
    assert chosen("*.png") == (PUBLISHED, ["*.png"])


def given_for(weights: str, **changes):
    usual = {"preset": "auto", "weights": weights, "resume": False, "val": None, "device": "cpu", "check": "none"}
    usual |= {"model_config": None, "out": "runs/train"}
    return SimpleNamespace(**(usual | changes))


def planned_config(monkeypatch, dataset, given):
    monkeypatch.setattr("maskrcnn.cli.commands._fields", lambda given: {})
    monkeypatch.setattr("maskrcnn.cli.commands._open", lambda given: dataset)
    return _planned(given)


def test_coco_takes_the_network_of_the_published_detector(offline, monkeypatch):
    config, reasons, *_ = planned_config(monkeypatch, write_squares(Path("d"), 6), given_for("coco"))
    usual = preset("torchvision-r50-fpn")
    assert config.model == usual.replace(**{"model.backbone.norm_eps": 0.0}).model
    assert config.train.epochs == 100
    assert "the network of the weights, on resnet50" in reasons
    assert _weights("coco", config.model) == "torchvision:maskrcnn_resnet50_fpn"
    assert _weights("none", config.model) is None


def test_heads_follow_the_data(offline, monkeypatch):
    pointed = preset("r18-fpn").replace(**{"model.keypoint": KeypointHeadConfig(), "model.mask": None})
    monkeypatch.setattr("maskrcnn.weights.start.network_of", lambda weights, config: pointed)
    config, reasons, *_ = planned_config(monkeypatch, write_squares(Path("d"), 6), given_for("theirs.pth"))
    assert config.model == preset("r18-fpn").model
    assert reasons[-2:] == [
        "no keypoints in the data: the keypoint head is left out",
        "the data has masks: a mask head is added, which the weights do not have",
    ]
    named = given_for("theirs.pth", preset="r34-fpn")
    assert planned_config(monkeypatch, write_squares(Path("d"), 6), named)[0].model.backbone.name == "resnet34"
