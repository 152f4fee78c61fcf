"""OpenVINO: IR files (.xml with .bin beside it) in float32, with float16 weights, or quantised to int8.

float16 is a way of storing: OpenVINO makes the weights float32 again when it opens the file, and computes in float32.
For int8 see `quantise`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskrcnn.errors import ExportError
from maskrcnn.exporting.onnx import to_onnx
from maskrcnn.exporting.quantise import MASK_PRODUCT, Inputs, quantise
from maskrcnn.exporting.traced import Traced
from maskrcnn.predict.exported.info import KEY
from maskrcnn.predict.exported.packages import need


def write_openvino(
    traced: Traced,
    path: Path,
    precision: Literal["float32", "float16", "int8"] = "float32",
    calibration: Iterable[Inputs] | None = None,
) -> None:
    """Write a traced model as `NAME.xml` and `NAME.bin`, its description inside.

    Args:
        traced: the model; its description says the precision.
        path: the .xml file.
        precision: "float32"; "float16": weights of half the size, computed in float32; "int8": quantised.
        calibration: inputs of the graph, for int8; see `calibrate.calibration_inputs`.

    Raises:
        ExportError: a package is not installed; int8 without calibration inputs, or with none that can be read.
        OSError: the file cannot be written.
    """
    if (precision == "int8") != (calibration is not None):
        raise ExportError(f"calibration images are for int8 and only for it, precision is {precision}")
    ov = need("openvino")
    model = ov.Core().read_model(to_onnx(traced).SerializeToString())
    simplify(model)
    if calibration is not None:
        model = quantise(model, calibration)
    model.set_rt_info(traced.info.to_json(), [KEY])
    ov.save_model(model, path, compress_to_fp16=precision == "float16")


def simplify(model: Any) -> None:
    """Replace what OpenVINO runs slowly by what it runs fast, with the same results."""
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "MatMul":
            _mask_logits(node)
        elif kind == "Minimum":
            _clamp(node)
    model.validate_nodes_and_infer_types()


def _mask_logits(product: Any) -> None:
    """The end of the mask head, `upsampled_logits`: a 1x1 convolution to 2 x 2 times C channels, these times the
    weights of each mask's own class, and the cells put into order.

    OpenVINO puts the channels last for it, which takes longer than the convolution. As a deconvolution and a sum of
    products over channels it need not.
    """
    from openvino import opset13 as op

    before, after = (
        _before(product, ["Reshape", "Transpose", "Relu"]),
        _after(product, ["Reshape", "Transpose", "Reshape"]),
    )
    if before is None or after is None:
        return
    layer, bias = before.input_value(0).get_node(), None
    if layer.get_type_name() == "Add":  # zeros are left out
        layer, bias = layer.input_value(0).get_node(), _data(layer, 1)
    kernel = _data(layer, 1) if layer.get_type_name() == "Convolution" else None  # (2 * 2 * C, C', 1, 1)
    if kernel is None:
        return
    inputs, outputs = kernel.shape[1], kernel.shape[0] // 4
    kernel = np.ascontiguousarray(kernel.reshape(2, 2, outputs, inputs).transpose(3, 2, 0, 1))
    shift = np.zeros(outputs, np.float32) if bias is None else bias.reshape(-1)[:outputs]
    x = op.convolution_backprop_data(layer.input_value(0), op.constant(kernel), [2, 2])
    x = op.relu(op.add(x, op.constant(shift.reshape(1, outputs, 1, 1))))  # (R, C, 2m, 2m)
    x = op.multiply(x, op.unsqueeze(product.input_value(1), np.array([3])))  # by (R, C, 1, 1)
    x.set_friendly_name(MASK_PRODUCT)
    x = op.reduce_sum(x, np.array([1]), keep_dims=False)
    x.set_friendly_name(after.get_friendly_name())
    after.output(0).replace(x.output(0))


def _before(node: Any, kinds: list[str]) -> Any:
    """The node from which the first input comes over nodes of these kinds, nearest first; else None."""
    for kind in kinds:
        node = node.input_value(0).get_node()
        if node.get_type_name() != kind:
            return None
    return node


def _after(node: Any, kinds: list[str]) -> Any:
    """The last of the nodes of these kinds that follow, each the only reader of the one before; else None."""
    for kind in kinds:
        readers = [target.get_node() for target in node.output(0).get_target_inputs()]
        if len(readers) != 1 or readers[0].get_type_name() != kind:
            return None
        node = readers[0]
    return node


def _data(node: Any, port: int) -> np.ndarray | None:
    """Of an input that is a constant, perhaps reshaped, its numbers."""
    value = node.input_value(port)
    source = value.get_node()
    if source.get_type_name() == "Reshape":
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or value.get_partial_shape().is_dynamic:
        return None
    return source.data.reshape(tuple(value.get_shape()))


def _clamp(node: Any) -> None:
    """min(max(x, 0), 6) of ReLU6 as one operation, which becomes a part of the convolution before it."""
    from openvino import opset13 as op

    high, inner = _scalar_and_rest(node)
    if high is None or inner.get_node().get_type_name() != "Maximum":
        return
    low, x = _scalar_and_rest(inner.get_node())
    if low is None:
        return
    clamp = op.clamp(x, low, high)
    clamp.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(clamp.output(0))


def _scalar_and_rest(node: Any) -> tuple[float | None, Any]:
    """Of two inputs the one that is a single float32 number, and the other."""
    for port in (0, 1):
        source = node.input_value(port).get_node()
        if source.get_type_name() == "Constant" and source.data.dtype == np.float32 and source.data.size == 1:
            return float(source.data.item()), node.input_value(1 - port)
    return None, node.input_value(0)
