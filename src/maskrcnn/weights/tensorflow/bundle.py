"""Checkpoints of TensorFlow in the V2 form, a "tensor bundle": `PREFIX.index`, a table of what is there, and
`PREFIX.data-00000-of-0000N`, the values.

Shards are memory-mapped: only what is asked for is read. The checksums of all blocks of the index and of each variable
that is read are compared, and all variables together are never more than the files hold.
Source: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/util/tensor_bundle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.data.formats.example import BYTES, Buffer, Damaged, Part, message_parts, read_varint
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow import wire
from maskrcnn.weights.tensorflow.files import check_no_stranger, damaged, mapped
from maskrcnn.weights.tensorflow.table import Compressed, is_table, read_table
from maskrcnn.weights.tensorflow.wire import integer, parts_of

V1 = (
    "is a checkpoint of the old form V1; restore it with TensorFlow and save it again with "
    "tf.compat.v1.train.Saver(write_version=2)"
)
Extents = tuple[tuple[int, int], ...]
_MOST_STRINGS = 1 << 20  # of one tensor
_MOST_PIECES = 1 << 16  # of one variable


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a variable lies.

    Attributes:
        dtype: TensorFlow's number of its type.
        shape: of the whole variable.
        shard: number of the data file.
        offset, size: its bytes there.
        crc: masked checksum of those bytes.
        slices: of a variable that was saved in pieces, (start, length) per dimension of each; length -1: all.
    """

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[Extents, ...] = ()


