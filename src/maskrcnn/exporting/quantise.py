"""int8 for OpenVINO graphs, by NNCF's quantisation after training.

Convolutions and linear layers of the trunk, the pyramid and the heads compute in 8-bit integers, with one scale for
each output channel of the weights. Depthwise convolutions stay in float32: in int8 they cost MobileNetV2 up to a
point of AP (docs/results.md). Everything that decides positions and classes stays in float32: resizing, normalisation,
the last layer of each head, box decoding, NMS; and sums of maps, which cost several points of AP when each summand is
rounded by itself (87.8 -> 83.0 box AP of a ResNet-18 on the Shapes data).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from maskrcnn.predict.exported.packages import need

Inputs = Mapping[str, np.ndarray]
"""Of the graph, by name."""

LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
"""Operations with weights."""
PASSING = (
    *("Add", "Multiply", "Relu", "Clamp", "PRelu", "Sigmoid", "Swish", "MVN", "GroupNormalization"),
    *("MaxPool", "AvgPool", "Interpolate", "Concat", "Gather", "ROIAlign", "Reshape", "Squeeze", "Unsqueeze"),
)
"""Operations through which features flow from layer to layer."""
ALL_PORTS = ("Add", "Multiply", "Concat")
"""Those of `PASSING` whose every input is features; of the others only the first is."""
MASK_PRODUCT = "mask_product"
"""Name of the product of mask features and predictor weights."""


def quantise(model: Any, calibration: Iterable[Inputs]) -> Any:
    """An OpenVINO model in float32 -> a new one, its layers in int8.

    Args:
        model: the graph, simplified.
        calibration: typical inputs, gone through several times.

    Raises:
        ExportError: NNCF is not installed.
    """
    nncf = need_nncf()
    wanted = layers_to_quantise(model)
    fixed = ("Constant", "Parameter", "Result")
    nodes = (node for node in model.get_ordered_ops() if node.get_type_name() not in fixed)
    others = [node.get_friendly_name() for node in nodes if node.get_friendly_name() not in wanted]
    with _quietly():
        model = nncf.quantize(
            model,
            nncf.Dataset(calibration),
            subset_size=sum(1 for _ in calibration),  # they need not fit in memory at once
            # Ranges that need not be symmetric: half of the bits of a map with few negative values would lie idle.
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        )
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and not _constant(node, 0):
            _round_before_gathering(node)
            _share(node)
        elif node.get_friendly_name() == MASK_PRODUCT:
            _keep_weights(node)
    model.validate_nodes_and_infer_types()
    return model


def layers_to_quantise(model: Any) -> set[str]:
    """Names of the layers whose output flows, as features, into another layer.

    So the last layer of each head stays out, whatever the trunk. Max pooling, which only chooses, is let through.
    """
    nodes = model.get_ordered_ops()
    waiting = [node for node in nodes if _is_layer(node) or node.get_friendly_name() == MASK_PRODUCT]
    wanted = {MASK_PRODUCT}  # its features; see `_keep_weights`
    seen: set[str] = set()
    while waiting:
        node = waiting.pop()
        count = node.get_input_size() if node.get_type_name() in ALL_PORTS else 1
        for source in (node.input_value(port).get_node() for port in range(count)):
            name, kind = source.get_friendly_name(), source.get_type_name()
            if name in seen:
                continue
            seen.add(name)
            if kind in PASSING:
                waiting.append(source)
            if kind == "MaxPool" or (_is_layer(source) and not _is_depthwise(source)):
                wanted.add(name)
    return wanted


def _is_layer(node: Any) -> bool:
    return node.get_type_name() in LAYERS and _constant(node, 1)


def _is_depthwise(layer: Any) -> bool:
    """One channel a group: little arithmetic, but each channel has a range of its own, and they share one scale."""
    return layer.get_type_name() == "GroupConvolution" and layer.input(1).get_shape()[2] == 1


def _constant(node: Any, port: int) -> bool:
    """Whether an input is weights, perhaps converted or reshaped."""
    while (node := node.input_value(port).get_node()).get_type_name() in ("Convert", "Reshape"):
        port = 0
    return bool(node.get_type_name() == "Constant")


def _share(rounding: Any) -> None:
    """Residual sums and upsampling read what the layer beside them reads: then float32 maps never go to memory.

    Not signed summands: with these (MobileNetV2) OpenVINO 2026.4 gives wrong sums on the CPU.
    """
    output = rounding.input_value(0)
    positive = output.get_node().get_type_name() in ("Relu", "Clamp", "MaxPool")
    for target in output.get_target_inputs():
        kind = target.get_node().get_type_name()
        if kind == "Interpolate" or (kind == "Add" and positive):
            target.replace_source_output(rounding.output(0))


def _round_before_gathering(rounding: Any) -> None:
    """Round pooled features level by level instead of all together: the same numbers, a quarter of the bytes to copy.

    NNCF must not do this itself, because it measures a range for each level, and a level without boxes has none.
    """
    from openvino import opset13 as op

    ranges = [rounding.input_value(port) for port in range(1, 5)]
    levels = rounding.get_attributes()["levels"]
    for pooled in _pooled(rounding.input_value(0)):
        targets = pooled.get_target_inputs()
        rounded = op.fake_quantize(pooled, *ranges, levels).output(0)
        for target in targets:
            target.replace_source_output(rounded)
        rounding.output(0).replace(rounding.input_value(0))


def _pooled(output: Any) -> list[Any]:
    """The RoIAligns' outputs of which an output is put together; empty where it is anything else."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "ROIAlign":
        return [output]
    if kind in ("Gather", "Reshape"):
        return _pooled(node.input_value(0))
    if kind == "Concat":
        parts = [_pooled(value) for value in node.input_values()]
        return [found for part in parts for found in part] if all(parts) else []
    return []


def _keep_weights(product: Any) -> None:
    """Of the product that gives the masks only the features are rounded; NNCF takes its weights for features too."""
    source = product.input_value(1).get_node()
    while source.get_type_name() in ("Unsqueeze", "Gather", "GatherND", "Reshape"):
        source = source.input_value(0).get_node()
    if source.get_type_name() == "FakeQuantize":
        source.output(0).replace(source.input_value(0))


def need_nncf() -> Any:
    """NNCF; it reports its use over the network unless this variable is set before the first import."""
    os.environ.setdefault("NNCF_CI", "1")
    return need("nncf")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without NNCF's advice."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
