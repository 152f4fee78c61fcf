"""Weight files are read without running them; a hostile one is refused with a sentence."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import pickletools
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from maskrcnn.errors import WeightsError
from maskrcnn.file_kinds import check_file
from maskrcnn.weights.numpy_pickle import read_numpy_pickle
from maskrcnn.weights.pickles import read_pth

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "none": np.zeros((0, 4), np.float32),
    "one": np.float32(2.5),
    "flag": np.array([True, False]),
    "half": np.arange(2, dtype=np.float16),
}


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pretend(monkeypatch, module):
    """A module of a package that is not installed, while a file is written."""
    parts = module.__name__.split(".")
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", ["core", "_core"])
def test_numpy_pickles_of_every_protocol_and_both_numpys(protocol, core, tmp_path):
    content = pickle.dumps({"model": ARRAYS, "__author__": "somebody"}, protocol)
    for here, there in (("_core", "core"), ("core", "_core")):
        if core == there and protocol < 4:  # later protocols keep the length before the name
            content = content.replace(f"numpy.{here}.".encode(), f"numpy.{there}.".encode())
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    found = read_numpy_pickle(path)
    assert found["__author__"] == "somebody"
    for name, expected in ARRAYS.items():
        value = found["model"][name]
        np.testing.assert_array_equal(np.asarray(value), np.asarray(expected))
        assert np.shape(value) == np.shape(expected)


@pytest.mark.parametrize(
    "value",
    [
        Runs(os.system, "touch hacked"),
        Runs(eval, "open('hacked', 'w')"),
        Runs(getattr, "text", "upper"),
        torch.zeros(2),
        np.array([{}], dtype=object),
        np.dtype([("a", "f4")]),
    ],
)
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {"weight": value}}))
    with pytest.raises(WeightsError, match=r"model\.pkl: (refused: its pickle asks for|truncated or not a pickle)"):
        read_numpy_pickle(path)
    assert not (tmp_path / "hacked").exists()


def test_an_array_that_claims_more_than_its_bytes_is_refused(tmp_path):
    path = tmp_path / "model.pkl"
    content = pickle.dumps({"model": {"weight": np.zeros((3, 2), np.float32)}}, 2)
    assert content.count(b"K\x03K\x02\x86") == 1
    path.write_bytes(content.replace(b"K\x03K\x02\x86", b"J\xff\xff\xff\x7fK\x02\x86"))  # 2147483647 rows
    with pytest.raises(WeightsError, match=r"shape \(2147483647, 2\) in 24 bytes"):
        read_numpy_pickle(path)


def test_damaged_files(tmp_path):
    path = tmp_path / "model.pkl"
    for content, message in (
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (pickle.dumps({"a": np.zeros(9)})[:-20], "truncated or not a pickle"),
        (b"weights", "truncated or not a pickle"),
        (pickle.dumps([1, 2]), "holds no table of arrays"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            read_numpy_pickle(path)
    with pytest.raises(WeightsError, match="is a folder"):
        check_file(tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        check_file(tmp_path / "nowhere.pkl")


# ---------------------------------------------------------------- what torch.save writes


@pytest.mark.parametrize("zipped", [True, False])
def test_both_forms_of_pytorch(zipped, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": {"a": torch.arange(3)}, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    found = read_pth(path)
    assert found["epoch"] == 3
    assert found["model"]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_tools_leave_in_a_checkpoint_is_inert(zipped, tmp_path, monkeypatch):
    """mmengine's log with its numpy arrays and getattr, a config that is a dict, the arguments of a script."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        pass

    class ConfigDict(dict):
        pass

    for kind in (HistoryBuffer, ConfigDict):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    pretend(monkeypatch, module)
    buffer = HistoryBuffer()
    buffer.log = np.arange(3.0)
    data = {
        "meta": {"cfg": ConfigDict(a=1), "args": argparse.Namespace(lr=0.1), "score": np.float64(0.5)},
        "message_hub": {"loss": buffer, "method": Runs(getattr, HistoryBuffer, "__init__")},
        "state_dict": collections.OrderedDict(a=torch.ones(2)),
    }
    path = tmp_path / "model.pth"
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    found = read_pth(path)
    assert found["state_dict"]["a"].tolist() == [1, 1]
    assert found["meta"]["cfg"] == {"a": 1}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_asks_for_code_is_refused(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    data = {"model": {"a": torch.ones(2)}, "extra": Runs(os.system, "touch hacked")}
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"refused: its pickle asks for posix\.system|nt\.system"):
        read_pth(path)
    assert not (tmp_path / "hacked").exists()


