""".h5 files: opened, written back, refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.weights.matterport.config import to_config
from maskrcnn.weights.matterport.h5 import need_h5py, read_arrays, write_arrays
from maskrcnn.weights.matterport.model import load_matterport, open_matterport
from maskrcnn.weights.matterport.write import save_matterport
from tests.weights.oracle import folder, oracles

ATTRIBUTES = {"BACKBONE": "resnet50", "IMAGE_MIN_DIM": 128, "IMAGE_MAX_DIM": 128, "TOP_DOWN_PYRAMID_SIZE": 32,
              "FPN_CLASSIF_FC_LAYERS_SIZE": 64}  # fmt: skip


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def model():
    """Narrow, with numbers that differ everywhere."""
    config = to_config(ATTRIBUTES).replace(**{"model.backbone.norm_eps": 1e-5})
    made = build_model(config.model, classes=["cat", "dog"], data=config.data).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith(("running_var", "running_mean")) or ".bn" in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 1e-4)
    return made


def test_a_model_goes_there_and_back(h5py, model, tmp_path: Path):
    file, beside = save_matterport(model, tmp_path / "deep" / "mine.h5")
    again, _ = open_matterport(file, config=beside, classes=["cat", "dog"])
    assert again.data == model.data
    assert again.config.box == model.config.box
    image = torch.randint(0, 255, (1, 3, 128, 128)).float()
    sizes = torch.tensor([[128, 128]])
    with torch.no_grad():
        for ours, theirs in zip(model.features(image, sizes), again.features(image, sizes), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))
    for name, value in again.state_dict().items():
        if name.startswith(("rpn", "box_head", "mask_head.logits", "fpn")):
            assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name


def test_the_config_beside_is_python_that_they_can_import(h5py, model, tmp_path: Path):
    _, beside = save_matterport(model, tmp_path / "mine.h5")
    scope: dict = {}
    text = beside.read_text().replace("from mrcnn.config import Config", "class Config: pass")
    exec(text, scope)
    assert scope["ModelConfig"].NUM_CLASSES == 3
    assert scope["CLASS_NAMES"] == ["BG", "cat", "dog"]


def test_no_file_is_overwritten_and_other_models_are_refused(h5py, model, tmp_path: Path):
    save_matterport(model, tmp_path / "mine.h5")
    with pytest.raises(WeightsError, match="is there already"):
        save_matterport(model, tmp_path / "mine.h5")
    with pytest.raises(WeightsError, match=r"named \.h5"):
        save_matterport(model, tmp_path / "mine.pth")
    config = to_config(ATTRIBUTES).replace(**{"model.inclusive": False})
    other = build_model(config.model, classes=["a"], data=config.data)
    with pytest.raises(WeightsError, match=r"model\.inclusive is False"):
        save_matterport(other, tmp_path / "other.h5")


@pytest.mark.slow
def test_a_file_of_the_original_comes_back_with_every_name(h5py, data_dir: Path, tmp_path: Path):
    rebuild, name = oracles(data_dir), "mp_resnet50"
    rebuild.write(name, tmp_path / "model.h5")
    model = load_matterport(tmp_path / "model.h5", config=folder(data_dir, name) / "config.json")
    save_matterport(model, tmp_path / "back.h5")
    with h5py.File(tmp_path / "back.h5") as file:
        layers = [layer.decode() for layer in file.attrs["layer_names"]]
        names = [f"{layer}/{weight.decode()}" for layer in layers for weight in file[layer].attrs["weight_names"]]
    assert names == list(rebuild.load_keys(name))
    again = load_matterport(tmp_path / "back.h5", config=tmp_path / "back_config.py")
    assert (again.config, again.data) == (model.config, model.data)
    for key, value in model.state_dict().items():
        assert torch.allclose(value.float(), again.state_dict()[key].float(), atol=1e-5), key


def test_a_config_of_other_weights_is_refused(h5py, model, tmp_path: Path):
    file, _ = save_matterport(model, tmp_path / "mine.h5")
    with pytest.raises(WeightsError, match="NUM_CLASSES 81, but the weights have 3"):
        load_matterport(file, config={**ATTRIBUTES, "NUM_CLASSES": 81})
    with pytest.raises(WeightsError, match="BACKBONE resnet101"):
        load_matterport(file, config={"BACKBONE": "resnet101"})
    with pytest.warns(UserWarning, match="no Config was given"), pytest.raises(WeightsError, match="other shapes"):
        load_matterport(file)  # the defaults are wider


def test_every_way_to_nest_the_groups_is_read(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["outer/conv1/conv1/kernel:0"] = np.ones((1, 2))
        file["rpn_model/rpn_class_raw/bias:0"] = np.ones(3)
    found = read_arrays(tmp_path / "a.h5")
    assert {name: array.shape for name, array in found.items()} == {"conv1/kernel": (1, 2), "rpn_class_raw/bias": (3,)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"something", "no HDF5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "truncated or damaged"),
    ],
)
def test_other_files_are_named(h5py, content: bytes, said: str, tmp_path: Path):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_arrays(tmp_path / "a.h5")


def test_keras_3_links_texts_and_missing_files_are_refused(h5py, tmp_path: Path):
    with pytest.raises(WeightsError, match="no such file"):
        read_arrays(tmp_path / "none.h5")
    with pytest.raises(WeightsError, match="is a folder"):
        read_arrays(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(1)
    with pytest.raises(WeightsError, match="Keras 3"):
        read_arrays(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["a/b"] = "text"
    with pytest.raises(WeightsError, match="no numbers"):
        read_arrays(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["a/b"] = h5py.ExternalLink("b.h5", "a/b")
    assert read_arrays(tmp_path / "c.h5") == {}
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("a/b", (4,), "f4", external=[(str(tmp_path / "b.h5"), 0, 16)])
    with pytest.raises(WeightsError, match="another file"):
        read_arrays(tmp_path / "d.h5")


def test_a_claim_of_too_much_memory_is_refused(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/b", (1 << 32,), "f4", chunks=(1 << 16,), compression="gzip")
    with pytest.raises(WeightsError, match="more than"):
        read_arrays(tmp_path / "a.h5")


def test_without_h5py_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r"maskrcnn\[h5\]"):
        need_h5py()


def test_a_full_disk_leaves_nothing_behind(h5py, tmp_path: Path):
    def broken():
        yield "a", {"a/b": np.ones(3)}
        raise OSError(28, "No space left on device")

    with pytest.raises(WeightsError, match="No space"):
        write_arrays(tmp_path / "a.h5", broken())
    assert list(tmp_path.iterdir()) == []


def test_an_empty_array_of_a_large_shape_is_refused(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/b", (1 << 24,), "f4", chunks=(1 << 16,), compression="gzip")
    with pytest.raises(WeightsError, match="its arrays have 67108864 bytes, more than"):
        read_arrays(tmp_path / "a.h5")


def test_an_array_without_numbers_is_named(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b"] = h5py.Empty("f4")
    with pytest.raises(WeightsError, match="a/b is empty"):
        read_arrays(tmp_path / "a.h5")


def test_of_a_whole_model_only_the_weights_are_read(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["model_weights/conv1/conv1/kernel:0"] = np.ones((1, 2))
        file["optimizer_weights/conv1/kernel:0"] = np.zeros((1, 2))
    found = read_arrays(tmp_path / "a.h5")
    assert found["conv1/kernel"].tolist() == [[1.0, 1.0]]
    assert len(found) == 1


def test_two_arrays_of_one_name_are_refused(h5py, tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/conv1/kernel:0"] = np.ones(2)
        file["b/conv1/kernel:0"] = np.zeros(2)
    with pytest.raises(WeightsError, match="two arrays named conv1/kernel"):
        read_arrays(tmp_path / "a.h5")
