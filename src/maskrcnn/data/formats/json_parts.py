"""A large JSON object without holding all of it: its long lists come in pieces, and only a piece at a time is Python.

Half a gigabyte of annotations makes four gigabytes of Python objects; in pieces it makes a few megabytes. What is not
written as everybody writes it (another encoding, NaN, a key twice) is for `load_json`, which knows all of JSON.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

PIECE = 4 << 20
"""Bytes of a list that are parsed together."""

_KEY = re.compile(rb'[\s,]*"((?:[^"\\]++|\\.)*+)"\s*:\s*')
_BETWEEN = re.compile(rb"\}(\s*,\s*)(?=\{)")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]')  # a string without an end is one token too: looked at once
_GAP = re.compile(rb"[\s,]*")


class NotInParts(ValueError):
    """The file has to be read as a whole."""


def json_parts(file: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) of the top-level object in order. A list comes as several lists under the same key.

    Raises:
        NotInParts: read it with `load_json`, which also says what is wrong with it. Pairs may have come before.
    """
    with _mapped(file) as data:
        yield from _pairs(data)


def list_parts(file: Path) -> Iterator[list[Any]]:
    """The elements of a file that is one list, in pieces.

    Raises:
        NotInParts: the file is no list, or not as everybody writes it. Pieces may have come before.
    """
    with _mapped(file) as data:
        place = _GAP.match(data).end()  # type: ignore[union-attr]
        if data[place : place + 1] != b"[":
            raise NotInParts
        place, closed = place + 1, False
        while not closed:
            piece, place, closed = _piece(data, place)
            yield piece
        if data[place:].strip():
            raise NotInParts


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    """The bytes of the file, read from the disk as they are needed. Raises `NotInParts` for an empty one."""
    with file.open("rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise NotInParts from error
        with data:
            yield data


def _pairs(data: mmap.mmap) -> Iterator[tuple[str, Any]]:
    start = _GAP.match(data).end()  # type: ignore[union-attr]
    if data[start : start + 1] != b"{":
        raise NotInParts
    place, seen = start + 1, set()
    while key := _KEY.match(data, place):
        name, place = _parse(b'"' + key[1] + b'"'), key.end()
        if name in seen:
            raise NotInParts
        seen.add(name)
        if data[place : place + 1] == b"[":
            place += 1
            yield name, []
            while True:
                piece, place, closed = _piece(data, place)
                yield name, piece
                if closed:
                    break
        else:
            stop, _ = _walk(data, place, len(data))
            yield name, _parse(data[place:stop])
            place = stop
    if data[place:].strip() != b"}":
        raise NotInParts


def _piece(data: mmap.mmap, place: int) -> tuple[list[Any], int, bool]:
    """Elements of a list from `place` on, where the next one starts, and whether the list is at its end."""
    # A brace, a comma and a brace nearly always part two elements. Where they do not (deeper inside, in a string, or
    # beyond the list), what lies before them is no valid JSON.
    if between := _BETWEEN.search(data, place + PIECE):
        try:
            return orjson.loads(b"[%b]" % data[place : between.start() + 1]), between.end(), False
        except orjson.JSONDecodeError:
            pass
    stop, closed = _walk(data, place, place + PIECE)
    return _parse(b"[%b]" % data[place:stop]), stop + 1, closed


def _walk(data: mmap.mmap, place: int, enough: int) -> tuple[int, bool]:
    """The end of the first value that ends beyond `enough`, or of what encloses it; whether it was the latter."""
    depth = 0
    for token in _TOKEN.finditer(data, place):
        sign = token[0]
        if sign in (b"[", b"{"):
            depth += 1
        elif sign in (b"]", b"}"):
            depth -= 1
            if depth < 0:
                return token.start(), True
        elif sign == b"," and depth == 0 and (token.start() >= enough or enough == len(data)):
            return token.start(), False
    raise NotInParts


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotInParts from error
