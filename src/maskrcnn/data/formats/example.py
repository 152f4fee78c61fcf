"""The wire format of `tf.train.Example`, by hand: bytes -> where each feature's values lie, and back.

Nothing is copied before it is asked for: a feature knows the offsets of its values in the buffer. Every length is held
against the end of what surrounds it; what does not fit is `Damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from typing import NamedTuple

import numpy as np

MOST_FEATURES = 10_000  # of one record
MOST_VALUES = 1 << 20  # of one feature, masks of floats aside
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_KINDS = {1: "bytes", 2: "float", 3: "int64"}
_FIELDS = {kind: number for number, kind in _KINDS.items()}

Buffer = bytes | mmap


class Damaged(ValueError):
    """These bytes are not a `tf.train.Example`."""


class Part(NamedTuple):
    """One field of a message: its number, its wire type, and the bytes [start, stop) of its value."""

    number: int
    wire: int
    start: int
    stop: int


@dataclass(slots=True)
class Feature:
    """The values of one key, still in the buffer.

    Attributes:
        kind: "bytes", "float" or "int64"; "" for an empty feature.
        lists: (start, stop) of each list message; the values are those of all of them.
    """

    buffer: Buffer
    kind: str = ""
    lists: list[tuple[int, int]] = field(default_factory=list)

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of each byte string; [] for another kind. Raises `Damaged`."""
        if self.kind != "bytes":
            return []
        found = []
        for part in self._values():
            if part.wire != BYTES:
                raise Damaged("a byte string of another wire type")
            found.append((part.start, part.stop))
            if len(found) > MOST_VALUES:
                raise Damaged(f"more than {MOST_VALUES} values")
        return found

    def strings(self) -> list[str]:
        """The byte strings as text; [] for another kind. Raises `Damaged`."""
        return [bytes(self.buffer[start:stop]).decode("utf-8", "replace") for start, stop in self.spans()]

    def packed_floats(self) -> tuple[int, int] | None:
        """(start, stop) of little-endian float32 that lie in one run; None where they do not. Raises `Damaged`."""
        parts = list(self._values()) if self.kind == "float" else []
        return (parts[0].start, parts[0].stop) if len(parts) == 1 and parts[0].wire == BYTES else None

    def floats(self) -> np.ndarray:
        """(N,) float32, packed or one by one; integers too. Raises `Damaged`."""
        if self.kind == "int64":
            return self.ints().astype(np.float32)
        parts = []
        for part in self._values() if self.kind == "float" else ():
            if part.wire not in (BYTES, FIXED32) or (part.stop - part.start) % 4:
                raise Damaged("floats of another wire type")
            parts.append(bytes(self.buffer[part.start : part.stop]))
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)

    def ints(self) -> np.ndarray:
        """(N,) int64, packed or one by one; whole floats too. Raises `Damaged`."""
        if self.kind == "float":
            values = self.floats()
            if not (np.abs(values) < 2**31).all() or (values != np.floor(values)).any():  # NaN fails too
                raise Damaged("fractions where integers belong")
            return values.astype(np.int64)
        parts = []
        for part in self._values() if self.kind == "int64" else ():
            if part.wire not in (BYTES, VARINT):
                raise Damaged("integers of another wire type")
            parts.append(bytes(self.buffer[part.start : part.stop]))
        return read_varints(b"".join(parts))

    def _values(self) -> Iterator[Part]:
        for start, stop in self.lists:
            yield from (part for part in message_parts(self.buffer, start, stop) if part.number == 1)


def parse_example(buffer: Buffer, start: int, stop: int) -> dict[str, Feature]:
    """The features of the message in [start, stop), by key. Raises `Damaged`."""
    features: dict[str, Feature] = {}
    for outer in _messages(buffer, start, stop, 1):
        for entry in _messages(buffer, outer.start, outer.stop, 1):
            key, feature = _entry(buffer, entry)
            features[key] = feature
            if len(features) > MOST_FEATURES:
                raise Damaged(f"more than {MOST_FEATURES} features")
    return features


