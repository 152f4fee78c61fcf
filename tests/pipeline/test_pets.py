"""The pets recipe from folder to found pets, as docs/coming-from/tensorflow.md tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskrcnn import cli
from tests.pipeline.pets import write_pets
from tests.pipeline.texts import changed, write

PATHS = {"train.record": "PATH_TO_BE_CONFIGURED/pet_train.record", "val.record": "PATH_TO_BE_CONFIGURED/pet_val.record"}
RECORDS = {split: f"records/{split}.record-00000-of-00001" for split in ("train", "val")}
SMALL = ("--data.min_size", "64", "--data.max_size", "64", "--model.box.samples_per_image", "8")
GENTLE = ("--model.backbone.norm", "bn", "--train.learning_rate", "1e-6")  # random weights: norms need steps to settle


def pets_config(folder: Path) -> Path:
    """ResNet-101 at stride 16, 37 classes, every path a placeholder, as published."""
    text = changed("'faster_rcnn_inception_v2'", "'faster_rcnn_resnet101'")
    text = changed("num_classes: 3", "num_classes: 37", text)
    text = changed("label_map.pbtxt", "PATH_TO_BE_CONFIGURED/pet_label_map.pbtxt", text)
    for old, new in PATHS.items():
        text = changed(f'"{old}"', f'"{new}"', text)
    text = changed("eval_config { }", 'eval_config { metrics_set: "coco_mask_metrics" }', text)
    return write(folder, text, "mask_rcnn_resnet101_pets.config")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    write_pets(tmp_path / "pets", 10, size=(64, 64))
    pets_config(tmp_path)
    return tmp_path


def run(*arguments: str) -> None:
    assert cli.main([*map(str, arguments)]) == 0, arguments


@pytest.mark.slow
def test_the_pets_recipe(folder, capsys):
    run("convert", "data", "pets", "records", "--to", "tfrecord", "--hold-out", "0.3")
    inputs = ("--train-records", RECORDS["train"], "--val-records", RECORDS["val"])
    run("convert", "config", "mask_rcnn_resnet101_pets.config", "pets.config", *inputs,
        "--label-map", "records/label_map.pbtxt", "--num-classes", "3")  # fmt: skip
    run("train", "pets.config", "--weights", "none", "--out", "run", "--train.steps", "40", *SMALL, *GENTLE)
    said = capsys.readouterr().out
    assert "data: 7 images, 7 objects; validation: 3 images" in said
    assert "resnet_v1_101" in said
    assert "mask AP" in said

    run("evaluate", "run", "pets.config")
    assert "mask AP" in capsys.readouterr().out
    run("export", "run", "pets.onnx")
    found = detections(folder, "run")
    assert found
    assert {row["category_id"] for row in found} <= {1, 2, 3}

    run("convert", "weights", "run", "theirs/model.ckpt")
    assert 'type: "faster_rcnn_resnet101"' in (folder / "theirs" / "pipeline.config").read_text()
    assert detections(folder, "theirs") == found


def detections(folder: Path, model: str) -> list[dict[str, Any]]:
    """Of one picture, by the command."""
    run("predict", model, "pets/images", "--out", f"found_{model}", "--score-threshold", "0.0", "--save", "json")
    return json.loads((folder / f"found_{model}" / "predictions.json").read_text())["annotations"]
