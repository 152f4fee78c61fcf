"""Whatever file or folder a TensorFlow user has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow.read import looks_like_tensorflow, read_tensorflow
from maskrcnn.weights.tensorflow.wire import varint_field
from maskrcnn.weights.tensorflow.write import write_checkpoint
from tests.weights.tensorflow.messages import edit_index, frozen_array, node, saved_model

END = "/.ATTRIBUTES/VARIABLE_VALUE"
NAMES = {
    "layer_with_weights-0/kernel": "conv2d/kernel",
    "layer_with_weights-0/bias": "conv2d/bias",
    "layer_with_weights-1/beta": "bn/beta",
    "layer_with_weights-1/moving_mean": "bn/moving_mean",
    "layer_with_weights-1/moving_variance": "bn/moving_variance",
}


@pytest.fixture
def archive(tmp_path):
    """A released archive: w = 1 in the checkpoint, 2 in the frozen graph, 3 in the SavedModel."""
    write_checkpoint(tmp_path / "model.ckpt", {"w": np.ones(2, np.float32)})
    (tmp_path / "frozen_inference_graph.pb").write_bytes(frozen_array("w", np.full(2, 2, np.float32)))
    (tmp_path / "saved_model" / "variables").mkdir(parents=True)
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(saved_model(frozen_array("w", np.full(2, 3, np.float32))))
    (tmp_path / "pipeline.config").touch()
    return tmp_path


def test_the_thin_model_is_the_same_in_each_form(tiny, truth):
    checkpoint = read_tensorflow(tiny / "ckpt" / "model.ckpt")
    frozen = read_tensorflow(tiny / "export" / "frozen_inference_graph.pb")
    saved = read_tensorflow(tiny / "export" / "saved_model")
    assert [file.kind for file in (checkpoint, frozen, saved)] == ["checkpoint", "frozen graph", "saved model"]
    assert set(checkpoint.variables) == set(truth)
    assert set(frozen.variables) == set(saved.variables) == set(truth) - {"global_step"}
    for file in (checkpoint, frozen, saved):
        for name, array in file.variables.items():
            assert array.dtype == truth[name].dtype
            assert np.array_equal(array, truth[name])
        assert (file.full_names, file.left_out) == ({}, ())
    assert checkpoint.config == tiny / "pipeline.config"
    assert frozen.config == saved.config == tiny / "export" / "pipeline.config"


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("", "checkpoint", 1),
        ("model.ckpt", "checkpoint", 1),
        ("model.ckpt.index", "checkpoint", 1),
        ("model.ckpt.data-00000-of-00001", "checkpoint", 1),
        ("model.ckpt.meta", "checkpoint", 1),
        ("checkpoint", "checkpoint", 1),
        ("frozen_inference_graph.pb", "frozen graph", 2),
        ("saved_model", "saved model", 3),
        ("saved_model/saved_model.pb", "saved model", 3),
    ],
)
def test_what_a_path_means(archive, name, kind, value):
    assert looks_like_tensorflow(archive / name)
    file = read_tensorflow(str(archive / name))
    assert (file.kind, file.variables["w"].tolist()) == (kind, [value, value])
    assert file.config == archive / "pipeline.config"


def test_what_a_folder_means_as_it_gets_emptier(archive):
    (archive / "checkpoint").unlink()
    assert read_tensorflow(archive).kind == "checkpoint"
    for file in archive.glob("model.ckpt.*"):
        file.unlink()
    assert read_tensorflow(archive).kind == "frozen graph"
    (archive / "frozen_inference_graph.pb").unlink()
    assert read_tensorflow(archive).kind == "saved model"
    shutil.rmtree(archive / "saved_model")
    assert not looks_like_tensorflow(archive)
    with pytest.raises(WeightsError, match=r"no TensorFlow weights in this folder; give a checkpoint \(the prefix"):
        read_tensorflow(archive)


def test_the_newest_of_several(tmp_path):
    for step in (9, 10_000, 200):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", {"w": np.array([step], np.int64)})
    assert read_tensorflow(tmp_path).variables["w"] == 200  # written last, so the file `checkpoint` names it
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/away/model.ckpt-9"\n')
    assert read_tensorflow(tmp_path).variables["w"] == 9
    (tmp_path / "checkpoint").write_text("no state")
    assert read_tensorflow(tmp_path).variables["w"] == 10_000
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    with pytest.raises(WeightsError, match=r"model.ckpt-7.index: missing; put it beside the other files"):
        read_tensorflow(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: index.write_bytes(index.read_bytes()[:-10]), "no index of a checkpoint, or cut short"),
        (lambda index: index.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
        (lambda index: index.unlink(), "missing; put it beside the other files of the checkpoint, or give another"),
    ],
)
def test_a_damaged_checkpoint_is_told_and_no_older_one_taken(tmp_path, damage, message):
    for step in (100, 200):
        write_checkpoint(tmp_path / f"model.ckpt-{step}", {"w": np.array([step], np.int64)})
    (tmp_path / "checkpoint").unlink()
    damage(tmp_path / "model.ckpt-200.index")
    for _ in range(2):  # the second time alone
        assert looks_like_tensorflow(tmp_path)
        with pytest.raises(WeightsError, match=rf"model\.ckpt-200\.index: {message}"):
            read_tensorflow(tmp_path)
        for file in tmp_path.glob("model.ckpt-100.*"):
            file.unlink()


def test_files_of_other_programs_are_no_checkpoints(tmp_path):
    for name in ("search.index", "photo.meta", ".index"):
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "folder.index").mkdir()
    assert not looks_like_tensorflow(tmp_path)
    (tmp_path / "frozen_inference_graph.pb").write_bytes(frozen_array("w", np.ones(2, np.float32)))
    assert read_tensorflow(tmp_path).kind == "frozen graph"


@pytest.mark.parametrize("name", [".index", ".meta", ".data-00000-of-00001"])
def test_a_checkpoint_without_a_name(tmp_path, name):
    for _ in range(2):  # the second time it is there
        assert not looks_like_tensorflow(tmp_path / name)
        with pytest.raises(WeightsError, match=rf"{name}: the name of the checkpoint is missing; rename it to model"):
            read_tensorflow(tmp_path / name)
        shutil.copy(write_checkpoint(tmp_path / "x", {"w": np.ones(1)})[0], tmp_path / name)


def test_a_tar_is_an_archive(tmp_path):
    (tmp_path / "config").touch()
    with tarfile.open(tmp_path / "model.tar", "w") as file:
        file.add(tmp_path / "config")
    with pytest.raises(WeightsError, match=r"model\.tar: is a packed archive; unpack it"):
        read_tensorflow(tmp_path / "model.tar")


def test_other_names_of_graphs(archive):
    shutil.copy(archive / "saved_model" / "saved_model.pb", archive / "my.pb")
    assert read_tensorflow(archive / "my.pb").kind == "saved model"


def test_optimiser_state_is_left_out(written):
    file = read_tensorflow(written / "tf1")
    assert file.kind == "checkpoint"
    assert {"w", "cut", "scalar", "global_step"} < set(file.variables)
    assert file.left_out == (
        "OptimizeLoss/beta1_power",
        "OptimizeLoss/beta2_power",
        "OptimizeLoss/w/Adam",
        "OptimizeLoss/w/Adam_1",
        "strings",
        "w/Momentum",
    )


def test_a_layer_called_momentum_is_not_an_optimiser(tmp_path):
    arrays = {
        "a": np.ones(2),
        "a/Momentum": np.ones(3),
        "b/Momentum": np.ones(2),
        "a/ExponentialMovingAverage": np.ones(2),
    }
    write_checkpoint(tmp_path / "model.ckpt", arrays)
    assert set(read_tensorflow(tmp_path).variables) == set(arrays)


@pytest.mark.parametrize("name", ["object", "object/ckpt-1", "object/checkpoint"])
def test_object_checkpoint(written, name):
    file = read_tensorflow(written / name)
    assert_model(file, "object checkpoint", "model/")
    assert len(file.left_out) == 10
    assert {key.partition("/")[0] for key in file.left_out if "OPTIMIZER_SLOT" not in key} == {
        "_CHECKPOINTABLE_OBJECT_GRAPH",
        "optimizer",
        "save_counter",
        "step",
    }


def assert_model(file, kind, prefix):
    assert file.kind == kind
    assert file.full_names == {f"{prefix}{key}{END}": name for key, name in NAMES.items()}
    assert set(file.variables) == set(file.full_names)
    for number, (key, shape) in enumerate(zip(NAMES, [(3, 3, 3, 4), (4,), (4,), (4,), (4,)], strict=True)):
        array = file.variables[f"{prefix}{key}{END}"]
        assert np.array_equal(array, np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + number)


def test_saved_model_with_variables(archive, written):
    for end in (".index", ".data-00000-of-00001"):
        shutil.copy(written / "object" / f"ckpt-1{end}", archive / "saved_model" / "variables" / f"variables{end}")
    file = read_tensorflow(archive / "saved_model")
    assert_model(file, "saved model", "model/")
    assert (file.path, file.config) == (archive / "saved_model" / "saved_model.pb", archive / "pipeline.config")
    (archive / "saved_model" / "variables" / "variables.index").unlink()
    with pytest.raises(WeightsError, match=r"variables.index: no such file"):
        read_tensorflow(archive / "saved_model")


def test_saved_model_without_its_variables(archive):
    (archive / "saved_model" / "saved_model.pb").write_bytes(saved_model(node("w", "VarHandleOp")))
    with pytest.raises(WeightsError, match=r"holds no weights, .*; give variables/variables.index beside it"):
        read_tensorflow(archive / "saved_model")


def test_wrong_object_graph(tmp_path, written):
    for file in (written / "object").iterdir():
        shutil.copy(file, tmp_path)
    data = tmp_path / "ckpt-1.data-00000-of-00001"
    data.write_bytes(data.read_bytes().replace(b"conv2d/kernel", b"conv2d/kernXl"))
    with pytest.raises(WeightsError, match="the checksum of variable '_CHECKPOINTABLE_OBJECT_GRAPH' is wrong"):
        read_tensorflow(tmp_path)
    edit_index(tmp_path / "ckpt-1.index", _CHECKPOINTABLE_OBJECT_GRAPH=varint_field(1, 7) + varint_field(5, 1 << 40))
    with pytest.raises(WeightsError, match="truncated"):
        read_tensorflow(tmp_path)


def test_checkpoint_of_the_old_form(written, tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"')
    shutil.copy(written / "v1" / "model.ckpt", tmp_path)
    for path in (tmp_path, tmp_path / "model.ckpt"):
        assert looks_like_tensorflow(path)
        with pytest.raises(WeightsError, match=r"model.ckpt: is a checkpoint of the old form V1; restore it with"):
            read_tensorflow(path)


def test_nothing_there(tmp_path):
    (tmp_path / "weights.ckpt").write_bytes(b"\x80\x02")
    (tmp_path / "page.ckpt").write_bytes(b"<!DOCTYPE html>")
    for name, message in [
        ("missing", "missing: no such file or folder; give a checkpoint"),
        ("missing.pb", "missing.pb: no such file or folder"),
        ("weights.ckpt", "weights.ckpt: no weights of TensorFlow; give a checkpoint"),
        ("page.ckpt", "page.ckpt: is a web page, not weights"),
    ]:
        assert not looks_like_tensorflow(tmp_path / name)
        with pytest.raises(WeightsError, match=message):
            read_tensorflow(tmp_path / name)
    assert not looks_like_tensorflow("/")
    assert not looks_like_tensorflow(".")


def test_index_is_missing(archive):
    (archive / "model.ckpt.index").unlink()
    assert looks_like_tensorflow(archive / "model.ckpt")
    with pytest.raises(
        WeightsError, match=r"model.ckpt.index: missing; put it beside the other files of the checkpoint"
    ):
        read_tensorflow(archive / "model.ckpt")


@pytest.mark.slow
def test_files_that_tensorflow_has_just_written(tmp_path, written):
    """As those in `files/`, and the SavedModel of TF2 that is too large for them."""
    python = os.environ.get("MASKRCNN_TEST_TENSORFLOW")
    if not python:
        pytest.skip("set MASKRCNN_TEST_TENSORFLOW to a python that has tensorflow")
    script = Path(__file__).parent / "tensorflow_writes.py"
    result = subprocess.run([python, script, tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_model(read_tensorflow(tmp_path / "object_model"), "saved model", "_model/")
    for name in ("tf1", "object", "frozen.pb", "frozen_lists.pb"):
        fresh, kept = read_tensorflow(tmp_path / name), read_tensorflow(written / name)
        assert (fresh.kind, fresh.full_names, fresh.left_out) == (kept.kind, kept.full_names, kept.left_out)
        assert list(fresh.variables) == list(kept.variables)
        for key, array in fresh.variables.items():
            assert np.array_equal(array, kept.variables[key])
