"""`maskrcnn predict --tile` and `evaluate --tile` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn import cli
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.evaluation.evaluate import evaluate
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.tiles import Tiling
from maskrcnn.structures import ObjectSizes
from maskrcnn.weights.native import save_model
from tests.model.tiny import tiny_model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model `M` and two images in `in`."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    model.object_sizes = ObjectSizes(1.0, 10.0, 20.0, 30.0)
    save_model(model, tmp_path / "M")
    (tmp_path / "in").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 150, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{index}.png")
    return tmp_path


def predicted(*options: str) -> list[dict]:
    command = ["predict", "M", "in", "--out", "o", "--save", "json", "--score-threshold", "0", "--device", "cpu"]
    assert cli.main([*command, *options]) == 0
    return json.loads(Path("o/predictions.json").read_text())["annotations"]


def test_predict_in_tiles_is_the_predictor_in_tiles(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = predicted("--tile", "64", "--overlap", "16")
    assert "tiles of 64 x 64 pixels with an overlap of 16 pixels" in capsys.readouterr().out
    predictor = Predictor.load("M", "cpu")
    expected = [
        (rle["counts"].decode(), pytest.approx(float(score), abs=1e-4))
        for index in range(2)
        for instances in [predictor.predict_tiled(f"in/{index}.png", 64, 16, score_threshold=0.0)]
        for rle, score in zip(instances.rle, instances.scores, strict=True)
    ]
    assert expected
    assert [(one["segmentation"]["counts"], one["score"]) for one in found] == expected


def test_without_numbers_tile_and_overlap_come_from_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted("--tile")
    said = capsys.readouterr().out
    assert "by the training objects: 95 of 100 are up to 20 pixels" in said


def test_evaluate_in_tiles_measures_what_tiles_find(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shapes("shapes", train=0, val=3, size=(90, 120))
    options = ["--tile", "64", "--overlap", "20", "--json", "numbers.json", "--device", "cpu"]
    assert cli.main(["evaluate", "M", "shapes", *options]) == 0
    assert "tiles of 64 x 64 pixels" in capsys.readouterr().out
    dataset = open_dataset("shapes")
    expected = evaluate(Predictor.load("M", "cpu"), dataset, tiling=Tiling(64, 20), progress=False)
    numbers = json.loads(Path("numbers.json").read_text())
    assert numbers["box"]["ap"] == pytest.approx(expected.box["ap"])
    assert numbers["mask"]["ap"] == pytest.approx(expected.mask["ap"])


def test_a_broken_file_is_left_out_in_tiles_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/0.png").write_bytes(Path("in/0.png").read_bytes()[:200])
    command = ["predict", "M", "in", "--out", "o", "--save", "json", "--tile", "64", "--device", "cpu"]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert "0.png" in said.err
    assert "1 image could not be read" in said.err
    images = json.loads(Path("o/predictions.json").read_text())["images"]
    assert [Path(image["file_name"]).name for image in images] == ["1.png"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--overlap", "20"], "--overlap 20 is of tiles; give --tile too"),
        (["--tile", "64", "--overlap", "-3"], "-3 must not be negative; 100 pixels are usual"),
        (["--tile", "64", "--overlap", "33"], "33 is more than half of a tile of 64 pixels"),
        (["--tile", "8"], "8 must be at least 32 pixels, such as 1024"),
        (["--tile", "small"], "--tile 'small' must be a side in pixels or auto; give sources before it"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_wrong_sizes_are_one_sentence(
    command: str, options: list[str], sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "evaluate":
        write_shapes("in", train=0, val=1, size=(90, 120))
    assert cli.main([command, "M", "in", *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
