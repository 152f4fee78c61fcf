"""`maskrcnn convert config` and `maskrcnn train pipeline.config`, from the command line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from maskrcnn import cli, options
from maskrcnn.cli.pipeline import with_fields
from maskrcnn.config import Config
from maskrcnn.data.formats.label_map import label_map_text
from maskrcnn.pipeline.read import read_pipeline
from maskrcnn.presets import preset
from tests.data.formats.tf_shards import example, write_shard
from tests.pipeline.texts import FASTER, MASK, changed, write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with records, a label map and a pipeline.config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    for name in ("train", "val"):
        write_shard(tmp_path / f"{name}.record", *[example((2, 2, 30, 30), size=(48, 64))] * 2)
    (tmp_path / "label_map.pbtxt").write_text(label_map_text(["cup"], [1]))
    write(tmp_path, changed("num_classes: 3", "num_classes: 1"))
    return tmp_path


def run(*arguments: str) -> int:
    return cli.main([str(argument) for argument in arguments])


def error_of(capsys, *arguments: str) -> str:
    assert run(*arguments) == 2
    return capsys.readouterr().err


# ---------------------------------------------------------------- convert config


def test_to_yaml_with_fields_changed(folder, capsys):
    write(folder, changed("batch_size: 1", "batch_size: 1 startup_delay_steps: 0"))
    assert run("convert", "config", "pipeline.config", "out.yaml", "--train.batch_size", "4") == 0
    said = capsys.readouterr().out
    assert "ignored:\n  line 20: startup_delay_steps: " in said
    config = options.apply(Config(), options.read_file(folder / "out.yaml"))
    assert config.train.batch_size == config.train.learning_rate_batch == 4
    assert config == with_fields(read_pipeline("pipeline.config").config, {"train.batch_size": 4})
    assert "# from pipeline.config, 3 classes" in (folder / "out.yaml").read_text()
    assert run("convert", "config", "out.yaml", "back.config", "--num-classes", "3") == 0
    assert read_pipeline("back.config").config == config


def test_to_json(folder):
    assert run("convert", "config", "pipeline.config", "out.json") == 0
    assert Config.from_dict(json.loads((folder / "out.json").read_text())) == read_pipeline("pipeline.config").config


def test_to_pipeline_config_with_paths(folder):
    paths = ("--train-records", "a.record", "b.record", "--label-map", "m.pbtxt", "--checkpoint", "model.ckpt")
    assert run("convert", "config", "pipeline.config", "out.config", "--train.learning_rate", "0.002", *paths) == 0
    out = read_pipeline("out.config")
    assert out.train_data.paths == ("a.record", "b.record")
    assert (out.val_data.paths, out.val_data.label_map) == (("val.record",), "m.pbtxt")
    assert (out.fine_tune_checkpoint, out.config.train.learning_rate) == ("model.ckpt", 0.002)


def test_add_masks_prints_the_six_steps(folder, capsys):
    write(folder, FASTER, "faster.config")
    assert run("convert", "config", "faster.config", "mask.config", "--add-masks", "--mask-type", "numerical") == 0
    said = capsys.readouterr().out
    assert [line[:2] for line in said.splitlines()[:6]] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert read_pipeline("mask.config").config.model.mask is not None


def test_mistakes(folder, capsys):
    (folder / "part.yaml").write_text("train: {batch_size: 2}")
    convert = ("convert", "config")
    assert "name it .yaml" in error_of(capsys, *convert, "pipeline.config", "out.txt")
    assert "is there already" in error_of(capsys, *convert, "pipeline.config", "pipeline.config")
    assert "YAML holds no paths" in error_of(capsys, *convert, "pipeline.config", "a.yaml", "--label-map", "m.pbtxt")
    assert "must be png or numerical" in error_of(
        capsys, *convert, "pipeline.config", "a.config", "--add-masks", "--mask-type", "rle"
    )
    assert "--add-masks is for a pipeline.config" in error_of(capsys, *convert, "part.yaml", "a.config", "--add-masks")
    assert "is not a whole config" in error_of(capsys, *convert, "part.yaml", "a.config")
    assert "no.config: cannot be read" in error_of(capsys, *convert, "no.config", "a.yaml")
    assert "cannot be said in a pipeline.config" in error_of(
        capsys, *convert, "pipeline.config", "a.config", "--data.rotation", "10"
    )
    (folder / "ours.yaml").write_text(options.to_yaml(preset("r50-fpn")))
    assert "--num-classes is missing" in error_of(capsys, *convert, "ours.yaml", "a.config")
    assert "model.fpn: the API's" in error_of(capsys, *convert, "ours.yaml", "a.config", "--num-classes", "2")
    assert not list(folder.glob("a.*"))


def test_rates_stay_whatever_the_batch():
    config = preset("mask_rcnn_inception_v2_coco")
    batch = with_fields(config, {"train.batch_size": 8}).train
    assert (batch.batch_size, batch.learning_rate_batch, batch.rates) == (8, 8, config.train.rates)
    halved = with_fields(config, {"train.learning_rate": 1e-4}).train
    assert [rate for _, rate in halved.rates] == pytest.approx([1e-4, 1e-5, 1e-6])
    cosine = with_fields(config, {"train.schedule": "cosine", "train.steps": 500}).train
    assert (cosine.rates, cosine.decay_steps) == ((), 500)
    third = with_fields(config, {"train.learning_rate": 0.0006}).train
    assert [rate for _, rate in third.rates] == [0.0006, 0.00006, 0.000006]


def test_what_follows_a_field():
    config = preset("mask_rcnn_inception_v2_coco").replace(**{"train.monitor": "mask", "train.steps": 10})
    assert with_fields(config, {"model.mask": None}).train.monitor == "auto"
    assert with_fields(config, {"train.epochs": 2.0}).train.steps is None
    assert with_fields(config, {"train.epochs": 2.0, "train.steps": 7}).train.steps == 7
    rms = config.replace(**{"train.optimizer": "rmsprop", "train.optimizer_eps": 1.0})
    assert with_fields(rms, {"train.optimizer": "adam"}).train.optimizer_eps is None
    assert with_fields(rms, {"train.optimizer": "rmsprop"}).train.optimizer_eps == 1.0


# ---------------------------------------------------------------- train


@pytest.fixture
def runs(monkeypatch):
    """Fakes in place of the training; what it was called with."""
    seen = []

    def train(config, **keywords):
        seen.append((config, keywords))
        return SimpleNamespace(checkpoint="runs/x/checkpoints/best")

    monkeypatch.setattr("maskrcnn.training.loop.train", train)
    return seen


def test_train_takes_everything_from_the_file(folder, runs, capsys):
    assert run("train", "pipeline.config", "--check", "none", "--model.rpn.nms_iou", "0.6", "--out", "o") == 0
    ((config, keywords),) = runs
    assert config == read_pipeline("pipeline.config").config.replace(**{"model.rpn.nms_iou": 0.6})
    assert (len(keywords["train"]), len(keywords["val"]), keywords["weights"]) == (2, 2, None)
    assert keywords["train"].classes == ("cup",)
    assert "the config of pipeline.config" in capsys.readouterr().out


def test_train_starts_from_the_checkpoint_of_the_file(folder, runs):
    (folder / "model.ckpt.index").write_bytes(b"")
    text = changed("num_classes: 3", "num_classes: 1", changed("num_steps: 10", "fine_tune_checkpoint: 'model.ckpt'"))
    write(folder, text)
    assert run("train", "pipeline.config", "--check", "none") == 0
    assert str(runs[0][1]["weights"]) == "model.ckpt"
    assert run("train", "pipeline.config", "--check", "none", "--weights", "none") == 0
    assert runs[1][1]["weights"] is None


def test_records_on_the_command_line_win(folder, runs):
    write_shard(folder / "more.record", *[example((2, 2, 30, 30), size=(48, 64))] * 5)
    assert run("train", "pipeline.config", "more.record", "--val", "train.record", "--check", "none") == 0
    assert [len(runs[0][1][name]) for name in ("train", "val")] == [5, 2]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (MASK, ["--preset", "small"], "--preset small: the model is that of pipeline.config"),
        (FASTER, [], "describes Faster R-CNN, without masks"),
        (changed("num_steps: 10", "fine_tune_checkpoint: 'no.ckpt'"), [], "no checkpoint 'no.ckpt'"),
        (changed("num_steps: 10", "fine_tune_checkpoint: 'PATH_TO_BE_CONFIGURED/m.ckpt'"), [],
         "put real paths into train_config.fine_tune_checkpoint (line 25)"),
        (changed("num_classes: 3", "num_classes: 1", MASK.replace("label_map.pbtxt", "two.pbtxt")), [],
         "go up to 2, but model.faster_rcnn.num_classes is 1"),
    ],
)  # fmt: skip
def test_train_mistakes(folder, runs, capsys, text, arguments, message):
    (folder / "two.pbtxt").write_text(label_map_text(["cup", "jug"], [1, 2]))
    write(folder, text)
    assert message in error_of(capsys, "train", "pipeline.config", *arguments)
    assert not runs


def test_parts_of_the_mask_head_are_options(folder, runs):
    assert run("train", "pipeline.config", "--check", "none", "--model.mask.channels", "64") == 0
    assert runs[0][0].model.mask.channels == 64
    assert run("convert", "config", "pipeline.config", "a.yaml", "--model.mask.channels", "64") == 0
    assert options.read_file(folder / "a.yaml")["model.mask.channels"] == 64
    assert run("train", "pipeline.config", "--check", "none", "--model.mask", "null") == 0
    assert runs[1][0].model.mask is None


def resumed(folder, monkeypatch, earlier):
    monkeypatch.setattr("maskrcnn.cli.pipeline._config_of", lambda out: earlier)
    return ("train", "pipeline.config", "--check", "none", "--resume", "--out", "o")


def test_more_steps_in_the_file_are_more_steps_of_the_run(folder, runs, capsys, monkeypatch):
    earlier = read_pipeline("pipeline.config").config.replace(**{"train.steps": 4, "model.rpn.nms_iou": 0.6})
    arguments = resumed(folder, monkeypatch, earlier)
    assert run(*arguments) == 0
    assert runs[0][0] == earlier.replace(**{"train.steps": 10})
    said = capsys.readouterr().out
    assert "train.steps 10, as pipeline.config says now; 4 before (--train.steps 4 keeps it)" in said
    assert "model.rpn.nms_iou stays 0.6 in this run, although pipeline.config says 0.7" in said
    assert run(*arguments, "--train.steps", "4") == 0
    assert runs[1][0] == earlier


def test_a_run_whose_schedule_is_fitted_keeps_its_length(folder, runs, capsys, monkeypatch):
    earlier = read_pipeline("pipeline.config").config.replace(**{"train.steps": 4, "train.schedule": "step"})
    assert run(*resumed(folder, monkeypatch, earlier)) == 0
    assert runs[0][0] == earlier
    assert "train.steps stays 4 in this run, although pipeline.config says 10" in capsys.readouterr().out


def test_the_next_line_holds_what_yaml_cannot(folder, capsys):
    (folder / "model.ckpt.index").write_bytes(b"")
    write(folder, changed("num_steps: 10", "fine_tune_checkpoint: 'model.ckpt'"))
    assert run("convert", "config", "pipeline.config", "a b.yaml") == 0
    said = capsys.readouterr().out
    command = "next: maskrcnn train train.record --val val.record --weights model.ckpt --config 'a b.yaml'\n"
    assert said.endswith(f"{command}note: the class names then come from the records, not from the label map\n")
    write(folder, MASK.replace("train.record", "train.rec*"))
    assert run("convert", "config", "pipeline.config", "c.yaml") == 0
    assert "train 'train.rec*' --val val.record --config c.yaml" in capsys.readouterr().out
    write(folder, changed('"train.record"', "'PATH_TO_BE_CONFIGURED/x'", MASK.replace("val.record", "path/to/v")))
    assert run("convert", "config", "pipeline.config", "b.yaml") == 0
    assert "next: maskrcnn train DATA --config b.yaml\n" in capsys.readouterr().out


def test_boxes_only_where_asked(folder, runs):
    write(folder, changed("num_classes: 3", "num_classes: 1", FASTER))
    assert run("train", "pipeline.config", "--model.mask", "null", "--check", "none") == 0
    assert runs[0][0].model.mask is None


@pytest.mark.slow
def test_a_run_and_its_continuation(folder, capsys):
    thin = ("--model.backbone.width", "0.0625", "--model.backbone.min_width", "8", "--model.rpn.channels", "16")
    plain = (
        "--train.trackers",
        "[]",
        "--train.save_every",
        "1",
        "--device",
        "cpu",
        "--out",
        "run",
        "--data.workers",
        "0",
    )
    assert run("train", "pipeline.config", "--train.steps", "4", *thin, *plain) == 0
    assert "4 steps" in capsys.readouterr().out
    checkpoint = json.loads((folder / "run" / "checkpoints" / "last" / "model.json").read_text())
    assert checkpoint["classes"] == ["cup"]
    again = ("train", "pipeline.config", "--resume", *plain)
    assert "this run is finished (4 steps)" in error_of(capsys, *again, "--train.steps", "4")
    assert run(*again) == 0  # num_steps of the file
    assert "10 steps" in capsys.readouterr().out
