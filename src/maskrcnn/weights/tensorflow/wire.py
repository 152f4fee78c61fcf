"""Protobuf messages of TensorFlow's weight files: fields of a buffer by number, tensor types and shapes; and back.

The walk over a message is that of our TFRecord reader: every length is held against the end of what surrounds it,
nothing is copied before it is asked for, and nobody recurses. What does not fit is `Damaged`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from maskrcnn.data.formats.example import (
    BYTES,
    FIXED32,
    VARINT,
    Buffer,
    Damaged,
    Part,
    message_parts,
    read_varint,
    varint_bytes,
)

MOST_DIMENSIONS = 16
MOST_NAME = 4096  # bytes of a name; real ones have about 100
STRING, BFLOAT16 = 7, 14

# tensorflow/core/framework/types.proto; little endian. bfloat16 is read as its 16 bits.
DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    14: np.dtype("<u2"),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
_OTHER_NAMES = {
    0: "invalid",
    7: "string",
    8: "complex64",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    18: "complex128",
    20: "resource",
    21: "variant",
}
KNOWN_TYPES = "float16, float32, float64, bfloat16, bool, and integers of 8 to 64 bits"


def type_name(number: int) -> str:
    """Of a TensorFlow data type: "float32"; "type 99" of an unknown one."""
    return _OTHER_NAMES.get(number) or (DTYPES[number].name if number in DTYPES else f"type {number}")


def type_number(dtype: np.dtype) -> int | None:
    """TensorFlow's number of a numpy type, of any byte order; None where it has none that we write."""
    wanted = dtype.newbyteorder("<")
    return next((number for number, known in DTYPES.items() if known == wanted and number != BFLOAT16), None)


def as_values(raw: np.ndarray, number: int) -> np.ndarray:
    """Values of the bits that `DTYPES` reads: bfloat16 becomes float32, which holds all its values."""
    return (raw.astype(np.uint32) << 16).view(np.float32) if number == BFLOAT16 else raw


# ---------------------------------------------------------------- reading


def integer(buffer: Buffer, part: Part) -> int:
    """A varint field as a signed 64-bit number, or a fixed32 one. Raises `Damaged`."""
    if part.wire == FIXED32:
        return int.from_bytes(buffer[part.start : part.stop], "little")
    if part.wire != VARINT:
        raise Damaged(f"field {part.number} is no number")
    value = read_varint(buffer, part.start, part.stop)[0] & (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def text(buffer: Buffer, part: Part) -> str:
    """A name. Raises `Damaged`."""
    if part.wire != BYTES or part.stop - part.start > MOST_NAME:
        raise Damaged(f"field {part.number} is no name")
    try:
        return bytes(buffer[part.start : part.stop]).decode()
    except UnicodeDecodeError:
        raise Damaged(f"field {part.number} is not text") from None


def parts_of(buffer: Buffer, part: Part) -> Iterator[Part]:
    """The fields of a message that is itself a field. Raises `Damaged`."""
    if part.wire != BYTES:
        raise Damaged(f"field {part.number} is no message")
    return message_parts(buffer, part.start, part.stop)


def read_shape(buffer: Buffer, part: Part) -> tuple[int, ...]:
    """A TensorShapeProto. Raises `Damaged` for an unknown rank, an unknown or a negative size."""
    sizes = []
    for dimension in parts_of(buffer, part):
        if dimension.number == 3 and integer(buffer, dimension):
            raise Damaged("a tensor of unknown rank")
        if dimension.number == 2:
            size = 0
            for field in parts_of(buffer, dimension):
                size = integer(buffer, field) if field.number == 1 else size
            sizes.append(size)
            if size < 0 or len(sizes) > MOST_DIMENSIONS:
                raise Damaged(f"a tensor of shape {_short(sizes)}")
    if math.prod(max(size, 1) for size in sizes) >= 1 << 48:  # numpy counts an empty one in the same way
        raise Damaged(f"a tensor of shape {_short(sizes)}")
    return tuple(sizes)


def _short(sizes: list[int]) -> str:
    return str(tuple(sizes[:MOST_DIMENSIONS]))


# ---------------------------------------------------------------- writing


def varint_field(number: int, value: int) -> bytes:
    """Nothing for 0, which is the default of proto3."""
    return varint_bytes(number << 3 | VARINT) + varint_bytes(value & (1 << 64) - 1) if value else b""


def fixed32_field(number: int, value: int) -> bytes:
    return varint_bytes(number << 3 | FIXED32) + value.to_bytes(4, "little")


def delimited(number: int, content: bytes) -> bytes:
    """A message, text or bytes."""
    return varint_bytes(number << 3 | BYTES) + varint_bytes(len(content)) + content


def shape_message(shape: tuple[int, ...]) -> bytes:
    return b"".join(delimited(2, varint_field(1, size)) for size in shape)
