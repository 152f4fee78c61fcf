"""`maskrcnn inspect model`, `weights` and `run` from the command line, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn import cli
from maskrcnn.cli.inspected import find_record
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.errors import DataError
from maskrcnn.weights.native import save_model
from tests.inspection.test_run import FALLING, evaluated, steps, write
from tests.model.tiny import tiny_model


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model in `model`, data in `data`."""
    folder = tmp_path_factory.mktemp("inspected")
    save_model(tiny_model(), folder / "model")
    write_shapes(folder / "data", train=3, val=2, size=(64, 64))
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("MASKRCNN_CACHE", str(place / "cache"))


def run(*arguments: str) -> int:
    return cli.main(["inspect", *arguments])


def test_model_with_truth(place, capsys):
    assert run("model", "model", "--data", "data", "--out", "pages/model.html") == 0
    out = capsys.readouterr().out
    assert "losses: rpn_score " in out
    assert out.endswith("page: pages/model.html\n")
    assert "Losses</h2>" in (place / "pages" / "model.html").read_text()


def test_model_with_an_image_by_its_name(place, capsys):
    name = open_dataset(place / "data")[2].path.name
    assert run("model", "model", name, "--data", "data", "--layers", "rpn.convolutions.0", "fpn") == 0
    assert "losses: " in capsys.readouterr().out
    document = (place / "inspect-model.html").read_text()
    assert name in document
    assert "rpn.convolutions.0: 32 x" in document


def test_model_without_truth(place, capsys):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save("other.png")
    assert run("model", "model", "other.png", "--score-threshold", "0.9") == 0
    assert "losses" not in capsys.readouterr().out
    assert run("model", "model", "other.png", "--data", "data") == 0
    assert "note: other.png is not among the 5 images of the data" in capsys.readouterr().out


def test_weights(capsys, place):
    assert run("weights", "model") == 0
    assert "mask_head" in capsys.readouterr().out
    assert run("weights", "model", "model/model.safetensors", "--out", "weights.html") == 0
    out = capsys.readouterr().out
    assert "note: both models are equal bit for bit" in out
    assert out.endswith("page: weights.html\n")


def test_run(capsys, place):
    write(place / "runs" / "a", steps(FALLING) + evaluated(0.1, 0.3))
    write(place / "runs" / "b", steps(FALLING) + evaluated(0.1, 0.2))
    assert run("run", "runs/a", "runs/b", "--out", "run.html") == 0
    out = capsys.readouterr().out
    assert "a: 120 steps, 6.0 epochs" in out
    assert "mask/ap: best 0.2000 at step 40" in out
    assert "2 runs: a, b" in (place / "run.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model model", "nothing to look at; give an IMAGE, or --data DATA"),
        ("model model gone.png", "gone.png: no such file; check the path of the image"),
        ("model model gone.png --data data", "no such file, and no image of the data is called so"),
        ("model gone data/val/images/00000.png", "gone: no such file or folder"),
        ("model gone.onnx data/val/images/00000.png", "give the checkpoint it came from"),
        ("model model --data data --layers rpm", "no layer 'rpm', did you mean 'rpn'?"),
        ("model model --data data --out model/model.json/page.html", "choose another --out"),
        ("model model --data data --score-threshold 7", "score_threshold: 7.0 must lie between 0 and 1"),
        ("weights gone", "gone: no such file or folder"),
        ("run data", "no metrics.jsonl in it"),
        ("run", "missing: RUN"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, sentence, capsys):
    assert run(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_images_are_found_by_path_then_by_name(tmp_path):
    dataset = open_dataset(write_shapes(tmp_path / "a", train=3, val=1, size=(48, 48)))
    wanted = dataset[2]
    assert find_record(dataset, str(wanted.path)).image_id == wanted.image_id
    assert find_record(dataset, wanted.path.name).image_id == wanted.image_id
    assert find_record(dataset, "nowhere.png") is None
    assert len(find_record(dataset, None)) > 0
    twice = open_dataset([tmp_path / "a", write_shapes(tmp_path / "b", train=3, val=1, size=(48, 48))])
    name = wanted.path.name
    with pytest.raises(DataError, match="2 images of the data are called so"):
        find_record(twice, name)
    assert find_record(twice, str(tmp_path / "b" / wanted.path.relative_to(tmp_path / "a"))) is not None
