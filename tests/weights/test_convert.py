"""`maskrcnn convert weights`, `predict` and `train` on weights of TensorFlow, from the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from maskrcnn import cli
from maskrcnn.pipeline.read import read_pipeline
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.native import load_model
from tests.data.formats.tf_shards import example, write_shard
from tests.weights.tensorflow.golden import arrays, tiny

LABELS = "".join(f'item {{ id: {i} name: "{name}" }}\n' for i, name in enumerate(("cup", "jug", "pan"), 1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a label map."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "labels.pbtxt").write_text(LABELS)
    return tmp_path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run(*arguments) == 2
    return capsys.readouterr().err


def same_tensors(one: Path, other: Path) -> bool:
    first, second = load_weights(one).state_dict(), load_weights(other).state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_there_and_back(folder, capsys):
    graph = tiny() / "export" / "frozen_inference_graph.pb"
    assert run("convert", "weights", graph, "ours", "--label-map", "labels.pbtxt") == 0
    assert capsys.readouterr().out == "written: ours\nnext: maskrcnn predict ours IMAGES --out predictions\n"
    model, config, _ = load_model(folder / "ours")
    assert model.classes == ("cup", "jug", "pan")
    assert config.train.rates[0] == (0, 3e-4)  # the schedule of its pipeline.config
    assert run("convert", "weights", "ours", "theirs") == 0
    names = {"model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint", "pipeline.config", "label_map.pbtxt"}
    assert {file.name for file in (folder / "theirs").iterdir()} == names
    assert load_weights(folder / "theirs").classes == ("cup", "jug", "pan")
    assert same_tensors(folder / "ours", folder / "theirs")


def test_a_frozen_graph_becomes_a_checkpoint(folder):
    given = ("--label-map", "labels.pbtxt", "--pipeline-config", tiny() / "pipeline.config")
    assert run("convert", "weights", tiny() / "export", "new/model.ckpt-7", *given) == 0
    assert same_tensors(folder / "new" / "model.ckpt-7", folder / "new")


def test_the_schedule_goes_with_the_weights(folder, capsys):
    given = ("--label-map", "labels.pbtxt")
    assert run("convert", "weights", tiny() / "ckpt", "theirs/model.ckpt", *given) == 0
    assert run("convert", "weights", "theirs", "ours") == 0
    assert run("convert", "weights", "ours", "again") == 0
    assert capsys.readouterr().err == ""
    expected = read_pipeline(tiny() / "pipeline.config")
    for name in ("theirs", "again"):
        found = read_pipeline(folder / name / "pipeline.config")
        assert (found.config, found.steps) == (expected.config, 200_000)
    bare = folder / "bare"
    shutil.copytree(tiny() / "ckpt", bare)
    assert run("convert", "weights", "bare", "bare/new/model.ckpt", *given) == 0
    assert "its schedule is the published one, bare has none" in capsys.readouterr().err


def test_a_folder_named_nearly_like_a_checkpoint(folder):
    assert run("convert", "weights", tiny() / "ckpt", "my.ckpts", "--label-map", "labels.pbtxt") == 0
    assert load_model(folder / "my.ckpts")[0].classes == ("cup", "jug", "pan")


def test_mistakes_are_told(folder, capsys):
    assert run("convert", "weights", tiny() / "ckpt", "ours", "--label-map", "labels.pbtxt") == 0
    assert "ours: is there already" in error_of(capsys, "convert", "weights", tiny() / "ckpt", "ours")
    said = error_of(capsys, "convert", "weights", "ours", "x", "--label-map", "labels.pbtxt")
    assert "ours: classes: a checkpoint of maskrcnn brings its own; leave it out" in said
    assert "nothing: no such file or folder" in error_of(capsys, "convert", "weights", "nothing", "x")
    said = error_of(capsys, "convert", "weights", tiny() / "ckpt", "y", "--pipeline-config", "none.config")
    assert "none.config" in said


def test_predict(folder, capsys):
    golden = arrays(tiny() / "case0.npz")
    Image.fromarray(golden["image"]).save("photo.png")
    assert run("predict", tiny() / "ckpt" / "model.ckpt", "photo.png", "--out", "out", "--save", "json") == 0
    assert "warning: " in capsys.readouterr().err  # no label map
    answer = json.loads((folder / "out" / "predictions.json").read_text())["annotations"]
    expected = golden["detection_scores"][0]
    assert [found["score"] for found in answer] == pytest.approx(expected[expected >= 0.5].tolist(), abs=1e-4)


def test_training_goes_on_from_a_pipeline_config(folder, capsys):
    write_shard(folder / "train.record", *[example((8, 8, 40, 40), size=(96, 128))] * 2)
    text = (tiny() / "pipeline.config").read_text().replace('"val.record"', '"train.record"')
    text = text.replace('"label_map.pbtxt"', '"labels.pbtxt"')
    text = text.replace("train_config {", f'train_config {{\n  fine_tune_checkpoint: "{tiny()}/ckpt/model.ckpt"')
    (folder / "pipeline.config").write_text(text)
    thin = ("--model.backbone.width", "0.0625", "--model.backbone.min_width", "8")  # which no pipeline.config can say
    options = ("--train.steps", "1", "--data.workers", "0", "--device", "cpu", "--out", "run")
    assert run("train", "pipeline.config", *thin, *options) == 0
    said = capsys.readouterr().out
    assert "0 initialised, 0 dropped" in said
    assert "classes kept: cup, jug, pan" in said
    assert "taken for those of the data with the same ids" in said
    first = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert all(math.isfinite(value) for name, value in first.items() if name.startswith("loss/"))
    assert first["loss/class"] > 0