def _entry(buffer: Buffer, entry: Part) -> tuple[str, Feature]:
    key, feature = "", Feature(buffer)
    for part in message_parts(buffer, entry.start, entry.stop):
        if part.wire != BYTES:
            continue
        if part.number == 1:
            if part.stop - part.start > 1000:
                raise Damaged("a key of more than 1000 bytes")
            key = bytes(buffer[part.start : part.stop]).decode("utf-8", "replace")
        elif part.number == 2:
            for values in message_parts(buffer, part.start, part.stop):
                kind = _KINDS.get(values.number, "") if values.wire == BYTES else ""
                if not kind:
                    continue
                if kind != feature.kind:  # of several kinds the last one counts, as in protobuf
                    feature.kind, feature.lists = kind, []
                feature.lists.append((values.start, values.stop))
    return key, feature


def _messages(buffer: Buffer, start: int, stop: int, number: int) -> Iterator[Part]:
    for part in message_parts(buffer, start, stop):
        if part.number == number:
            if part.wire != BYTES:
                raise Damaged("not a tf.train.Example")
            yield part


def message_parts(buffer: Buffer, start: int, stop: int) -> Iterator[Part]:
    at = start
    while at < stop:
        tag = buffer[at]
        if tag < 0x80:  # most are of one byte
            at += 1
        else:
            tag, at = read_varint(buffer, at, stop)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise Damaged("a field without a number")
        first = at
        if wire == VARINT:
            _, end = read_varint(buffer, at, stop)
        elif wire == BYTES:
            length, first = read_varint(buffer, at, stop)
            end = first + length
        elif wire in (FIXED64, FIXED32):
            end = at + (8 if wire == FIXED64 else 4)
        else:
            raise Damaged(f"wire type {wire}")
        if end > stop:
            raise Damaged("a value that is longer than its message")
        yield Part(number, wire, first, end)
        at = end


def read_varint(buffer: Buffer, at: int, stop: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte is."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Damaged("a number without an end")


def read_varints(data: bytes) -> np.ndarray:
    """(N,) int64 of a run of varints."""
    code = np.frombuffer(data, np.uint8)
    if data.isascii():  # one byte each
        return code.astype(np.int64)
    last = code < 0x80
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(len(code)) - np.repeat(starts, np.diff([*starts, len(code)]))
    if not last[-1] or place.max() > 9:
        raise Damaged("a number without an end")
    bits = (code & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.add.reduceat(bits, starts).view(np.int64)


# ---------------------------------------------------------------- writing


def feature_bytes(key: str, values: Sequence[bytes] | np.ndarray) -> bytes:
    """One entry of the map: byte strings, or an array whose kind decides between floats and integers."""
    kind, payload = _payload(values)
    return feature_head(key, kind, len(payload)) + payload


def feature_head(key: str, kind: str, length: int) -> bytes:
    """What stands before the `length` bytes of a list's content: the rest may then be written piece by piece."""
    name = _delimited(1, len(key.encode())) + key.encode()
    values = _delimited(_FIELDS[kind], length)
    value = _delimited(2, len(values) + length) + values
    return _delimited(1, len(name) + len(value) + length) + name + value


def floats_head(count: int) -> bytes:
    """What stands before `count` packed float32 inside a list."""
    return _delimited(1, 4 * count)


def example_head(length: int) -> bytes:
    """What stands before all features of an example, `length` bytes."""
    return _delimited(1, length)


def example_bytes(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
    """A whole `tf.train.Example`."""
    body = b"".join(feature_bytes(key, values) for key, values in features.items())
    return example_head(len(body)) + body


def _payload(values: Sequence[bytes] | np.ndarray) -> tuple[str, bytes]:
    if not isinstance(values, np.ndarray):
        return "bytes", b"".join(_delimited(1, len(value)) + value for value in values)
    if values.dtype.kind == "f":
        return "float", floats_head(values.size) + values.astype("<f4").tobytes()
    packed = b"".join(varint_bytes(int(value) & (1 << 64) - 1) for value in values)
    return "int64", _delimited(1, len(packed)) + packed


def _delimited(number: int, length: int) -> bytes:
    return bytes([number << 3 | BYTES]) + varint_bytes(length)


def varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
