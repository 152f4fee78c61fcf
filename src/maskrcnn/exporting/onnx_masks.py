"""The mask head's last layers in the form that runtimes compute fastest: the same numbers, half the time.

A 2x2 deconvolution of stride 2 makes four cells of each that do not overlap, so it is a 1x1 convolution to four times
the channels; and the product with the weights of a RoI's own class can come before the four are put side by side: then
one number a cell moves, not 256.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from maskrcnn.predict.exported.packages import need


def lighten_masks(proto: Any) -> None:
    """Rewrite an `onnx.ModelProto` in place; one without such layers stays as it is.

    ConvTranspose (R, K, 2n, 2n), Relu, Einsum with (R, K) -> (R, 2n, 2n) becomes
    Conv (R, 4K, n, n), Relu, MatMul with (R, 1, 1, K) -> (R, 4, 1, n * n), and a transposition of that.
    """
    onnx = need("onnx")
    graph = proto.graph
    for einsum in [node for node in graph.node if node.op_type == "Einsum"]:
        makers = {name: node for node in graph.node for name in node.output}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        relu = makers.get(einsum.input[0])
        deconvolution = makers.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
        if deconvolution is None or not _doubles(deconvolution, weights):
            continue
        cells = _sides(graph, deconvolution.input[0])
        if cells is None:
            continue
        kernel, *bias = (onnx.numpy_helper.to_array(weights[name]) for name in deconvolution.input[1:])
        channels = kernel.shape[1]
        name = einsum.output[0]
        constants = {
            "kernel": kernel.transpose(2, 3, 1, 0).reshape(4 * channels, -1, 1, 1),  # (C, K, 2, 2): the four first
            "bias": np.tile(bias[0] if bias else np.zeros(channels, kernel.dtype), 4),
            "of_roi": np.array([-1, 1, 1, channels]),
            "four": np.array([-1, 4, channels, cells * cells]),
            "square": np.array([-1, 2, 2, cells, cells]),
            "whole": np.array([-1, 2 * cells, 2 * cells]),
        }

        make = partial(_node, onnx, name)
        new = [
            make("Conv", [deconvolution.input[0], ".kernel", ".bias"], ".four_maps", kernel_shape=[1, 1]),
            make("Relu", [".four_maps"], ".active"),
            make("Reshape", [".active", ".four"], ".rows"),  # (R, 4, K, n * n)
            make("Reshape", [einsum.input[1], ".of_roi"], ".weights"),  # (R, 1, 1, K)
            make("MatMul", [".weights", ".rows"], ".logits"),  # (R, 4, 1, n * n)
            make("Reshape", [".logits", ".square"], ".apart"),  # (R, dy, dx, y, x)
            make("Transpose", [".apart"], ".beside", perm=[0, 3, 1, 4, 2]),
            make("Reshape", [".beside", ".whole"], name),
        ]
        graph.initializer.extend(
            onnx.numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.{key}")
            for key, value in constants.items()
        )
        place = list(graph.node).index(einsum)  # nodes stand in the order of computation
        for number, one in enumerate(new):
            graph.node.insert(place + number, one)
        for old in (einsum, relu, deconvolution):
            _drop(graph, old, weights)


def _node(onnx: Any, place: str, kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node; names with a leading dot are those of this place."""
    inputs, (output,) = ([place + one if one[0] == "." else one for one in names] for names in (inputs, [output]))
    return onnx.helper.make_node(kind, inputs, [output], name=f"node_{output}", **attributes)


def _drop(graph: Any, old: Any, weights: dict[str, Any]) -> None:
    """Remove a node whose result nothing reads any more, and the weights that only it read."""
    others = [node for node in graph.node if node is not old and node != old]
    read = {name for node in others for name in node.input} | {output.name for output in graph.output}
    written = {name for node in others for name in node.output}
    if set(old.output) & (read - written):
        return
    graph.node.remove(old)
    for name in set(old.input) - read:
        if name in weights:
            graph.initializer.remove(weights[name])


def _doubles(node: Any, weights: dict[str, Any]) -> bool:
    """Whether this is a 2x2 deconvolution of stride 2, with or without bias."""
    if node.op_type != "ConvTranspose" or not all(name in weights for name in node.input[1:]):
        return False
    given = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    plain = {"strides": [2, 2], "pads": [0] * 4, "output_padding": [0, 0], "dilations": [1, 1]}
    same = all(given.get(key, value) == value for key, value in plain.items())
    one_group = all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")
    return same and one_group and list(weights[node.input[1]].dims[2:]) == [2, 2] and given.get("strides") == [2, 2]


def _sides(graph: Any, name: str) -> int | None:
    """Cells a side of square maps (R, C, n, n), where the graph says."""
    for info in graph.value_info:
        if info.name == name:
            sides = [dim.dim_value for dim in info.type.tensor_type.shape.dim[2:]]
            return sides[0] if len(sides) == 2 and sides[0] == sides[1] > 0 else None
    return None