class Bundle:
    """An open checkpoint.

    Args:
        prefix: `model.ckpt`, without `.index`.

    Attributes:
        entries: what there is, in the order of the names.

    Raises:
        WeightsError: no index there, a damaged one, a compressed one, or a V1 checkpoint.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.index = prefix.with_name(f"{prefix.name}.index")
        table = _table(self.index, mapped(self.index))
        try:
            self._shards = _header(self.index, table.pop(b"", None))
            self._pieces = {key: _entry(value) for key, value in table.items() if key[:1] == b"\0"}
            self.entries = {_name(key): _entry(value) for key, value in table.items() if key[:1] != b"\0"}
        except Damaged as error:
            raise damaged(self.index, error) from error
        self._maps: dict[int, Buffer] = {}
        self._sizes: Counter[int] = Counter()  # bytes of all that lies in a shard
        self._ends: dict[int, int] = {}  # where the last of it ends
        for entry in (*self._pieces.values(), *self.entries.values()):
            self._sizes[entry.shard] += entry.size
            self._ends[entry.shard] = max(self._ends.get(entry.shard, 0), entry.offset + entry.size)

    def read(self, name: str) -> np.ndarray:
        """A variable, as a view of the file where that is possible; bfloat16 as float32.

        Raises:
            WeightsError: a type that we do not know, a missing or truncated data file, or a wrong checksum.
        """
        entry = self.entries[name]
        if entry.dtype not in wire.DTYPES:
            kind = wire.type_name(entry.dtype)
            raise WeightsError(f"{self.index}: variable {name!r} has the type {kind}; known are {wire.KNOWN_TYPES}")
        try:
            if entry.slices:
                return self._whole(name, entry)
            return wire.as_values(self._array(name, entry), entry.dtype)
        except Damaged as error:
            raise damaged(self.index, error) from error

    def strings(self, name: str) -> list[bytes]:
        """The elements of a tensor of strings. Raises `WeightsError`."""
        entry = self.entries[name]
        if entry.dtype != wire.STRING:
            raise damaged(self.index, f"variable {name!r} has the type {wire.type_name(entry.dtype)}, not string")
        content = self._bytes(name, entry)
        try:
            values, crc = _strings(content, math.prod(entry.shape))
        except Damaged as error:
            raise damaged(self._shard_path(entry.shard), error) from error
        self._check(name, entry, crc)
        return values

    def _whole(self, name: str, entry: Entry) -> np.ndarray:
        """A partitioned variable from its pieces."""
        pieces = self._pieces_of(name, entry)
        whole = np.zeros(entry.shape, wire.as_values(np.zeros(0, wire.DTYPES[entry.dtype]), entry.dtype).dtype)
        seen = np.zeros(entry.shape, bool)
        for extents, piece in pieces:
            place = tuple(
                slice(start, size if length < 0 else start + length)
                for (start, length), size in zip(extents, entry.shape, strict=True)
            )
            if piece.shape != whole[place].shape:
                raise Damaged(f"a piece of variable {name!r} has another shape")
            if seen[place].any():
                raise Damaged(f"the pieces of variable {name!r} overlap")
            seen[place] = True
            whole[place] = wire.as_values(self._array(name, piece), entry.dtype)
        return whole

    def _pieces_of(self, name: str, entry: Entry) -> list[tuple[Extents, Entry]]:
        """Extents and entries of the pieces, which have as many elements as the variable."""
        pieces, rest = [], math.prod(entry.shape)
        for extents in entry.slices:
            piece = self._pieces.get(piece_key(name, extents))
            if piece is None or piece.dtype != entry.dtype or len(extents) != len(entry.shape):
                raise Damaged(f"a piece of variable {name!r} is missing")
            rest -= math.prod(piece.shape)
            if rest < 0:
                raise Damaged(f"the pieces of variable {name!r} overlap")
            if math.prod(piece.shape) * wire.DTYPES[piece.dtype].itemsize != piece.size:
                raise Damaged(f"a piece of variable {name!r} of shape {piece.shape} has {piece.size} bytes")
            pieces.append((extents, piece))
        if rest:
            raise Damaged(f"the pieces of variable {name!r} do not make up all of it")
        return pieces

    def _array(self, name: str, entry: Entry) -> np.ndarray:
        dtype = wire.DTYPES[entry.dtype]
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise Damaged(f"variable {name!r} of shape {entry.shape} has {entry.size} bytes")
        content = self._bytes(name, entry)
        self._check(name, entry, crc32c(content))
        array = np.frombuffer(content, dtype).reshape(entry.shape)
        return array if array.flags.aligned else array.copy()

    def _bytes(self, name: str, entry: Entry) -> memoryview:
        path = self._shard_path(entry.shard)
        if entry.shard not in self._maps:
            if entry.shard >= self._shards:
                raise damaged(self.index, f"variable {name!r} is in shard {entry.shard} of {self._shards}")
            if not path.is_file():
                raise WeightsError(
                    f"{path}: missing, and {self.index.name} says that variable {name!r} is in it; put the file there"
                )
            self._maps[entry.shard] = mapped(path)
        data = memoryview(self._maps[entry.shard])
        if entry.offset + entry.size > len(data):
            check_no_stranger(path, data)
            raise WeightsError(
                f"{path}: truncated: it has {len(data)} bytes, and variable {name!r} ends at "
                f"{entry.offset + entry.size}; copy it again"
            )
        if self._sizes[entry.shard] > len(data):
            if self._ends[entry.shard] > len(data):
                message = f"it has {len(data)} bytes, and its variables end at {self._ends[entry.shard]}"
                raise WeightsError(f"{path}: truncated: {message}; copy it again")
            raise damaged(self.index, f"its variables have {self._sizes[entry.shard]} bytes, {path.name} {len(data)}")
        return data[entry.offset : entry.offset + entry.size]

    def _check(self, name: str, entry: Entry, crc: int) -> None:
        if masked_crc(crc) != entry.crc:
            path = self._shard_path(entry.shard)
            raise WeightsError(
                f"{path}: the checksum of variable {name!r} is wrong, so the file was damaged or belongs to another "
                "index; copy the checkpoint again, all its files"
            )

    def _shard_path(self, shard: int) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05}-of-{self._shards:05}")


# ---------------------------------------------------------------- the index


def _table(path: Path, data: Buffer) -> dict[bytes, bytes]:
    check_no_stranger(path, data)
    if not is_table(data):
        raise WeightsError(
            f"{path}: no index of a checkpoint, or cut short; copy it again, or give PREFIX.index of a TensorFlow "
            "checkpoint"
        )
    try:
        return read_table(data)
    except Compressed as error:
        raise WeightsError(
            f"{path}: is compressed with snappy, which is not read here; save the checkpoint again with TensorFlow 1.2 "
            "or later, which does not compress"
        ) from error
    except Damaged as error:
        raise damaged(path, error) from error


def _header(path: Path, content: bytes | None) -> int:
    """Number of data files, from BundleHeaderProto: num_shards = 1, endianness = 2."""
    if content is None:
        raise Damaged("its header is missing")
    shards = 1
    for part in message_parts(content, 0, len(content)):
        if part.number == 1:
            if part.wire == BYTES:  # SavedTensorSlices.meta
                raise WeightsError(f"{path}: {V1}")
            shards = integer(content, part)
        if part.number == 2 and integer(content, part):
            raise WeightsError(
                f"{path}: was written on a big-endian machine; save the checkpoint again on a little-endian one"
            )
    if not 0 < shards <= 99_999:
        raise Damaged(f"its header names {shards} data files")
    return shards


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Damaged(f"the name {key[:60]!r} is not text") from None


def _entry(content: bytes) -> Entry:
    """BundleEntryProto: dtype = 1, shape = 2, shard_id = 3, offset = 4, size = 5, crc32c = 6, slices = 7."""
    shape: tuple[int, ...] = ()
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    slices = []
    for part in message_parts(content, 0, len(content)):
        if part.number == 2:
            shape = wire.read_shape(content, part)
        elif part.number == 7:
            slices.append(tuple(_extents(content, part)))
            if len(slices) > _MOST_PIECES:
                raise Damaged(f"a variable in more than {_MOST_PIECES} pieces")
        elif part.number in numbers:
            numbers[part.number] = integer(content, part)
    if min(numbers.values()) < 0:
        raise Damaged("an entry with a negative number")
    dtype, shard, offset, size, crc = numbers.values()
    return Entry(dtype, shape, shard, offset, size, crc, tuple(slices))


def _extents(content: bytes, part: Part) -> Iterator[tuple[int, int]]:
    """TensorSliceProto: extent = 1 {start = 1, length = 2; without a length: the whole dimension}."""
    for dimension, extent in enumerate(parts_of(content, part), start=1):
        if dimension > wire.MOST_DIMENSIONS:
            raise Damaged(f"a piece with more than {wire.MOST_DIMENSIONS} dimensions")
        start, length = 0, -1
        for field in parts_of(content, extent):
            start = integer(content, field) if field.number == 1 else start
            length = integer(content, field) if field.number == 2 else length
        if start < 0 or length < -1:
            raise Damaged("a piece with a negative place")
        yield start, length


def piece_key(name: str, extents: Sequence[tuple[int, int]]) -> bytes:
    """The key of a piece of a variable, in the "ordered code" of tensorflow/core/util/saved_tensor_slice_util.cc."""
    escaped = name.encode().replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    key = b"\0" + escaped + b"\0\1" + _ordered_unsigned(len(extents))
    return key + b"".join(_ordered_signed(number) for extent in extents for number in extent)


def _ordered_unsigned(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _ordered_signed(value: int) -> bytes:
    """Seven bits of the number in each byte; the first bits count the bytes."""
    bits = (~value if value < 0 else value).bit_length()
    length = bits // 7 + 1
    header = ((1 << length) - 1) << 8 * length - length  # `length` ones from the left
    return (value % (1 << 8 * length) ^ header).to_bytes(length, "big")


# ---------------------------------------------------------------- strings


def _strings(content: memoryview, count: int) -> tuple[list[bytes], int]:
    """Elements and checksum of `count` varint lengths, 4 bytes of checksum of these, and the bytes of the elements.

    The checksum is over the lengths as uint32 (uint64 from 4 GB on), over the 4 bytes, and over the elements.
    """
    if count > min(len(content), _MOST_STRINGS):  # a length has at least one byte
        raise Damaged(f"a tensor of {count} strings in {len(content)} bytes")
    data, at, lengths = bytes(content), 0, []
    for _ in range(count):
        length, at = read_varint(data, at, len(data))
        lengths.append(length)
    if at + 4 + sum(lengths) != len(data):
        raise Damaged("a tensor of strings whose lengths do not fit")
    fixed = b"".join(n.to_bytes(4 if n < 1 << 32 else 8, "little") for n in lengths)
    crc = crc32c(data[at:], crc32c(fixed))
    at += 4
    values = []
    for length in lengths:
        values.append(data[at : at + length])
        at += length
    return values, crc
