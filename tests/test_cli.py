from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskrcnn import cli
from maskrcnn.config import Config
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError, TrainingError
from maskrcnn.presets import preset
from maskrcnn.structures import Record


def a_dataset(splits: tuple[str, ...] = ("train", "val")) -> Dataset:
    records = [
        Record(
            path=Path(f"{i}.png"),
            image_id=i,
            height=300,
            width=400,
            boxes=np.array([[0, 0, 50, 50]], np.float32),
            labels=np.array([0]),
            masks=(),
            crowd=np.array([False]),
            areas=np.array([2500], np.float32),
            annotation_ids=np.array([i]),
            split=splits[i % len(splits)] if splits else "",
        )
        for i in range(10)
    ]
    return Dataset(records, classes=("a",), category_ids=(1,), name="toys")


class Calls(list):
    """What the fakes were called with."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Fakes in place of the rooms that do the work."""
    seen = Calls()

    def train(config: Config, **keywords: Any) -> Any:
        seen.append((config, keywords))
        return SimpleNamespace(checkpoint="runs/x/checkpoints/best")

    def find(*arguments: Any, **keywords: Any) -> str:
        seen.append((*arguments, keywords))
        return "findings"

    def score(findings: str, dataset: Dataset, **keywords: Any) -> Any:
        seen.append(keywords)
        return SimpleNamespace(to_dict=lambda: {"box": {"ap": 0.5}})

    def fake(module: str, **names: Any) -> None:
        monkeypatch.setitem(sys.modules, f"maskrcnn.{module}", SimpleNamespace(**names))

    fake("data.open", open_dataset=lambda path, format="auto", boxes="given", truth_only=False: a_dataset())
    fake("data.check", check_dataset=lambda dataset, progress=False: ["0.png: bad polygon", "1.png: bad box"])
    repair = SimpleNamespace(check_and_repair=lambda data, **_: (data, ["0.png: bad polygon", "1.png: bad box"], []))
    fake("data.repair", **vars(repair))
    fake("training.loop", train=train)
    fake("evaluation.evaluate", find=find)
    fake("evaluation.findings", score=score)
    fake("predict.predictor", Predictor=SimpleNamespace(load=lambda *given, **options: (*given, options)))
    fake("weights.imagenet", imagenet_file=lambda name: Path(f"{name}.pth"))
    return seen


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of a command that must end with code 2."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["inspect", "data", "--help"]])
def test_help_ends_well(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code in (0, None)
    assert "usage: maskrcnn" in capsys.readouterr().out


def test_help_answers_at_once() -> None:
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-m", "maskrcnn", "--help"], capture_output=True, text=True, check=True)
    assert "train on a folder" in result.stdout
    assert time.monotonic() - began < 5  # 0.2 s on an idle machine; torch alone would take that long on a busy one


def test_the_overview_lists_every_command_without_loading_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from maskrcnn.cli.arguments import make_parser; make_parser(['-h']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jsonargparse", "torch", "yaml", "rich"} & set(loaded)
    with pytest.raises(SystemExit):
        run("--help")
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert {name.split()[0] for name in cli.COMMANDS} <= set(listed)


def test_train_help_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("train", "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--model.rpn.nms_iou FLOAT Of two proposals that overlap by more, the weaker goes (paper: 0.7)." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "",
            "a command is missing: demo, train, evaluate, predict, export, serve, benchmark, inspect, convert, ",
        ),
        ("trian D", "unknown command 'trian', did you mean 'train'?; commands: demo, train"),
        ("train", "missing: DATA; `maskrcnn COMMAND --help` explains it"),
        ("predict M", "missing: SOURCE; give images or folders after M, or an image alone for torchvision:maskrcnn"),
        ("convert data A", "missing: DST, --to; "),
        ("inspect", "a command is missing: data, model, weights, run; "),
        ("inspect modle", "unknown command 'modle', did you mean 'model'?; commands: data, model"),
        ("train D --model.rpn.nms_iuo 0.6", "unknown option --model.rpn.nms_iuo, did you mean '--model.rpn.nms_iou'?"),
        ("train D --trian.batch_size=4", "unknown option --trian.batch_size, did you mean '--train.batch_size'?"),
        ("train D --model.rpn.nms 0.6", "unknown option --model.rpn.nms"),
        ("train D --model.rpn.nms_iou high", "model.rpn.nms_iou: expected float, got 'high'"),
        ("train D --train.schedule stpe", "train.schedule: 'stpe' is not one of 'step', 'cosine', 'constant'"),
        ("train D --train.batch_size 3 --train.accumulate 2", "train.accumulate: 2 must divide train.batch_size = 3"),
        ("train D --preset smal", "unknown preset 'smal', did you mean 'small'?"),
        ("train D --config missing.yaml", "cannot read the config file missing.yaml: No such file or directory"),
        (
            "predict M S --out O --save ovrlay",
            "cannot save 'ovrlay', did you mean 'overlay'?; kinds: overlay,json,masks",
        ),
        ("export M m.onnx --size 800", "--size '800' must be HEIGHTxWIDTH in pixels, such as 800x1344"),
        ("export M m.onnx --batch many", "--batch 'many' must be a number or any"),
        ("export M m.tflite", "m.tflite: unknown ending .tflite; use .onnx, .xml (OpenVINO) or .pt2 (PyTorch)"),
        ("predict M S --out O --score-threshold 50", "--score-threshold 50.0 must lie between 0 and 1"),
        ("predict M S --out O --score-threshold x", "--score-threshold: expected float, got 'x'"),
        ("predict M S --out O --batch-size 0", "--batch-size 0 must be at least 1"),
        ("benchmark infr", "unknown part 'infr', did you mean 'infer'?; parts: infer, train, data, eval, export"),
        ("benchmark --btach 2", "unknown option --btach, did you mean '--batch'?"),
        ("benchmark --repeat many", "--repeat: expected int, got 'many'"),
        ("benchmark --compare no.json", "no.json: cannot be read: No such file or directory; give a file that --json"),
        ("config --preset smal", "unknown preset 'smal', did you mean 'small'?"),
    ],
)
def test_wrong_arguments(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(capsys, *arguments.split()).startswith(message)


def test_wrong_key_in_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("train:\n  epoch: 3\n")
    message = error_of(capsys, "train", "D", "--config", str(file))
    assert message == f"train.epoch: unknown config key in {file}, did you mean 'train.epochs'?"


# ---------------------------------------------------------------- errors and exit codes


def test_errors_are_one_sentence_and_traceback_shows_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(given: Any) -> None:
        raise DataError("has 2 points; remove it", path="a.json", image=7)

    monkeypatch.setitem(cli.COMMANDS, "presets", fail)
    assert error_of(capsys, "presets") == "a.json, image 7: has 2 points; remove it"
    assert run("presets", "--traceback") == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: a.json, image 7: has 2 points; remove it\n")


def test_interruption_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "presets", interrupt)
    assert run("presets") == 130
    assert capsys.readouterr().err == ""


