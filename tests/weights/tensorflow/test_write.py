"""Checkpoints that we write."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow.bundle import Bundle
from maskrcnn.weights.tensorflow.read import read_tensorflow
from maskrcnn.weights.tensorflow.write import write_checkpoint

ARRAYS = {
    "FirstStageFeatureExtractor/conv/weights": np.arange(24, dtype=np.float32).reshape(3, 2, 4).transpose(2, 0, 1),
    "Conv/biases": np.array([1.5, -2], ">f4"),
    "global_step": np.array(12_345, np.int64),
    "none": np.zeros((0, 4), np.float32),
    "half": np.array([0.1], np.float16),
    "double": np.array([[0.1]]),
    "flags": np.array([True, False]),
    "small": np.array([-1, 2], np.int8),
    "größe": np.array([1], np.uint32),
}


def test_round_trip(tmp_path):
    files = write_checkpoint(tmp_path / "new" / "model.ckpt", ARRAYS)
    assert [file.name for file in files] == ["model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(files[:2])
    found = read_tensorflow(tmp_path / "new").variables
    assert list(found) == sorted(ARRAYS, key=str.encode)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype.newbyteorder("<")
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def test_is_what_tensorflow_writes(tiny, truth, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", truth)
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint"):
        assert (tmp_path / name).read_bytes() == (tiny / "ckpt" / name).read_bytes()


def test_an_open_checkpoint_may_be_replaced(tmp_path):
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, {"w": np.ones(5000, np.float32)})
    old = read_tensorflow(prefix).variables
    write_checkpoint(prefix, {"w": old["w"] * 2})
    assert old["w"].max() == 1
    assert Bundle(prefix).read("w").min() == 2


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(WeightsError, match="variable 'w' has the type complex128, which is not written; convert it"):
        write_checkpoint(tmp_path / "x", {"w": np.array([1j])})
    for name in ("", "\0a", "a" * 5000):
        with pytest.raises(WeightsError, match="is no name for a variable"):
            write_checkpoint(tmp_path / "x", {name: np.ones(1)})
    with pytest.raises(
        WeightsError, match=r"is a folder or lies beside .* checkpoint; give a prefix like DIR/model\.ckpt"
    ):
        write_checkpoint(tmp_path, ARRAYS)
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"cannot write the checkpoint .*; free some space or give another folder"):
        write_checkpoint(tmp_path / "file" / "model.ckpt", ARRAYS)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_tensorflow_reads_the_same(tmp_path):
    python = os.environ.get("MASKRCNN_TEST_TENSORFLOW")
    if not python:
        pytest.skip("set MASKRCNN_TEST_TENSORFLOW to a python that has tensorflow")
    many = {f"layer_{number:05}/{'scope/' * 20}weights": np.array([number], np.int32) for number in range(9000)}
    arrays = {**ARRAYS, **many}  # several blocks of index
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    script = Path(__file__).parent / "tensorflow_reads.py"
    command = [python, script, tmp_path / "model.ckpt"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    assert found["latest"] == str(tmp_path / "model.ckpt")
    assert found["variables"] == {
        name: [
            array.dtype.name,
            list(array.shape),
            hashlib.sha256(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).hexdigest(),
        ]
        for name, array in arrays.items()
    }
