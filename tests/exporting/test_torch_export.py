from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import maskrcnn
from maskrcnn.config import DataConfig
from maskrcnn.errors import ConfigError, ExportError, WeightsError
from maskrcnn.exporting.torch_export import write_aot_inductor, write_torch_export
from maskrcnn.exporting.traced import trace
from maskrcnn.exporting.verify import verify
from maskrcnn.predict.exported.model import open_run
from maskrcnn.predict.exported.torch_export import DESCRIPTION, open_file
from maskrcnn.predict.predictor import Predictor
from tests.model.tiny import tiny_model
from tests.predict.test_predictor import assert_same, photo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    model.data = DataConfig(min_size=64, max_size=96)
    return model


@pytest.fixture(scope="module")
def traced(model):
    return trace(model, size=(64, 96))


@pytest.fixture(scope="module")
def package(traced, tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    write_torch_export(traced, path)
    return path


def changed(package: Path, target: Path, change) -> Path:
    """A copy of the package whose members went through `change(name, content) -> content or None`."""
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = change(info.filename.partition("/")[2], old.read(info))
            if content is not None:
                new.writestr(info, content)
    return target


def test_the_written_graph_gives_the_models_own_numbers(traced, package):
    for row in verify(traced, open_run(package, CPU)[1], package):
        assert row.found == row.wanted == row.same
        assert row.box < 1e-3


def test_a_predictor_opens_it(model, package):
    image = photo(64, 96)
    assert_same(Predictor(model, "cpu")(image), Predictor.load(package)(image))


def test_torch_export_load_opens_it_too(traced, package):
    inputs = {"images": torch.from_numpy(photo(50, 70)).permute(2, 0, 1)[None], "score_threshold": torch.tensor(0.1)}
    theirs = torch.export.load(package).module()(**inputs)
    ours = open_file(package, CPU)[1]({name: value.numpy() for name, value in inputs.items()})
    assert list(ours) == traced.outputs
    for value, other in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(value.astype(float), other.numpy().astype(float), atol=1e-4)


def test_it_tells_nothing_of_the_folders_where_it_was_made(package):
    assert str(Path(maskrcnn.__file__).parent).encode() not in package.read_bytes()


@pytest.mark.parametrize(
    "target",
    [
        *("torch.serialization.os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.save.default"),
        # An attribute of an operator that is known, but no overload of it: these lead to `exec`.
        *(f"torch.ops.aten.sigmoid.{name}" for name in ("__setattr__", "__getattr__", "__class__", "op", "_op")),
    ],
)
def test_a_graph_that_calls_anything_else_is_refused(package, tmp_path, target):
    def change(name, content):
        return (
            content.replace(b"torch.ops.aten.sigmoid.default", target.encode()) if name.endswith(".json") else content
        )

    hostile = changed(package, tmp_path / "hostile.pt2", change)
    with pytest.raises(WeightsError, match=target):
        open_file(hostile, CPU)


class Hostile:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["data/weights/weight_0", "data/weights/model.pt", "data/sample_inputs/model.pt"])
def test_nothing_is_unpickled(package, tmp_path, place):
    with zipfile.ZipFile(package) as file:
        if place.endswith("weight_0") and not any(name.endswith(place) for name in file.namelist()):
            pytest.skip("this PyTorch writes all weights as one member")
    trap = tmp_path / "trap"
    bomb = pickle.dumps(Hostile(trap), protocol=2)

    def change(name, content):
        if name == "data/weights/model_weights_config.json":
            config = json.loads(content)
            next(iter(config["config"].values()))["use_pickle"] = place.endswith("weight_0")
            return json.dumps(config).encode()
        return bomb if name == place else content

    hostile = changed(package, tmp_path / "hostile.pt2", change)
    if place == "data/weights/model.pt":  # PyTorch 2.8's place for all weights
        with zipfile.ZipFile(hostile, "a") as file:
            if f"{package.stem}/{place}" not in file.namelist():
                file.writestr(f"{package.stem}/{place}", bomb)
    if place.startswith("data/weights"):
        with pytest.raises(WeightsError, match=r"hostile\.pt2: "):
            open_file(hostile, CPU)
    else:  # not even looked at
        open_file(hostile, CPU)
    assert not trap.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "compressed", "huge", "schema", "description"])
def test_damage_is_one_sentence(package, tmp_path, damage):
    path = tmp_path / "damaged.pt2"
    if damage == "compressed":
        with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
            for info in old.infolist():
                content = old.read(info)
                info.compress_type = zipfile.ZIP_DEFLATED if info.filename.endswith(".json") else zipfile.ZIP_STORED
                new.writestr(info, content)
    elif damage == "schema":
        changed(package, path, lambda name, content: content.replace(b'"major": 8', b'"major": 9'))
    elif damage == "description":
        changed(package, path, lambda name, content: None if name.endswith(DESCRIPTION) else content)
    elif damage == "huge":  # a member that says it has 2 GB
        content = changed(package, path, lambda name, content: content).read_bytes()
        with zipfile.ZipFile(path) as file:
            size = file.getinfo(next(name for name in file.namelist() if name.endswith("model.json"))).file_size
        path.write_bytes(content.replace(struct.pack("<II", size, size), struct.pack("<II", 2**31 - 2, 2**31 - 2)))
    else:
        path.write_bytes(package.read_bytes()[: 5000 if damage == "cut" else 0])
    with pytest.raises(WeightsError, match=r"damaged\.pt2: ") as error:
        open_file(path, CPU)
    assert "\n" not in str(error.value)


def test_machine_code_is_not_run_unasked(package, tmp_path):
    path = tmp_path / "compiled.pt2"
    changed(package, path, lambda name, content: content)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(f"{package.stem}/data/aotinductor/model/code.so", b"not even a library")
    with pytest.raises(ExportError, match=r"machine code.*trust=True"):
        Predictor.load(path)
    with pytest.raises(ConfigError, match="run on the CPU"):
        open_file(path, torch.device("cuda"), trust=True)


def test_compiling_needs_a_compiler(traced, tmp_path, monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(ExportError, match=r"x\.pt2: compiling needs a C\+\+ compiler"):
        write_aot_inductor(traced, tmp_path / "x.pt2")


@pytest.mark.slow
def test_a_graph_for_all_sizes_and_numbers_of_images(model, tmp_path):
    traced = trace(model, batch=None)
    write_torch_export(traced, tmp_path / "all.pt2")
    verify(traced, open_run(tmp_path / "all.pt2", CPU)[1], tmp_path / "all.pt2")
    images = [photo(60, 80), photo(80, 60, 1), photo(60, 80, 2)]
    eager, exported = Predictor(model, "cpu"), Predictor.load(tmp_path / "all.pt2")
    for ours, theirs in zip(eager.batch(images), exported.batch(images), strict=True):
        assert_same(ours, theirs)


@pytest.mark.slow
def test_compiled_it_gives_the_models_numbers(model, tmp_path):
    path = tmp_path / "compiled.pt2"
    traced = trace(model, size=(64, 96))
    write_aot_inductor(traced, path)
    assert str(Path(maskrcnn.__file__).parent).encode() not in path.read_bytes()
    for row in verify(traced, open_run(path, CPU, trust=True)[1], path):
        assert row.found == row.wanted == row.same
    image = photo(64, 96)
    assert_same(Predictor(model, "cpu")(image), Predictor.load(path, trust=True)(image))
