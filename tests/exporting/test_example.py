from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import padded_size, resize_image, resized_size
from maskrcnn.exporting.onnx import to_onnx, write_onnx
from maskrcnn.exporting.traced import trace
from maskrcnn.predict.predictor import Predictor
from tests.model.tiny import tiny_model
from tests.predict.test_predictor import photo

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_numpy.py"
ALONE = """
import runpy, sys
sys.modules.update(torch=None, maskrcnn=None)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def run(*arguments: object) -> str:
    """The example in a process that has neither torch nor maskrcnn."""
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    model.data = DataConfig(min_size=64, max_size=96)
    return model


@pytest.fixture(scope="module")
def photos_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("example") / "model.onnx"
    write_onnx(to_onnx(trace(model, size=(64, 96))), path)
    return path


def assert_as_predictor(file: Path, image: np.ndarray, saved: Path) -> None:
    wanted, found = Predictor.load(file)(image), np.load(saved)
    assert len(wanted) > 3
    np.testing.assert_array_equal(found["labels"], wanted.labels)
    np.testing.assert_allclose(found["boxes"], wanted.boxes, atol=1e-3)
    np.testing.assert_allclose(found["scores"], wanted.scores, atol=1e-5)
    for one, other in zip(found["masks"], wanted.masks, strict=True):
        assert (one & other).sum() >= 0.99 * (one | other).sum()


def test_photos_go_in_as_they_are(photos_file, tmp_path):
    image = photo(70, 80)
    Image.fromarray(image).save(tmp_path / "photo.png")
    printed = run(photos_file, tmp_path / "photo.png", tmp_path / "found.npz")
    assert_as_predictor(photos_file, image, tmp_path / "found.npz")
    first = printed.splitlines()[0].split()
    assert first[0] in ("square", "circle", "triangle")
    assert first[-1] == "pixels"
    assert len(printed.splitlines()) == len(np.load(tmp_path / "found.npz")["scores"])


def test_drawn_photo(photos_file, tmp_path):
    np.save(tmp_path / "photo.npy", photo(70, 80))
    run(photos_file, tmp_path / "photo.npy", tmp_path / "found.png", "--score", "0.45")
    with Image.open(tmp_path / "found.png") as image:
        assert image.size == (80, 70)
        assert not np.array_equal(np.asarray(image), photo(70, 80))


def test_nothing_found(photos_file, tmp_path):
    np.save(tmp_path / "photo.npy", photo(70, 80))
    assert run(photos_file, tmp_path / "photo.npy", tmp_path / "found.npz", "--score", "1") == ""
    assert np.load(tmp_path / "found.npz")["masks"].shape == (0, 70, 80)


@pytest.mark.slow
def test_a_graph_for_all_sizes_is_fed_resized_and_padded(model, tmp_path):
    write_onnx(to_onnx(trace(model, batch=2)), tmp_path / "model.onnx")
    image = photo(64, 80)  # resized by nothing, so that no pixel differs; padded
    np.save(tmp_path / "photo.npy", image)
    run(tmp_path / "model.onnx", tmp_path / "photo.npy", tmp_path / "found.npz")
    assert_as_predictor(tmp_path / "model.onnx", image, tmp_path / "found.npz")


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear"])
@pytest.mark.parametrize("shape", [(50, 71), (333, 250), (64, 64)])
def test_its_resize_is_ours(shape, interpolation):
    example = runpy.run_path(str(EXAMPLE))
    data = {"resize": "short", "min_size": 64, "max_size": 96, "size_rounding": "floor", "pad_multiple": 32}
    ours = DataConfig(**data)
    content, padded = example["sizes"](*shape, data)
    assert tuple(content) == resized_size(*shape, ours)
    assert tuple(padded) == tuple(max(64, side) for side in padded_size(*content, ours))
    image = photo(*shape)
    whole = interpolation == "antialias"
    got = example["resize"](image, content, whole, whole)
    wanted = resize_image(torch.from_numpy(image).permute(2, 0, 1), tuple(content), interpolation)
    difference = np.abs(got.transpose(2, 0, 1).astype(float) - wanted.numpy().astype(float))
    assert difference.max() <= (1 if whole else 1e-2)
