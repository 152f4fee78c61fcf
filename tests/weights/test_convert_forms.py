"""`maskrcnn convert weights` between our form and those of torchvision, Matterport and Detectron2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskrcnn import cli
from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.classes import read_names
from maskrcnn.weights.load import load_weights, open_weights
from maskrcnn.weights.matterport.config import to_config
from maskrcnn.weights.matterport.write import save_matterport
from maskrcnn.weights.native import load_model, save_model
from tests.weights.test_start import NARROW


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments) == 2
    return capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a narrow model of ours, by torchvision's conventions."""
    monkeypatch.chdir(tmp_path)
    config = preset("torchvision-r50-fpn").replace(**NARROW)
    save_model(build_model(config.model, classes=["cat", "dog"], data=config.data), tmp_path / "ours")
    return tmp_path


def test_to_torchvision_and_back(folder, capsys):
    assert run("convert", "weights", "ours", "theirs.pth") == 0
    assert "written: theirs.pth\n" in capsys.readouterr().out
    assert "roi_heads.box_predictor.cls_score.weight" in torch.load("theirs.pth", weights_only=True)
    (folder / "names.txt").write_text("cat\ndog\n")
    for number, names in enumerate((["--classes", "cat", "dog"], ["--label-map", "names.txt"])):
        assert run("convert", "weights", "theirs.pth", f"back{number}", *names) == 0
        back, ours = load_model(folder / f"back{number}")[0], load_model(folder / "ours")[0]
        assert back.classes == ours.classes
        assert all(torch.equal(value, ours.state_dict()[name]) for name, value in back.state_dict().items())


def test_wrong_targets_are_told(folder, capsys):
    assert "name it .pth" in error_of(capsys, "convert", "weights", "ours", "theirs", "--to", "torchvision")
    said = error_of(capsys, "convert", "weights", "ours", "x", "--to", "torchvison")
    assert "--to 'torchvison', did you mean 'torchvision'?; one of maskrcnn" in said
    (folder / "full.pth").write_text("something")
    assert "full.pth: is there already" in error_of(capsys, "convert", "weights", "ours", "full.pth")
    said = error_of(capsys, "convert", "weights", "a.pth", "b", "--classes", "a", "--label-map", "m.txt")
    assert "--classes and --label-map say the same thing; leave one of them out" in said
    pytest.importorskip("h5py")
    assert "has no counterpart there" in error_of(capsys, "convert", "weights", "ours", "theirs.h5")


@pytest.mark.slow
def test_matterports_file_with_its_config(folder, capsys):
    pytest.importorskip("h5py")
    narrow = {"IMAGE_MIN_DIM": 128, "IMAGE_MAX_DIM": 128, "TOP_DOWN_PYRAMID_SIZE": 32, "FPN_CLASSIF_FC_LAYERS_SIZE": 64}
    config = to_config({"BACKBONE": "resnet50", **narrow})
    save_matterport(build_model(config.model, classes=["cat", "dog"], data=config.data), "mine.h5")
    assert run("convert", "weights", "mine.h5", "new", "--config", "mine_config.py", "--classes", "cat", "dog") == 0
    model, run_config, _ = load_model(folder / "new")
    assert (model.classes, run_config.data.max_size) == (("cat", "dog"), 128)
    assert run("convert", "weights", "new", "again.h5") == 0
    assert "predict again.h5 IMAGES --model-config again_config.py" in capsys.readouterr().out
    again, _ = open_weights("again.h5", config="again_config.py")
    assert again.config == model.config


def test_a_config_that_belongs_to_nothing_is_refused(folder, capsys):
    with pytest.raises(WeightsError, match=r"ours: config: a checkpoint of maskrcnn brings its own; leave it out"):
        load_weights("ours", config="x.yaml")
    assert run("convert", "weights", "ours", "theirs.pth") == 0
    capsys.readouterr()
    said = error_of(capsys, "predict", "theirs.pth", "a.png", "--model-config", "x.yaml")
    assert "theirs.pth: torchvision has no config files; leave x.yaml out" in said


def test_names_of_files(folder):
    (folder / "m.pbtxt").write_text('item { id: 2 name: "dog" }\nitem { id: 1 name: "cat" }\n')
    assert read_names("m.pbtxt") == ["cat", "dog"]
