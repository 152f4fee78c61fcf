"""CRC-32C (Castagnoli), which TensorFlow keeps of everything it writes, fast enough for whole checkpoints in numpy.

The register is linear over GF(2): a chunk is cut into lanes whose registers step side by side, and two neighbours merge
by moving the left one over as many zero bytes as the right one is long.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected
_LANES, _WORDS = 4096, 64  # of a chunk: 1 MiB, 256 bytes a lane
_CHUNK = 4 * _LANES * _WORDS
_FEW = 4096  # bytes below which a loop is faster

Bytes = bytes | bytearray | memoryview


def crc32c(data: Bytes, crc: int = 0) -> int:
    """The checksum of what `crc` is the checksum of, followed by `data`."""
    view = memoryview(data).cast("B")
    register = crc ^ 0xFFFFFFFF
    for start in range(0, len(view), _CHUNK):
        chunk = view[start : start + _CHUNK]
        if len(chunk) < _FEW:
            table = _byte_table()
            for byte in chunk:
                register = table[(register ^ byte) & 0xFF] ^ register >> 8
        else:
            register = _moved(register, len(chunk)) ^ _of_chunk(chunk)
    return register ^ 0xFFFFFFFF


def masked_crc(crc: int) -> int:
    """As TFRecords and checkpoints store it, so that the checksum of data with a checksum inside stays a good one."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _of_chunk(chunk: memoryview) -> int:
    """What a register of 0 becomes over at most `_CHUNK` bytes."""
    lanes = 1 << max(0, (len(chunk) - 1) // (4 * _WORDS)).bit_length()
    padded = np.zeros(lanes * _WORDS * 4, np.uint8)
    padded[len(padded) - len(chunk) :] = np.frombuffer(chunk, np.uint8)  # zeros in front leave a register of 0 alone
    words = np.ascontiguousarray(padded.view("<u4").reshape(lanes, _WORDS).T)
    low, high = _word_tables()
    registers = np.zeros(lanes, np.uint32)
    for word in words:
        registers ^= word
        registers = low[registers & 0xFFFF] ^ high[registers >> 16]
    length = 4 * _WORDS
    while len(registers) > 1:
        registers = _apply(_over_zeros(length.bit_length() - 1), registers[0::2]) ^ registers[1::2]
        length *= 2
    return int(registers[0])


def _moved(register: int, length: int) -> int:
    """What a register becomes over `length` zero bytes."""
    value = np.array([register], np.uint32)
    for power in range(length.bit_length()):
        if length >> power & 1:
            value = _apply(_over_zeros(power), value)
    return int(value[0])


def _apply(columns: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """(N,) registers through a linear map that is given by what becomes of each bit, (32,)."""
    bits = registers[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)  # (N, 32)
    return np.bitwise_xor.reduce(bits * columns, axis=1)


@cache
def _over_zeros(power: int) -> np.ndarray:
    """(32,) what becomes of each bit of a register over 2**power zero bytes."""
    if power == 0:
        return np.array([_byte_table()[1 << bit & 0xFF] ^ 1 << bit >> 8 for bit in range(32)], np.uint32)
    half = _over_zeros(power - 1)
    return _apply(half, half)


@cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


@cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """(65536,) each: the lower and the upper half of a register over four zero bytes."""
    columns = _over_zeros(2)
    tables = []
    for half in (columns[:16], columns[16:]):
        table = np.zeros(1, np.uint32)
        for column in half:
            table = np.concatenate([table, table ^ column])
        tables.append(table)
    return tables[0], tables[1]
