"""The leveldb table that a checkpoint's index is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskrcnn.data.formats.example import Damaged, varint_bytes
from maskrcnn.weights.tensorflow import table
from maskrcnn.weights.tensorflow.table import Compressed, read_table, table_bytes


@pytest.mark.parametrize("name", ["tf1/model.ckpt-7.index", "object/ckpt-1.index"])
def test_is_written_as_tensorflow_writes_it(written, name):
    file = (written / name).read_bytes()
    entries = read_table(file)
    assert list(entries) == sorted(entries)
    assert table_bytes(entries.items()) == file


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=40)))
def test_round_trip(entries):
    assert read_table(table_bytes(sorted(entries.items()))) == entries


def test_many_entries_are_several_blocks(monkeypatch):
    monkeypatch.setattr(table, "_BLOCK", 500)
    entries = {f"layer_{number:04}/weights".encode(): b"value" * (number % 9) for number in range(300)}
    file = table_bytes(entries.items())
    assert read_table(file) == entries
    monkeypatch.undo()
    assert len(file) > len(table_bytes(entries.items())) + 500


def test_no_entries():
    assert read_table(table_bytes([])) == {}


def test_damage():
    file = table_bytes([(b"a", b"1"), (b"b", b"2")])
    for wrong, message in [
        (b"", "magic"),
        (file[:-1], "magic"),
        (b"x" + file[1:], "checksum of a block"),
        (file[:-48] + (bytes(2) + varint_bytes(1 << 40) + b"\x05").ljust(40, b"\0") + file[-8:], "out of the file"),
        (file[:-48] + b"\xff" * 40 + file[-8:], "without an end"),
        (table_bytes([(b"b", b"1"), (b"a", b"2")]), "out of order"),
        (table_bytes([(b"k" * 5000, b"")]), "out of its block"),
    ]:
        with pytest.raises(Damaged, match=message):
            read_table(wrong)


def test_compressed_block(monkeypatch):
    monkeypatch.setattr(table, "_holds", lambda content, check: True)
    file = bytearray(table_bytes([(b"a", b"1")]))
    block = varint_bytes(0) + varint_bytes(1) + varint_bytes(1) + b"a1"
    assert file.startswith(block)
    file[len(block) + 8] = 1  # behind one restart and the count
    with pytest.raises(Compressed):
        read_table(bytes(file))


def test_keys_that_grow_are_bounded(monkeypatch):
    monkeypatch.setattr(table, "_MOST_CONTENT", 10_000)
    keys = [(b"k" * 200 + number.to_bytes(2, "big"), b"") for number in range(100)]
    assert len(table_bytes(keys)) < 3000  # they share their beginnings
    with pytest.raises(Damaged, match="keys and values"):
        read_table(table_bytes(keys))


def test_a_block_that_is_named_again_and_again_is_not_read_so_often(monkeypatch):
    file = bytearray()
    handle = table._append(file, bytes(4000) + (1000).to_bytes(4, "little"))  # restarts and their number
    names = [(b"%03d" % number, handle) for number in range(500)]
    handles = table._append(file, table._block_bytes([])) + table._append(file, table._block_bytes(names, restart=1))
    file += handles.ljust(table.FOOTER - len(table.MAGIC), b"\0") + table.MAGIC
    reads = []
    monkeypatch.setattr(table, "_holds", lambda content, check: reads.append(1) or True)
    with pytest.raises(Damaged, match="its blocks are larger than the file"):
        read_table(bytes(file))
    assert len(reads) < 10


def test_entries_are_bounded(monkeypatch):
    monkeypatch.setattr(table, "_MOST_ENTRIES", 3)
    entries = [(bytes([number]), b"") for number in range(4)]
    assert len(read_table(table_bytes(entries[:3]))) == 3
    with pytest.raises(Damaged, match="more than 3 entries"):
        read_table(table_bytes(entries))


@given(st.data())
def test_any_bytes_are_damage_or_a_table(data):
    """Also behind a checksum that is right."""
    file = bytearray(table_bytes([(b"", b"head"), (b"weights", b"1"), (b"weights/read", b"2"), (b"x", b"3")]))
    for place in data.draw(st.lists(st.integers(0, len(file) - 9), min_size=1, max_size=6)):
        file[place] = data.draw(st.integers(0, 255))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_holds", lambda content, check: True)
        try:
            entries = read_table(bytes(file))
        except Damaged:
            return
    assert sum(len(key) + len(value) for key, value in entries.items()) < 4096 * len(file)
