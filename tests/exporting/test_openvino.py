from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.synthetic import draw_shapes
from maskrcnn.errors import ConfigError, ExportError, WeightsError
from maskrcnn.exporting.export import export, written_files
from maskrcnn.exporting.traced import trace
from maskrcnn.predict.exported.model import open_run
from maskrcnn.predict.predictor import Predictor
from tests.model.tiny import tiny_model
from tests.predict.test_predictor import assert_same, photo


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    model = tiny_model()
    model.data = DataConfig(min_size=64, max_size=96)
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(8):
        Image.fromarray(draw_shapes((64, 96), np.random.default_rng(seed))[0]).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def files(model, photos, tmp_path_factory):
    """The same model in three precisions."""
    folder = tmp_path_factory.mktemp("openvino")
    export(model, folder / "float32.xml", batch=None)
    export(model, folder / "float16.xml", size=(64, 96), precision="float16")
    export(model, folder / "int8.xml", size=(64, 96), precision="int8", calibrate=photos)
    return folder


def test_float32_predicts_what_the_model_does(model, files):
    exported, eager = Predictor.load(files / "float32.xml"), Predictor(model, "cpu")
    images = [photo(60, 80), photo(80, 60, 1), photo(60, 80, 2)]
    for ours, theirs in zip(eager.batch(images), exported.batch(images), strict=True):
        assert len(ours)
        assert_same(ours, theirs)


def test_threads_get_their_own_answers(files):
    run = open_run(files / "float32.xml", torch.device("cpu"))[1]
    inputs = [
        {
            "images": np.full((1, 3, 64, 96), value, np.uint8),
            "sizes": np.array([[64, 96]]),
            "score_threshold": np.zeros((), np.float32),
        }
        for value in (30, 220)
    ]
    wanted = [run(one)["scores"] for one in inputs]
    assert not np.array_equal(*wanted)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: run(inputs[number % 2])["scores"], range(60)))
    for number, scores in enumerate(answers):
        np.testing.assert_array_equal(scores, wanted[number % 2])


def test_float16_halves_the_file_and_int8_quarters_it(files):
    sizes = {name: sum(f.stat().st_size for f in written_files(files / f"{name}.xml")) for name in
             ("float32", "float16", "int8")}  # fmt: skip
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]


def test_float16_finds_the_same_objects(model, files):
    predictor = Predictor.load(files / "float16.xml")
    assert predictor.precision == "float16"
    image = photo(64, 96)
    ours, theirs = Predictor(model, "cpu")(image), predictor(image)
    distance = np.abs(ours.boxes[:, None] - theirs.boxes).max(axis=2)  # (N, M)
    near = (distance < 3) & (ours.labels[:, None] == theirs.labels)
    assert near.any(axis=1).mean() >= 0.95


def test_int8_layers_compute_in_whole_numbers(files):
    """Random weights say nothing of accuracy; docs/results.md has that of trained models."""
    import openvino as ov

    kinds = [node.get_type_name() for node in ov.Core().read_model(files / "int8.xml").get_ordered_ops()]
    layers = sum(kind in ("Convolution", "ConvolutionBackpropData") for kind in kinds)
    assert kinds.count("FakeQuantize") >= layers // 2
    predictor = Predictor.load(files / "int8.xml")
    assert predictor.precision == "int8"
    found = predictor(draw_shapes((64, 96), np.random.default_rng(3))[0])
    assert len(found)
    assert np.isfinite(found.boxes).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [96, 64, 96, 64]).all()


def test_int8_needs_images(model, tmp_path):
    with pytest.raises(ExportError, match=r"calibration set without images"):
        export(model, tmp_path / "m.xml", precision="int8", calibrate=[])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "0.png").write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="left out of the calibration"),
        pytest.raises(ExportError, match="none of its 1 can be read"),
    ):
        export(model, tmp_path / "m.xml", precision="int8", size=(64, 96), calibrate=tmp_path / "broken")


def test_calibration_images_are_spread_over_all(model):
    from maskrcnn.exporting.calibrate import calibration_inputs

    info = trace(model, size=(64, 96)).info
    images = [np.full((40, 50, 3), value, np.uint8) for value in range(10)]
    chosen = calibration_inputs(info, images, most=5)
    assert [int(one["images"][0, 0, 0, 0]) for one in chosen] == [0, 2, 4, 6, 8]
    assert all(one["images"].shape == (1, 3, 40, 50) for one in chosen)  # photos: resized inside


def test_files_that_are_not_ours(files, tmp_path):
    (tmp_path / "junk.xml").write_text("<junk/>")
    with pytest.raises(WeightsError, match=r"junk\.xml: OpenVINO cannot open it"):
        Predictor.load(tmp_path / "junk.xml")
    shutil.copy(files / "float32.xml", tmp_path / "alone.xml")  # without its .bin
    with pytest.raises(WeightsError, match=r"alone\.xml: OpenVINO cannot open it"):
        Predictor.load(tmp_path / "alone.xml")
    with pytest.raises(ConfigError, match="device"):
        Predictor.load(files / "float32.xml", device="mps" if torch.backends.mps.is_available() else "cuda:77")


def test_a_missing_package_names_the_pip_line(files, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"openvino is not installed; pip install 'maskrcnn\[openvino\]'"):
        Predictor.load(files / "float32.xml")