def test_our_own_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(given: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "presets", fail)
    with pytest.raises(ZeroDivisionError):
        run("presets")


# ---------------------------------------------------------------- commands


def test_train_prints_the_plan_and_starts(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "D", "--device", "cpu", "--train.batch_size", "2", "--out", "runs/x") == 0
    [(config, keywords)] = calls
    assert config.model.backbone.name == "mobilenet_v2"
    assert config.train.batch_size == 2
    assert (len(keywords["train"]), len(keywords["val"])) == (5, 5)
    assert keywords["weights"] == Path("mobilenet_v2.pth")
    assert (keywords["out"], keywords["resume"], keywords["device"]) == ("runs/x", False, "cpu")
    shown = capsys.readouterr().out
    assert "5 images to train and 5 to measure: the data's own splits" in shown
    assert "preset small: 5 images are fewer than 2000" in shown
    assert "maskrcnn predict runs/x/checkpoints/best IMAGES" in shown


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(calls: Calls, tmp_path: Path) -> None:
    file = tmp_path / "my.json"
    file.write_text(json.dumps({"train": {"epochs": 3, "batch_size": 6}, "data": {"workers": 0}}))
    options = ["--config", str(file), "--train.batch_size", "4"]
    assert run("train", "D", "--preset", "r18-fpn", "--weights", "none", *options) == 0
    [(config, keywords)] = calls
    assert (config.train.epochs, config.train.batch_size, config.data.workers) == (3.0, 4, 0)
    assert config.data.min_size == preset("r18-fpn").data.min_size
    assert config.model.backbone.frozen_stages == 0
    assert keywords["weights"] is None


@pytest.mark.parametrize("weights", ["last", "runs/earlier", "trunk.safetensors"])
def test_other_weights_go_to_training(weights: str, calls: Calls) -> None:
    assert run("train", "D", "--weights", weights) == 0
    assert calls[0][1]["weights"] == weights


def test_resume_keeps_the_config_of_the_run(calls: Calls, tmp_path: Path) -> None:
    earlier = preset("r34-fpn").replace(**{"train.seed": 7, "data.min_size": 500})
    folder = tmp_path / "checkpoints" / "last"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"config": earlier.to_dict()}))
    assert run("train", "D", "--out", str(tmp_path), "--resume", "--data.workers", "1") == 0
    [(config, keywords)] = calls
    assert config == earlier.replace(**{"data.workers": 1})
    assert keywords["resume"]
    assert keywords["weights"] is None


