"""Checkpoints in the V2 form: every type, several data files, pieces, and what is wrong with damaged ones."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow import bundle as bundle_module
from maskrcnn.weights.tensorflow import table
from maskrcnn.weights.tensorflow.bundle import Bundle, piece_key
from maskrcnn.weights.tensorflow.table import read_table, table_bytes
from maskrcnn.weights.tensorflow.wire import delimited, fixed32_field, shape_message, varint_field
from maskrcnn.weights.tensorflow.write import write_checkpoint
from tests.weights.tensorflow.messages import edit_index

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def entry(shape=(2,), *, dtype=1, shard=0, offset=0, size=8, crc=0, rest=b"") -> bytes:
    body = varint_field(1, dtype) + delimited(2, shape_message(shape)) + varint_field(3, shard)
    return body + varint_field(4, offset) + varint_field(5, size) + fixed32_field(6, crc) + rest


@pytest.fixture
def small(tmp_path):
    """A checkpoint with w = 1, 2 and the scalar step = 3."""
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, {"w": np.array([1, 2], np.float32), "step": np.array(3, np.int64)})
    return prefix


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bool", *INTEGERS])
def test_types_of_tensorflow(written, kind):
    array = Bundle(written / "tf1" / "model.ckpt-7").read(f"type/{kind}")
    assert array.dtype == np.dtype(kind)
    assert array.tolist() == (np.arange(6).reshape(3, 2) % (2 if kind == "bool" else 7)).tolist()


def test_bfloat16_is_float32(written):
    array = Bundle(written / "tf1" / "model.ckpt-7").read("type/bfloat16")
    assert array.dtype == np.float32
    assert array.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_strings_scalars_and_nothing(written):
    bundle = Bundle(written / "tf1" / "model.ckpt-7")
    assert bundle.strings("strings") == [b"a", b"", "länger".encode()]
    assert bundle.read("scalar").shape == ()
    assert bundle.read("empty").shape == (0, 3)


def test_a_variable_in_pieces(written):
    bundle = Bundle(written / "tf1" / "model.ckpt-7")
    assert len(bundle.entries["cut"].slices) == 3
    assert np.array_equal(bundle.read("cut"), np.arange(600, dtype=np.float32).reshape(200, 3))
    assert not [name for name in bundle.entries if "\0" in name]


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, "80"), (63, "bf"), (-1, "7f"), (-64, "40"), (64, "c040"), (8191, "dfff"), (8192, "e02000"), (-65, "3fbf")],
)
def test_numbers_in_the_keys_of_pieces(number, code):
    assert piece_key("a", [(number, -1)]) == b"\0a\0\1\1\1" + bytes.fromhex(code) + b"\x7f"


def test_missing_pieces(written, tmp_path):
    for file in (written / "tf1").iterdir():
        shutil.copy(file, tmp_path)
    index = tmp_path / "model.ckpt-7.index"
    entries = read_table(index.read_bytes())
    last = [key for key in entries if key.startswith(b"\0")][-1]
    index.write_bytes(table_bytes([(key, value) for key, value in entries.items() if key != last]))
    with pytest.raises(WeightsError, match=r"model\.ckpt-7\.index: damaged \(a piece of variable 'cut' is missing\)"):
        Bundle(tmp_path / "model.ckpt-7").read("cut")


def in_pieces(prefix, shape, extents, values=(1, 2)):
    """A checkpoint with a variable "w" of this shape in pieces; each holds the same values."""
    data = np.array(values, np.float32).tobytes()
    entries, slices = {b"": varint_field(1, 1)}, b""
    for number, (start, length) in enumerate(extents):
        slices += delimited(7, delimited(1, varint_field(1, start) + varint_field(2, length)))
        crc, offset = masked_crc(crc32c(data)), number * len(data)
        entries[piece_key("w", [(start, length)])] = entry((length,), offset=offset, size=len(data), crc=crc)
    entries[b"w"] = entry(shape, size=0, rest=slices)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table_bytes(sorted(entries.items())))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data * len(extents))


def test_pieces_that_overlap_or_repeat_are_refused(tmp_path):
    prefix = tmp_path / "model.ckpt"
    in_pieces(prefix, (4,), [(2, 2), (0, 2)])
    assert Bundle(prefix).read("w").tolist() == [1, 2, 1, 2]
    for shape, extents, message in [
        ((4,), [(0, 2), (1, 2)], "overlap"),
        ((4,), [(0, 2), (0, 2)], "overlap"),
        ((2,), [(0, 2)] * 1000, "overlap"),
        ((6,), [(0, 2), (4, 2)], "do not make up all of it"),
        ((1 << 40,), [(0, 2)], "do not make up all of it"),
        ((3,), [(0, 2), (2, 2)], "overlap"),
        ((4,), [(0, 2), (3, 2)], "a piece of variable 'w' has another shape"),
    ]:
        in_pieces(prefix, shape, extents)
        with pytest.raises(WeightsError, match=rf"model\.ckpt\.index: damaged \(.*{message}"):
            Bundle(prefix).read("w")


def test_variables_that_share_their_bytes_are_refused(small, monkeypatch):
    monkeypatch.setattr(bundle_module, "crc32c", pytest.fail)  # nothing is read
    index = small.with_name("model.ckpt.index")
    edit_index(index, v=entry(offset=8))
    with pytest.raises(WeightsError, match=r"damaged \(its variables have 24 bytes, model\.ckpt\.data-.* 16\)"):
        Bundle(small).read("w")
    edit_index(index, v=entry(offset=8), x=entry(offset=1000))
    with pytest.raises(WeightsError, match="truncated: it has 16 bytes, and its variables end at 1008; copy it again"):
        Bundle(small).read("w")


def test_only_strings_are_read_as_strings(small):
    with pytest.raises(WeightsError, match="variable 'w' has the type float32, not string"):
        Bundle(small).strings("w")


def test_arrays_may_be_written_to_and_the_file_stays(small):
    before = small.with_name("model.ckpt.data-00000-of-00001").read_bytes()
    array = Bundle(small).read("w")
    assert array.flags.aligned
    array += 1
    assert small.with_name("model.ckpt.data-00000-of-00001").read_bytes() == before


def test_several_data_files(small):
    values = np.array([5, 6], np.float32)
    small.with_name("model.ckpt.data-00000-of-00001").rename(small.with_name("model.ckpt.data-00000-of-00002"))
    second = small.with_name("model.ckpt.data-00001-of-00002")
    second.write_bytes(b"...." + values.tobytes())
    index = small.with_name("model.ckpt.index")
    crc = masked_crc(crc32c(values.tobytes()))
    edit_index(index, header=varint_field(1, 2), more=entry(shard=1, offset=4, crc=crc))
    bundle = Bundle(small)
    assert bundle.read("more").tolist() == [5, 6]
    assert bundle.read("w").tolist() == [1, 2]
    second.unlink()
    assert Bundle(small).read("w").tolist() == [1, 2]  # nobody asked for the other
    with pytest.raises(
        WeightsError, match=r"data-00001-of-00002: missing, and model.ckpt.index says that variable 'more'"
    ):
        Bundle(small).read("more")


def test_truncated_data(small):
    data = small.with_name("model.ckpt.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(
        WeightsError, match=r"00001: truncated: it has 13 bytes, and variable 'w' ends at 16; copy it again$"
    ):
        Bundle(small).read("w")
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"[:10])
    with pytest.raises(WeightsError, match="truncated: it has 10 bytes"):
        Bundle(small).read("w")


def test_a_pointer_instead_of_data(small):
    edit_index(small.with_name("model.ckpt.index"), w=entry(offset=1000))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
    small.with_name("model.ckpt.data-00000-of-00001").write_bytes(pointer)
    with pytest.raises(WeightsError, match=r"is a Git LFS pointer, not weights; fetch the file with git lfs pull$"):
        Bundle(small).read("w")


def test_changed_data(small):
    data = small.with_name("model.ckpt.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    assert Bundle(small).read("step") == 3
    with pytest.raises(WeightsError, match=r"the checksum of variable 'w' is wrong.*copy the checkpoint again"):
        Bundle(small).read("w")


def test_changed_strings(written, tmp_path):
    for file in (written / "tf1").iterdir():
        content = file.read_bytes().replace("länger".encode(), "kürzer".encode())
        (tmp_path / file.name).write_bytes(content)
    with pytest.raises(WeightsError, match="the checksum of variable 'strings' is wrong"):
        Bundle(tmp_path / "model.ckpt-7").strings("strings")


def test_wrong_entries(small):
    index = small.with_name("model.ckpt.index")
    for content, message in [
        (entry(dtype=21), r"variable 'w' has the type variant; known are float16, float32"),
        (entry(dtype=99), r"variable 'w' has the type type 99; known"),
        (entry(size=9), r"damaged \(variable 'w' of shape \(2,\) has 9 bytes\)"),
        (entry(shard=4), r"damaged \(variable 'w' is in shard 4 of 1\)"),
        (entry((1 << 40, 1 << 40)), r"damaged \(a tensor of shape"),
        (entry((1,) * 40), r"damaged \(a tensor of shape"),
        (entry((-1,)), r"damaged \(a tensor of shape \(-1,\)\)"),
        (entry(rest=varint_field(5, -1)), "negative"),
        (b"\xff", "damaged"),
        (entry((1 << 40,), rest=delimited(7, b"")), "a piece of variable 'w' is missing"),
        (entry((0, 1 << 60)), r"damaged \(a tensor of shape"),
        (entry(rest=delimited(7, delimited(1, b"") * 17)), "a piece with more than 16 dimensions"),
        (entry(rest=delimited(7, delimited(1, b""))), "a piece of variable 'w' is missing"),
    ]:
        edit_index(index, w=content)
        with pytest.raises(WeightsError, match=message):
            Bundle(small).read("w")


def test_wrong_headers(small):
    index = small.with_name("model.ckpt.index")
    for header, message in [
        (None, r"damaged \(its header is missing\)"),
        (varint_field(1, -1), "its header names -1 data files"),
        (varint_field(1, 1) + varint_field(2, 1), "was written on a big-endian machine"),
        (delimited(1, b""), r"is a checkpoint of the old form V1; restore it with TensorFlow and save it again with"),
    ]:
        edit_index(index, header=header)
        with pytest.raises(WeightsError, match=message):
            Bundle(small)


def test_no_index(small, monkeypatch):
    index = small.with_name("model.ckpt.index")
    whole = index.read_bytes()
    for content, message in [
        (b"", "is empty; copy or download it again"),
        (whole[:-1], "no index of a checkpoint, or cut short"),
        (b"\n <!DOCTYPE html><html>", "is a web page, not weights; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\x1f\x8b\x08", r"is a packed archive; unpack it \(tar -xf\) and give the folder"),
        (b"\0" + whole[1:-48] + whole[-48:], None),
        (b"?" + whole[1:], r"damaged \(the checksum of a block is wrong\); copy it again, or take another checkpoint"),
    ]:
        index.write_bytes(content)
        if message:
            with pytest.raises(WeightsError, match=message):
                Bundle(small)
    monkeypatch.setattr(bundle_module, "read_table", lambda data: (_ for _ in ()).throw(table.Compressed("snappy")))
    with pytest.raises(
        WeightsError, match="is compressed with snappy, which is not read here; save the checkpoint again"
    ):
        Bundle(small)


# ---------------------------------------------------------------- hostile bytes


@settings(deadline=None)
@given(st.data())
def test_any_entry_is_read_or_refused(tmp_path_factory, written, data):
    """Bytes of the index are changed and its checksums made anew: never another error, never more memory than data."""
    source = data.draw(st.sampled_from(["tf1/model.ckpt-7", "object/ckpt-1"]))
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    prefix = written / source
    entries = read_table(prefix.with_name(f"{prefix.name}.index").read_bytes())
    key = data.draw(st.sampled_from(sorted(entries)))
    value = bytearray(entries[key])
    for place in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=4)):
        value[place] = data.draw(st.integers(0, 255))
    entries[key] = bytes(value)
    (folder / "x.index").write_bytes(table_bytes(entries.items()))
    shutil.copy(prefix.with_name(f"{prefix.name}.data-00000-of-00001"), folder / "x.data-00000-of-00001")
    try:
        bundle = Bundle(folder / "x")
    except WeightsError:
        return
    for name, found in bundle.entries.items():
        try:
            if found.dtype == 7:
                bundle.strings(name)
            else:
                assert bundle.read(name).nbytes <= 10_000
        except WeightsError:
            pass
