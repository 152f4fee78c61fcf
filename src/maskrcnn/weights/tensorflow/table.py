"""A leveldb table, the form of a checkpoint's index: sorted keys in blocks, each block with a checksum.

    block   = entries, restart offsets (uint32 each), their count (uint32)
    entry   = varint shared, varint unshared, varint value length, the key's unshared rest, the value
    on disk = block, compression (1 byte: 0 none, 1 snappy), masked crc32c of both (uint32)
    file    = data blocks, metaindex block, index block (last key of a block -> its handle), footer of 48 bytes

Source: leveldb's doc/table_format.md; TensorFlow's tensorflow/core/lib/io/table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.data.formats.example import Buffer, Damaged, read_varint, varint_bytes

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
_MOST_KEY = 4096  # bytes
_MOST_CONTENT = 256 << 20  # bytes of all keys and values: keys share beginnings, so a small file may hold long ones
_MOST_ENTRIES = 1 << 20
_TRAILER = 5  # bytes behind a block: compression and checksum
_BLOCK = 256 << 10  # bytes at which a written block is closed, as TensorFlow does
_RESTART = 16  # entries between two keys that are written whole


class Compressed(Damaged):
    """A block is compressed with snappy."""


def is_table(data: Buffer) -> bool:
    """Whether the footer's magic number is there."""
    return len(data) >= FOOTER and data[len(data) - 8 :] == MAGIC


def read_table(data: Buffer) -> dict[bytes, bytes]:
    """All entries, keys rising.

    Args:
        data: the whole file.

    Raises:
        Compressed: a block is compressed.
        Damaged: no table, a wrong checksum, keys out of order, or anything that leads out of the file.
    """
    if not is_table(data):
        raise Damaged("the magic number at its end is missing")
    footer = len(data) - FOOTER
    at = _skip_handle(data, footer, len(data) - 8)
    index = _block(data, *_handle(data, at, len(data) - 8), footer)
    entries: dict[bytes, bytes] = {}
    last, content, blocks = None, 0, 0
    for _, handle in _entries(index):
        offset, length = _handle(handle, 0, len(handle))
        blocks += length + _TRAILER
        if blocks > footer:
            raise Damaged("its blocks are larger than the file")
        for key, value in _entries(_block(data, offset, length, footer)):
            if last is not None and key <= last:
                raise Damaged("its keys are out of order")
            last, content = key, content + len(key) + len(value)
            if len(entries) >= _MOST_ENTRIES:
                raise Damaged(f"more than {_MOST_ENTRIES} entries")
            if content > _MOST_CONTENT:
                raise Damaged(f"its keys and values have more than {_MOST_CONTENT >> 20} MB")
            entries[key] = value
    return entries


def _handle(data: Buffer, at: int, stop: int) -> tuple[int, int]:
    """Offset and length of a block."""
    offset, at = read_varint(data, at, stop)
    return offset, read_varint(data, at, stop)[0]


def _skip_handle(data: Buffer, at: int, stop: int) -> int:
    _, at = read_varint(data, at, stop)
    return read_varint(data, at, stop)[1]


def _block(data: Buffer, offset: int, length: int, stop: int) -> bytes:
    """The content of a block, its checksum held."""
    if offset + length + _TRAILER > stop:
        raise Damaged("a block that leads out of the file")
    content = bytes(data[offset : offset + length + 1])
    check = int.from_bytes(data[offset + length + 1 : offset + length + _TRAILER], "little")
    if not _holds(content, check):
        raise Damaged("the checksum of a block is wrong")
    if content[-1]:
        raise Compressed("a block is compressed")
    return content[:-1]


def _holds(content: bytes, check: int) -> bool:
    return masked_crc(crc32c(content)) == check


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values, in order."""
    restarts = int.from_bytes(block[-4:], "little")
    stop = len(block) - 4 - 4 * restarts
    if len(block) < 4 or stop < 0:
        raise Damaged("a block that is shorter than its own index")
    at, key = 0, b""
    while at < stop:
        shared, at = read_varint(block, at, stop)
        unshared, at = read_varint(block, at, stop)
        length, at = read_varint(block, at, stop)
        if shared > len(key) or shared + unshared > _MOST_KEY or at + unshared + length > stop:
            raise Damaged("an entry that leads out of its block")
        key = key[:shared] + block[at : at + unshared]
        at += unshared + length
        yield key, block[at - length : at]


# ---------------------------------------------------------------- writing


def table_bytes(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole file, uncompressed.

    Args:
        entries: keys and values, keys rising.
    """
    file = bytearray()
    index: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in entries:
        waiting.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK:
            index.append((key, _append(file, _block_bytes(waiting))))
            waiting, size = [], 0
    if waiting or not index:
        last = waiting[-1][0] if waiting else b""
        index.append((_short_successor(last), _append(file, _block_bytes(waiting))))
    metaindex = _append(file, _block_bytes([]))
    handles = metaindex + _append(file, _block_bytes(index, restart=1))
    return bytes(file + handles.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC)


def _short_successor(key: bytes) -> bytes:
    """A short key that is not less than `key`: TensorFlow closes the index with it, and so our bytes are the same."""
    place = next((i for i, byte in enumerate(key) if byte != 0xFF), None)
    return key if place is None else key[:place] + bytes([key[place] + 1])


def _append(file: bytearray, block: bytes) -> bytes:
    """Add a block to a file; its handle."""
    handle = varint_bytes(len(file)) + varint_bytes(len(block))
    content = block + b"\0"  # not compressed
    file += content + struct.pack("<I", masked_crc(crc32c(content)))
    return handle


def _block_bytes(entries: list[tuple[bytes, bytes]], restart: int = _RESTART) -> bytes:
    block = bytearray()
    restarts = [0]
    last = b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart:
            most = min(len(key), len(last))
            shared = next((i for i in range(most) if key[i] != last[i]), most)
        elif number:
            restarts.append(len(block))
        block += varint_bytes(shared) + varint_bytes(len(key) - shared) + varint_bytes(len(value))
        block += key[shared:] + value
        last = key
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
