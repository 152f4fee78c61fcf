"""Members of a tar file: name, and where the bytes lie. Headers are read, nothing else; hostile ones are `DamagedTar`.

Python's `tarfile` reads extension headers of any length into memory and keeps every member.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
_LONGEST_NAME = 1 << 16  # bytes of a header that holds a long name
_EMPTY = bytes(BLOCK)
_REGULAR, _PAX, _LONG_NAME, _LONG_LINK, _NO_CONTENT = b"0\07", b"x", b"L", b"gK", b"123456"


class DamagedTar(ValueError):
    """The file cannot be read from here on."""


class Member(NamedTuple):
    """A regular file inside the archive."""

    name: str
    start: int
    length: int


def is_tar(head: bytes) -> bool:
    """Whether these first 512 bytes are a member's header."""
    return len(head) == BLOCK and _checksum_fits(head)


def tar_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    """Regular members of a file of `size` bytes, in order. Raises `DamagedTar` and `OSError`."""
    at, name, stated = 0, "", None
    while at + BLOCK <= size:
        stream.seek(at)
        head = stream.read(BLOCK)
        if head == _EMPTY:
            return
        if len(head) < BLOCK or not _checksum_fits(head):
            raise DamagedTar(f"no member begins at byte {at}")
        kind, start = head[156:157], at + BLOCK
        length = _number(head[124:136]) if stated is None else stated
        if kind in _NO_CONTENT:
            length = 0
        at = start + -(-length // BLOCK) * BLOCK
        if start + length > size:
            raise DamagedTar(f"a member at byte {start} is longer than the file")
        if kind == _PAX:
            name, stated = _pax(_content(stream, length), name)
        elif kind == _LONG_NAME:
            name = _text(_content(stream, length))
        elif kind not in _LONG_LINK:
            if kind in _REGULAR:
                yield Member(name or _name(head), start, length)
            elif kind == b"S":
                raise DamagedTar("a sparse member")
            name, stated = "", None


def _content(stream: BinaryIO, length: int) -> bytes:
    if length > _LONGEST_NAME:
        raise DamagedTar(f"a header of {length} bytes")
    return stream.read(length)


def _checksum_fits(head: bytes) -> bool:
    try:
        return _number(head[148:156]) == sum(head) - sum(head[148:156]) + 8 * ord(" ")
    except DamagedTar:
        return False


def _number(digits: bytes) -> int:
    if digits[0] == 0x80:  # base 256, for members beyond 8 GB
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0")[0].strip() or b"0"
    if not text.isdigit() or max(text) > ord("7"):
        raise DamagedTar(f"{digits!r} is no octal number")
    return int(text, 8)


def _name(head: bytes) -> str:
    prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(head[:100])}" if prefix else _text(head[:100])


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(data: bytes, name: str) -> tuple[str, int | None]:
    """`path` and `size` of records like "25 path=long name\\n"."""
    size, at = None, 0
    while at < len(data) and data[at]:
        digits, _, _ = data[at : at + 10].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        if length < len(digits) + 3 or at + length > len(data):
            raise DamagedTar("a broken extension header")
        key, _, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise DamagedTar(f"a member of size {value[:20]!r}")
            size = int(value)
        elif key.startswith(b"GNU.sparse"):
            raise DamagedTar("a sparse member")
        at += length
    return name, size