def test_a_full_config_from_the_command_is_a_config_file(
    calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("config", "--preset", "r34-fpn", "--model.mask", "null", "--train.batch_size", "8") == 0
    file = tmp_path / "all.yaml"
    file.write_text(capsys.readouterr().out)
    assert run("train", "D", "--config", str(file)) == 0
    assert calls[0][0] == preset("r34-fpn").replace(**{"model.mask": None, "train.batch_size": 8})


def test_training_errors_end_in_a_sentence(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise TrainingError("runs/x: not empty; choose another folder with --out")

    monkeypatch.setattr(sys.modules["maskrcnn.training.loop"], "train", fail)
    assert error_of(capsys, "train", "D") == "runs/x: not empty; choose another folder with --out"


def test_evaluate_prints_and_writes(calls: Calls, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "numbers.json"
    assert run("evaluate", "M", "D", "--json", str(file), "--trust") == 0
    model, dataset, keywords = calls[0]
    assert (model, len(dataset), keywords) == (("M", {"device": "auto", "trust": True}), 5, {"tiling": None})
    assert calls[1] == {"max_detections": None, "boundary": False, "lvis": False, "voc": False, "by_count": False}
    assert json.loads(file.read_text()) == {"box": {"ap": 0.5}}


def test_evaluate_takes_limits_and_kinds(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", "found.json", "D", "--max-detections", "1", "300", "--boundary", "--lvis", "--voc") == 0
    assert calls[0][0] == "found.json"  # a results file needs no model
    assert calls[1] == {"max_detections": [1, 300], "boundary": True, "lvis": True, "voc": True, "by_count": False}
    message = error_of(capsys, "evaluate", "M", "D", "--max-detections", "0")
    assert message == "--max-detections 0 must be at least 1, such as 1 10 100"


def test_evaluate_looks_at_once_where_it_shall_write(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("")
    message = error_of(capsys, "evaluate", "M", "D", "--out", "taken/report")
    assert message == "--out taken/report: taken is a file; choose another folder"
    message = error_of(capsys, "evaluate", "M", "D", "--json", "taken/numbers.json")
    assert message == "taken/numbers.json: is no file that can be written; choose another --json"
    assert not calls


def test_evaluate_names_the_known_splits(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "evaluate", "M", "D", "--split", "test")
    assert message == "toys: no split 'test'; known splits: train, val"


def test_evaluate_takes_data_without_splits_whole(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["maskrcnn.data.open"], "open_dataset", lambda *given, **options: a_dataset(()))
    assert run("evaluate", "M", "D") == 0
    assert len(calls[0][1]) == 10


def test_predict_offers_what_can_be_saved() -> None:
    from maskrcnn.predict.results import KINDS

    assert cli.predicted.SAVES == KINDS


def test_export_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def export(*arguments: Any, **keywords: Any) -> list[str]:
        seen.append((arguments, keywords))
        return ["m-64x96.onnx: fine", "m-96x64.onnx: fine"]

    monkeypatch.setitem(sys.modules, "maskrcnn.exporting.export", SimpleNamespace(export=export))
    assert run("export", "runs/x", "m.onnx", "--size", "64x96", "96x64", "--batch", "any", "--opset", "20") == 0
    assert capsys.readouterr().out == "m-64x96.onnx: fine\nm-96x64.onnx: fine\n"
    (((model, file), keywords),) = seen
    assert (model, file) == ("runs/x", "m.onnx")
    assert keywords == {
        "precision": "float32",
        "size": [(64, 96), (96, 64)],
        "batch": None,
        "opset": 20,
        "calibrate": None,
        "compiled": False,
    }


def test_inspect_data_lists_problems(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "data", "D", "--most", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("toys: 10 images, 10 objects")
    assert lines[-2:] == ["0.png: bad polygon", "2 problems, 1 shown (--most shows more)"]


def test_missing_data_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in (["inspect", "data"], ["train"]):
        message = error_of(capsys, *command, str(tmp_path / "nothing-here"))
        assert "nothing-here" in message


def test_presets_and_doctor_speak(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("presets") == 0
    assert "mobilenet_v2, input 384-512 px" in capsys.readouterr().out
    assert run("doctor") == 0
    shown = capsys.readouterr().out
    assert "torch 2." in shown
    assert "torch threads" in shown


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(cli.COMMANDS, "presets", lambda given: warnings.warn("a.png: cut short; skipped", stacklevel=2))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run("presets") == 0
    assert capsys.readouterr().err == "warning: a.png: cut short; skipped\n"


def test_train_tells_what_is_wrong_with_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset([], ("cat",), (1,), name="D", warnings=tuple(f"skipped {i} polygons" for i in range(12)))
    cli.commands._checked(dataset, SimpleNamespace(check="annotations", dataset=["D", "E F"]))
    lines = capsys.readouterr().out.splitlines()[-12:]
    assert lines[0] == "warning: noted by the reader: skipped 0 polygons"
    assert lines[-2] == "and 3 more: maskrcnn inspect data D 'E F'"
    assert lines[-1].startswith("only the annotations were checked")


def test_wrong_checks_are_named(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--check 'al', did you mean 'all'?" in error_of(capsys, "train", "D", "--check", "al")
