from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import maskrcnn
from maskrcnn.config import DataConfig, PoolerConfig
from maskrcnn.errors import ExportError
from maskrcnn.exporting.onnx import DEFAULT_OPSET, OPSETS, to_onnx, write_onnx
from maskrcnn.exporting.onnx_masks import lighten_masks
from maskrcnn.exporting.traced import trace
from maskrcnn.exporting.verify import verify
from maskrcnn.model.build import build_model
from maskrcnn.predict.exported.model import open_run
from tests.model.tiny import tiny_config, tiny_model

CPU = torch.device("cpu")
SMALL = DataConfig(min_size=64, max_size=96)


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    model.data = SMALL
    return model


@pytest.fixture(scope="module")
def traced(model):
    return trace(model, size=(64, 96))


def written(traced, path: Path, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Write, check the file's form and its numbers, and read it."""
    write_onnx(to_onnx(traced, opset), path)
    onnx.checker.check_model(str(path), full_check=True)
    rows = verify(traced, open_run(path, CPU)[1], path)
    assert {row.found - row.wanted for row in rows} == {0}
    assert max(row.wanted for row in rows) > 1
    return onnx.load(path)


def test_the_file_gives_the_models_numbers(traced, tmp_path):
    proto = written(traced, tmp_path / "x.onnx")
    assert [one.name for one in proto.graph.input] == traced.inputs
    assert [one.name for one in proto.graph.output] == traced.outputs
    kinds = {node.op_type for node in proto.graph.node}
    assert kinds >= {"RoiAlign", "NonMaxSuppression"}
    assert not kinds & {"Loop", "Einsum", "ConvTranspose"}  # what runtimes are slow at
    assert str(Path(maskrcnn.__file__).parent).encode() not in (tmp_path / "x.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [opset for opset in OPSETS if opset != DEFAULT_OPSET])
def test_every_opset_runs(model, tmp_path, opset):
    proto = written(trace(model, size=(64, 96)), tmp_path / "x.onnx", opset)
    assert proto.opset_import[0].version == opset


@pytest.mark.parametrize("opset", [17, 22])
def test_other_opsets_are_refused(traced, opset):
    with pytest.raises(ExportError, match=rf"opset {opset} is not one of 18 to 21"):
        to_onnx(traced, opset)


def test_what_cannot_be_converted_is_one_sentence(traced, monkeypatch):
    def fail(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("Failed.\nStep 2")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"cannot be converted to ONNX: Failed\.$"):
        to_onnx(traced)


VARIANTS = {
    "adaptive": {"model.box.pooler.sampling_ratio": 0, "model.mask.pooler.sampling_ratio": 0},
    "not aligned": {"model.box.pooler.aligned": False, "model.mask.pooler.aligned": False},
    "class-agnostic": {"model.box.class_agnostic": True, "model.mask.class_agnostic": True},
    "boxes only": {"model.mask": None},
    "two upsamplings": {"model.mask.upsamplings": 2},
    "no upsampling": {"model.mask.upsamplings": 0},
    "4conv1fc": {"model.box.convolutions": 1, "model.box.fully_connected": 1},
    "mobilenet": {"model.backbone.name": "mobilenet_v2"},
    "efficientnet": {"model.backbone.name": "efficientnet_lite0"},
    "torchvision": {
        "model.rpn.anchors.rounded": True,
        "model.rpn.anchors.stride": "grid",
        "data.interpolation": "bilinear",
        "data.size_rounding": "floor",
    },
    "square": {"data.resize": "square"},
    "five channels": {
        "model.image_mean": (10.0, 20.0, 30.0, 40.0, 50.0),
        "model.image_std": (50.0,) * 5,
        "data.pixels": "raw",
        **dict.fromkeys(("data.brightness", "data.contrast", "data.saturation", "data.hue"), 0.0),
    },
}


def varied(**changes: object):
    """A tiny model with loud predictors."""
    config = tiny_config(**{"data.min_size": 64, "data.max_size": 96} | changes)
    model = build_model(config.model, classes=["square", "circle", "triangle"], data=config.data).eval()
    with torch.no_grad():
        for layer, gain in ((model.box_head.class_logits, 30), (model.box_head.box_deltas, 30), (model.rpn.deltas, 10)):
            layer.weight.mul_(gain)
        if model.mask_head is not None:
            model.mask_head.logits.weight.mul_(300)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_model_can_be_exported(tmp_path, name):
    written(trace(varied(**VARIANTS[name]), size=(64, 96), batch=2), tmp_path / "x.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "five channels"])
def test_every_kind_of_pixel_can_be_exported_for_all_sizes(tmp_path, name):
    written(trace(varied(**VARIANTS[name]), batch=None), tmp_path / "x.onnx")


@pytest.mark.slow
def test_the_smallest_size(tmp_path):
    model = varied()
    written(trace(model, size=(64, 64)), tmp_path / "x.onnx")


def mask_layers(stride: int, with_bias: bool) -> onnx.ModelProto:
    """ConvTranspose, Relu, Einsum, as the exporter writes them."""
    generator = np.random.default_rng(0)
    kernel, bias = (generator.normal(size=size).astype(np.float32) for size in ((3, 5, 2, 2), (5,)))
    nodes = [
        helper.make_node("ConvTranspose", ["x", "kernel", "bias"][: 2 + with_bias], ["y"], strides=[stride, stride]),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Einsum", ["z", "w"], ["out"], equation="rchw,rc->rhw"),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["r", 3, 7, 7]), ("w", ["r", 5]))
    ]
    graph = helper.make_graph(
        nodes,
        "masks",
        values,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["r", "m", "m"])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")][: 1 + with_bias],
        value_info=values[:1],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(("stride", "with_bias"), [(2, True), (2, False), (1, True)])
def test_light_mask_layers_give_the_same(stride, with_bias):
    before = mask_layers(stride, with_bias)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    lighten_masks(after)
    onnx.checker.check_model(after, full_check=True)
    if stride == 2:
        assert {node.op_type for node in after.graph.node} == {"Conv", "Relu", "Reshape", "MatMul", "Transpose"}
        assert {tensor.name for tensor in after.graph.initializer}.isdisjoint({"kernel", "bias"})
    else:  # not a doubling: left alone
        assert after == before
    generator = np.random.default_rng(1)
    inputs = {
        name: generator.normal(size=size).astype(np.float32) for name, size in (("x", (4, 3, 7, 7)), ("w", (4, 5)))
    }
    one, other = (
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for proto in (before, after)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_matterports_conventions_for_all_sizes(tmp_path):
    """Levels by rounding and crops summed from all maps at once: offsets into them depend on the size."""
    pooler = PoolerConfig(kind="crop_and_resize", levels="round", resolution=7)
    model = varied(
        **{
            "model.inclusive": True,
            "model.box.pooler": pooler,
            "model.mask.pooler": replace(pooler, resolution=14),
            "model.box.classes_per_box": "best",
            "model.box.detections_per_class": 40,
            "data.resize": "grow",
            "data.min_size": 128,
            "data.max_size": 192,
            "data.pad_place": "centre",
        }
    )
    written(trace(model), tmp_path / "x.onnx")