def test_a_network_saved_as_an_object_is_named(tmp_path, monkeypatch):
    module = types.ModuleType("ultralytics.nn.tasks")
    module.SegmentationModel = type("SegmentationModel", (), {"__module__": "ultralytics.nn.tasks"})
    pretend(monkeypatch, module)
    path = tmp_path / "yolov8n-seg.pt"
    torch.save({"model": module.SegmentationModel()}, path)
    with pytest.raises(WeightsError, match=r"this is a YOLO checkpoint saved as an object \(ultralytics\.nn\.tasks"):
        read_pth(path)
    import torchvision

    torch.save(torchvision.models.resnet18(weights=None), path)
    with pytest.raises(WeightsError, match=r"a whole torchvision model saved as an object .*; save model\.state_dict"):
        read_pth(path)


@pytest.mark.parametrize(
    ("name", "call"),
    [("torch Tensor", "torch.Tensor"), ("builtins bytearray", "builtins.bytearray")],
)
def test_calls_that_take_memory_are_refused(name, call, tmp_path):
    path = tmp_path / "model.pth"
    asked = b"c" + name.replace(" ", "\n").encode() + b"\nJ\0\0\0\x40\x85R"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", b"\x80\x02}X\1\0\0\0a" + asked + b"s.")
    with pytest.raises(WeightsError, match=rf"asks for a call of {call} that weights do not need"):
        read_pth(path)


def test_storages_of_an_old_file_must_be_in_it(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(9)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    with path.open("rb") as file:
        for _ in range(4):
            list(pickletools.genops(file))
        start = file.tell()
    path.write_bytes(content[:start] + pickle.dumps([], 2))
    with pytest.raises(WeightsError, match="the numbers of its tensors are not in the file"):
        read_pth(path)


def test_a_pickle_of_arrays_is_bounded(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x02}r\0\0\0\x04.")
    with pytest.raises(WeightsError, match="truncated or not a pickle"):
        read_numpy_pickle(path)
    path.write_bytes(b"\x80\x02}X\1\0\0\0acnumpy\nndarray\n)Rs.")
    with pytest.raises(WeightsError, match="an array without numbers"):
        read_numpy_pickle(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"rename it to \.pth"):
        read_numpy_pickle(path)


def test_methods_of_a_table_cannot_be_replaced(tmp_path):
    path, table = tmp_path / "model.pth", collections.OrderedDict(a=torch.ones(1))
    table.values = table.get = 5
    torch.save(table, path)
    assert list(read_pth(path).values()) == [torch.ones(1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b'{"error": 1}', "JSON text"),
        (b"not here", "plain text"),
        (b"\2\0\0\0\0\0\0\0{}", "a safetensors file"),
    ],
)
def test_other_files_by_this_name(content, message, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_pth(path)


def test_tensors_and_archives_are_bounded(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    with pytest.raises(WeightsError, match=r"a tensor of shape \(1000000000,\) has no such numbers in the file"):
        read_pth(path)
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(10**5)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(WeightsError, match=r"a compressed archive, which torch\.save does not write; refused"):
        read_pth(path)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("photo.jpg", b"1")
    with pytest.raises(WeightsError, match="a zip archive, but not one of PyTorch"):
        read_pth(path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(WeightsError, match="a TorchScript program"):
        read_pth(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(WeightsError, match="holds no table of tensors"):
        read_pth(path)
    torch.save({"a": torch.zeros(10**4)}, path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(WeightsError, match=r"model\.pth: truncated; fetch it again"):
        read_pth(path)
    torch.save({"a": torch.zeros(10**4)}, path, _use_new_zipfile_serialization=False)
    for content in (path.read_bytes()[:100], bytes(range(256)) * 9):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.pth: truncated or no weight file .*; fetch it again"):
            read_pth(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_by_the_name_of_another(protocol, tmp_path):
    path = tmp_path / "model.pth"
    for content in (ARRAYS, {"a": torch.ones(2)}, {"epoch": 3}):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(WeightsError, match=r"model\.pth: a plain pickle, not a file of torch\.save; name it \.pkl"):
            read_pth(path)
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert read_pth(path)["a"].tolist() == [1, 1]
