"""Five channels of 16 bits, from the files through training to predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.plan import plan
from maskrcnn.predict.predictor import Predictor
from maskrcnn.training.loop import train
from maskrcnn.view.draw import draw_truth
from tests.training.tiny_run import SIDE, tiny_config, write_squares

CHANNELS = 5


@pytest.fixture(scope="module")
def bands(tmp_path_factory) -> Dataset:
    """Squares in TIFFs of five 16-bit channels, dark but for the objects, one in five of the values in use."""
    folder = tmp_path_factory.mktemp("bands")
    records = []
    for i, record in enumerate(write_squares(folder, 8).records):
        pixels = np.random.default_rng(i).integers(0, 4000, (SIDE, SIDE, CHANNELS)).astype(np.uint16)
        for box, label in zip(record.boxes.astype(int), record.labels, strict=True):
            pixels[box[1] : box[3], box[0] : box[2], label] += 9000
        path = record.path.with_suffix(".tif")
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
        records.append(replace(record, path=path))
    return Dataset(records, ("red", "green"), (1, 2), name="bands")


def raw_config(bands: Dataset, **changes):
    planned = plan(bands).config
    return tiny_config(
        **{
            "data.pixels": planned.data.pixels,
            "model.image_mean": planned.model.image_mean,
            "model.image_std": planned.model.image_std,
            "data.brightness": 0.0,
            "data.contrast": 0.0,
            "data.saturation": 0.0,
            "train.steps": 2,
            "train.evaluate_every": 0.0,
            **changes,
        }
    )


def test_the_plan_takes_the_statistics_of_the_files(bands: Dataset):
    planned = plan(bands)
    pixels = np.concatenate([tifffile.imread(r.path).reshape(-1, CHANNELS) for r in bands]).astype(np.float64)
    assert planned.config.data.pixels == "raw"
    assert planned.config.model.image_mean == pytest.approx(pixels.mean(axis=0))
    assert planned.config.model.image_std == pytest.approx(pixels.std(axis=0))
    assert any(reason.startswith("pixels as in the files (5 x uint16): mean ") for reason in planned.reasons)
    assert planned.config.data.brightness == 0
    assert plan(bands, "r50-fpn", fixed={"data.pixels": "raw"}).config.model.image_std == planned.config.model.image_std
    assert plan(bands, "small", fixed={"data.pixels": "raw"}).config.data.brightness == 0


def test_the_plan_leaves_what_the_user_set(bands: Dataset):
    planned = plan(bands, fixed={"data.pixels": "rgb8"})
    assert (planned.config.data.pixels, len(planned.config.model.image_mean)) == ("rgb8", 3)
    mean = (1.0,) * CHANNELS
    planned = plan(bands, fixed={"model.image_mean": mean})
    assert (planned.config.data.pixels, planned.config.model.image_mean) == ("raw", mean)
    assert len(planned.config.model.image_std) == CHANNELS


def test_images_of_different_kinds_become_rgb(bands: Dataset, squares):
    mixed = replace(bands, records=[*bands.records, *squares[0].records])
    planned = plan(mixed)
    assert planned.config.data.pixels == "rgb8"
    assert "every image becomes 8-bit RGB, because they differ: 3 x uint8, 5 x uint16" in planned.reasons
    with pytest.raises(DataError, match=r"image has 3 channels, those before it have 5"):
        plan(mixed, fixed={"data.pixels": "raw"})


def test_plain_images_stay_rgb(squares):
    planned = plan(squares[0])
    assert planned.config.data.pixels == "rgb8"
    assert not any("pixels as" in reason or "8-bit" in reason for reason in planned.reasons)


def test_training_and_predicting(bands: Dataset, tmp_path: Path):
    out = tmp_path / "run"
    run = train(
        raw_config(bands, **{"train.evaluate_every": 1.0}),
        train=bands,
        val=bands,
        out=out,
        device="cpu",
        progress=False,
    )
    assert "box" in run.metrics
    predictor = Predictor.load(out, "cpu")
    assert predictor.model.data.pixels == "raw"
    record = bands[0]
    pixels = tifffile.imread(record.path)
    by_path = predictor(record.path, score_threshold=0.0)
    for image in (pixels, torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1), record):
        found = predictor(image, score_threshold=0.0)
        assert np.array_equal(found.boxes, by_path.boxes)
        assert np.array_equal(found.scores, by_path.scores)
    assert by_path.path == str(record.path)
    with pytest.raises(DataError, match="image has 3 channels, 5 are expected"):
        predictor(pixels[:, :, :3])


def test_weights_for_rgb_are_inflated(bands: Dataset, squares, tmp_path: Path, capsys):
    options = {"device": "cpu"}
    train(tiny_config(**{"train.steps": 1}), train=squares[0], out=tmp_path / "rgb", **options)
    run = train(raw_config(bands), train=bands, weights=tmp_path / "rgb", out=tmp_path / "bands", **options)
    assert "input channels: backbone.stages.0.weight from 3 to 5" in capsys.readouterr().out
    assert len(run.model.config.image_mean) == CHANNELS


def test_an_image_with_other_channels_is_named_and_replaced(bands: Dataset, tmp_path: Path):
    records = list(bands.records) * 2
    odd = tmp_path / "odd.npy"
    np.save(odd, np.zeros((SIDE, SIDE, 4), np.uint16))
    records[3] = replace(records[3], path=odd)
    with pytest.warns(
        UserWarning, match=r"odd.npy: image has 4 channels, 5 are expected.*another image takes its place"
    ):
        train(
            raw_config(bands, **{"train.steps": 4}),
            train=replace(bands, records=records),
            out=tmp_path / "run",
            device="cpu",
            progress=False,
        )


def test_truth_is_drawn_on_a_stretched_picture(bands: Dataset):
    record = bands[0]
    drawn = draw_truth(record, bands, masks=False, boxes=False, labels=False)
    assert (drawn.shape, drawn.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert drawn.max() == 255
    assert drawn.min() == 0
