"""Weights inside a graph: a frozen GraphDef (`frozen_inference_graph.pb`), or that of a SavedModel (`saved_model.pb`).

Freezing turns each variable into a node `Const` of the variable's name, which a node `NAME/read` (Identity) hands on.
Only those are weights; other constants (anchors, shapes, thresholds) are not. The file is mapped, weights are views.
Source: tensorflow/core/framework/{graph,node_def,attr_value,tensor}.proto,
tensorflow/core/protobuf/{saved_model,meta_graph}.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn.data.formats.example import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Buffer,
    Damaged,
    Part,
    message_parts,
    read_varints,
)
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow import wire
from maskrcnn.weights.tensorflow.files import check_no_stranger, damaged, mapped
from maskrcnn.weights.tensorflow.wire import integer, parts_of, text

_MOST_NODES = 1 << 20
_MOST_FILLED = 1 << 26  # elements of one file that a short list of values is stretched to
_MOST_LISTED = 1 << 23  # bytes of integers one by one
_MOST_PARTS = 1 << 16  # values of one tensor that are not packed
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_GRAPH_FIELDS = {1: BYTES, 2: BYTES, 3: VARINT, 4: BYTES, 5: BYTES}  # node, library, version, versions, debug_info
# Of TensorProto, by data type: the field with values one by one, and how its packed values are stored.
_VALUES = {1: 5, 2: 6, 3: 7, 4: 7, 5: 7, 6: 7, 17: 7, 9: 10, 10: 11, 14: 13, 19: 13, 22: 16, 23: 17}
_CONTENT = 4


class _Tensor(NamedTuple):
    """Of a TensorProto: its type, its shape, the run of bytes with its values, and its values one by one."""

    number: int
    shape: tuple[int, ...]
    content: Part | None
    listed: list[Part]


class Graph:
    """The constants of a graph, still in the file.

    Args:
        path: a binary GraphDef or SavedModel.

    Attributes:
        constants: node name -> its TensorProto.
        handed_on: names NAME for which there is a node `NAME/read`.
        variables: number of nodes that are variables, with their values in a checkpoint.
        is_saved_model: whether it is one.

    Raises:
        WeightsError: no such file, or one of another kind, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.constants: dict[str, Part] = {}
        self.handed_on: set[str] = set()
        self.variables = self._nodes = self._filled = 0
        self._buffer = mapped(path)
        check_no_stranger(path, self._buffer)
        # The first field of a SavedModel is a number, the schema's version; that of a GraphDef is a node.
        self.is_saved_model = self._buffer[0] == 1 << 3 | VARINT
        try:
            for part in _saved_nodes(self._buffer) if self.is_saved_model else _all_nodes(self._buffer):
                self._node(part)
            if not self._nodes:
                raise Damaged("no nodes")
        except Damaged as error:
            if self._nodes:
                raise damaged(path, error) from error
            raise WeightsError(f"{path}: {_what_else(self._buffer)}") from error

    def weights(self) -> dict[str, np.ndarray]:
        """Variable name -> array, of each constant of rank 1 or more that is handed on as a variable is.

        Where a tool has removed all those Identity nodes: of each constant of floating point of rank 1 or more.

        Raises:
            WeightsError: a graph whose variables are not frozen into it, damage, or an unknown type.
        """
        frozen = [name for name in self.constants if name in self.handed_on]
        if self.variables and not frozen:
            where = "variables/variables.index beside it" if self.is_saved_model else "its checkpoint instead"
            raise WeightsError(
                f"{self.path}: holds no weights, its {self.variables} variables are not frozen into it; give {where}"
            )
        weights = {}
        for name in frozen or self.constants:
            try:
                tensor = self._tensor(self.constants[name])
                number = tensor.number
                if not tensor.shape or not (frozen or _is_floating(number)):
                    continue
                if number not in wire.DTYPES:
                    raise WeightsError(
                        f"{self.path}: constant {name!r} has the type {wire.type_name(number)}; known are "
                        f"{wire.KNOWN_TYPES}"
                    )
                weights[name] = wire.as_values(self._raw(tensor), number)
            except Damaged as error:
                raise damaged(self.path, f"constant {name!r}: {error}") from error
        return weights

    def _node(self, node: Part) -> None:
        """NodeDef: name = 1, op = 2, input = 3, attr = 5 {key = 1, value = 2 {tensor = 8}}."""
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise Damaged(f"more than {_MOST_NODES} nodes")
        name = op = source = ""
        tensor = None
        for part in parts_of(self._buffer, node):
            if part.number == 1:
                name = text(self._buffer, part)
            elif part.number == 2:
                op = text(self._buffer, part)
            elif part.number == 3:
                source = source or text(self._buffer, part)
            elif part.number == 5 and op == "Const":  # protobuf writes fields in the order of their numbers
                tensor = self._attribute(part) or tensor
        if op == "Const" and tensor is not None:
            if name in self.constants:
                raise Damaged(f"two nodes {name!r}")
            self.constants[name] = tensor
        elif op == "Identity" and name == f"{source}/read":
            self.handed_on.add(source)
        self.variables += op in _VARIABLES

    def _attribute(self, entry: Part) -> Part | None:
        """The tensor of the attribute called "value"."""
        key, value = "", None
        for part in parts_of(self._buffer, entry):
            if part.number == 1:
                key = text(self._buffer, part)
            elif part.number == 2:
                value = part
        if key != "value" or value is None:
            return None
        return next((part for part in parts_of(self._buffer, value) if part.number == 8), None)

    def _tensor(self, tensor: Part) -> _Tensor:
        """TensorProto: dtype = 1, tensor_shape = 2, tensor_content = 4, and the values of its type."""
        number, shape, content, listed = 0, None, None, []
        for part in parts_of(self._buffer, tensor):  # protobuf writes fields in the order of their numbers
            if part.number == 1:
                number = integer(self._buffer, part)
            elif part.number == 2:
                shape = part
            elif part.number == _CONTENT:
                content = part
            elif part.number == _VALUES.get(number):
                listed.append(part)
                if len(listed) > _MOST_PARTS:
                    raise Damaged(f"more than {_MOST_PARTS} values that are not packed")
        return _Tensor(number, () if shape is None else wire.read_shape(self._buffer, shape), content, listed)

    def _raw(self, tensor: _Tensor) -> np.ndarray:
        """tensor_content, or values one by one, of which the last one fills the rest."""
        number, shape, part, listed = tensor
        dtype, count = wire.DTYPES[number], math.prod(shape)
        if part is not None:
            if part.wire != BYTES or part.stop - part.start != count * dtype.itemsize:
                raise Damaged(f"shape {shape} and {part.stop - part.start} bytes")
            array = np.frombuffer(self._buffer, dtype, count, part.start)
            return (array if array.flags.aligned else array.copy()).reshape(shape)
        values = self._listed(number, dtype, listed)
        if len(values) > count:
            raise Damaged(f"shape {shape} and {len(values)} values")
        if len(values) < count:
            self._filled += count
            if self._filled > _MOST_FILLED:
                raise Damaged(f"shape {shape} and only {len(values)} values")
            rest = values[-1] if len(values) else dtype.type(0)
            values = np.concatenate([values, np.full(count - len(values), rest, dtype)])
        return values.reshape(shape)

    def _listed(self, number: int, dtype: np.dtype, parts: list[Part]) -> np.ndarray:
        """(N,) values of a repeated field, packed or not."""
        fixed = {1: FIXED32, 2: FIXED64}.get(number, VARINT)
        if any(part.wire not in (BYTES, fixed) for part in parts):
            raise Damaged("values of another wire type")
        content = b"".join(bytes(self._buffer[part.start : part.stop]) for part in parts)
        if fixed != VARINT:
            if len(content) % dtype.itemsize:
                raise Damaged("values that are cut")
            return np.frombuffer(content, dtype).copy()
        if len(content) > _MOST_LISTED:
            raise Damaged(f"a list of more than {_MOST_LISTED >> 20} MB")
        numbers = read_varints(content)
        # half_val holds the 16 bits of a float16 or bfloat16.
        return numbers.astype(np.uint16).view(dtype) if number in (14, 19) else numbers.astype(dtype)


