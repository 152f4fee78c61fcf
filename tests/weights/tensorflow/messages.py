"""Graphs and tables made by hand, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskrcnn.weights.tensorflow.table import read_table, table_bytes
from maskrcnn.weights.tensorflow.wire import delimited, shape_message, type_number, varint_field


def tensor(dtype: int, shape: tuple[int, ...], rest: bytes = b"") -> bytes:
    """A TensorProto; `rest` holds the values."""
    return varint_field(1, dtype) + delimited(2, shape_message(shape)) + rest


def node(name: str, op: str, *inputs: str, value: bytes | None = None) -> bytes:
    """A field of a GraphDef."""
    body = delimited(1, name.encode()) + delimited(2, op.encode())
    body += b"".join(delimited(3, source.encode()) for source in inputs)
    body += delimited(5, delimited(1, b"dtype") + delimited(2, varint_field(6, 1)))
    if value is not None:
        body += delimited(5, delimited(1, b"value") + delimited(2, delimited(8, value)))
    return delimited(1, body)


def frozen(name: str, value: bytes) -> bytes:
    """A variable that was frozen: its constant, and who hands it on."""
    return node(name, "Const", value=value) + node(f"{name}/read", "Identity", name)


def frozen_array(name: str, array: np.ndarray) -> bytes:
    return frozen(name, tensor(type_number(array.dtype) or 0, array.shape, delimited(4, array.tobytes())))


def saved_model(graph: bytes, *, first: bytes = b"") -> bytes:
    return varint_field(1, 1) + first + delimited(2, delimited(1, b"") + delimited(2, graph))


def edit_index(path: Path, **changes: bytes | None) -> None:
    """Replace values of an index, or drop them; the header goes by the name `header`. Checksums are made anew."""
    entries = read_table(path.read_bytes())
    for name, value in changes.items():
        key = b"" if name == "header" else name.encode()
        entries.pop(key, None)
        if value is not None:
            entries[key] = value
    path.write_bytes(table_bytes(sorted(entries.items())))