def _all_nodes(buffer: Buffer) -> Iterator[Part]:
    return _nodes(message_parts(buffer, 0, len(buffer)))


def _saved_nodes(buffer: Buffer) -> Iterator[Part]:
    """The nodes of the first graph of a SavedModel that has some: meta_graphs = 2, in it graph_def = 2."""
    for meta in message_parts(buffer, 0, len(buffer)):
        if meta.number != 2:
            continue
        found = False
        for graph in parts_of(buffer, meta):
            if graph.number == 2:
                for node in _nodes(parts_of(buffer, graph)):
                    found = True
                    yield node
        if found:
            return


def _nodes(parts: Iterator[Part]) -> Iterator[Part]:
    """GraphDef: node = 1. The nodes of functions (library = 2) are not weights."""
    for part in parts:
        if _GRAPH_FIELDS.get(part.number) != part.wire:
            raise Damaged(f"field {part.number} in a GraphDef")
        if part.number == 1:
            yield part


def _is_floating(number: int) -> bool:
    return number in (1, 2, 14, 19)


def _what_else(buffer: Buffer) -> str:
    head = bytes(buffer[:4000])
    if b"{" in head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "is a graph in text form (.pbtxt); write it as binary with tf.io.write_graph(..., as_text=False)"
    return "is no GraphDef and no SavedModel, or is cut short; give a frozen_inference_graph.pb or a saved_model.pb"
