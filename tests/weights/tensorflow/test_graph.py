"""Weights in frozen graphs and SavedModels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats.example import varint_bytes
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow import graph as graph_module
from maskrcnn.weights.tensorflow.graph import Graph
from maskrcnn.weights.tensorflow.wire import delimited, fixed32_field, varint_field
from tests.weights.tensorflow.messages import frozen, frozen_array, node, saved_model, tensor

ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def weights(tmp_path):
    """A function: bytes of a file -> its weights."""

    def read(content: bytes):
        file = tmp_path / "graph.pb"
        file.write_bytes(content)
        return Graph(file).weights()

    return read


@pytest.mark.parametrize("file", ["frozen.pb", "frozen_lists.pb"])
def test_constants_of_tensorflow(written, file):
    """In one run of bytes, one by one, and as one value for all."""
    found = Graph(written / file).weights()
    kinds = ("float16", "float32", "float64", "bfloat16", "int32", "int64", "bool")
    assert set(found) == {f"{form}/{kind}" for form in ("whole", "filled") for kind in kinds}
    for kind in kinds:
        dtype = np.dtype("float32" if kind == "bfloat16" else kind)
        whole, filled = found[f"whole/{kind}"], found[f"filled/{kind}"]
        assert (whole.dtype, filled.dtype) == (dtype, dtype)
        assert whole.tolist() == (np.arange(6).reshape(3, 2) % (2 if kind == "bool" else 7)).tolist()
        assert filled.tolist() == np.ones((3, 2)).tolist()


def test_the_last_value_fills_the_rest(weights):
    packed = delimited(5, np.array([1, 2, 7], "<f4").tobytes())
    single = fixed32_field(5, 0x3F800000) + fixed32_field(5, 0x40000000)
    found = weights(
        frozen("packed", tensor(1, (2, 3), packed))
        + frozen("single", tensor(1, (3,), single))
        + frozen("nothing", tensor(3, (2,)))
        + frozen("negative", tensor(3, (3,), delimited(7, varint_bytes((1 << 64) - 5))))
    )
    assert found["packed"].tolist() == [[1, 2, 7], [7, 7, 7]]
    assert found["single"].tolist() == [1, 2, 2]
    assert found["nothing"].tolist() == [0, 0]
    assert found["negative"].tolist() == [-5, -5, -5]


def test_only_what_is_handed_on_is_a_weight(weights):
    anchors = node("anchors", "Const", value=tensor(1, (2,), delimited(5, bytes(8))))
    scalar = frozen("scalar", tensor(1, ()))
    library = delimited(2, delimited(1, frozen_array("inside_a_function", ONES)))
    other = node("x/read", "Identity", "y")
    content = anchors + frozen_array("conv/weights", ONES) + scalar + other + library
    assert list(weights(content)) == ["conv/weights"]


def test_without_identities_every_float_is_a_weight(weights):
    shape = node("shape", "Const", value=tensor(3, (2,)))
    label = node("label", "Const", value=tensor(7, (2,)))
    plain = node("conv/weights", "Const", value=tensor(1, (2, 3), delimited(4, ONES.tobytes())))
    assert list(weights(shape + label + plain)) == ["conv/weights"]


def test_saved_model(weights):
    found = weights(saved_model(frozen_array("w", ONES), first=delimited(2, delimited(1, b""))))
    assert np.array_equal(found["w"], ONES)


def test_arrays_may_be_written_to_and_the_file_stays(tmp_path):
    file = tmp_path / "graph.pb"
    file.write_bytes(frozen_array("w", ONES) + frozen_array("v", ONES))
    before = file.read_bytes()
    for array in Graph(file).weights().values():
        assert array.flags.aligned
        array += 1
    assert file.read_bytes() == before


def test_variables_that_are_not_frozen(weights):
    variables = node("a", "VariableV2") + node("a/read", "Identity", "a") + node("b", "VarHandleOp")
    with pytest.raises(
        WeightsError, match="holds no weights, its 2 variables are not frozen into it; give its checkpoint"
    ):
        weights(variables)
    with pytest.raises(WeightsError, match=r"its 2 variables .*; give variables/variables.index beside it$"):
        weights(saved_model(variables))


def test_other_files(weights):
    what = "is no GraphDef and no SavedModel, or is cut short; give a frozen_inference_graph.pb or a saved_model.pb"
    for content, message in [
        (b"", "is empty"),
        (b"<html><body>404", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        (b"PK\x03\x04", "is a packed archive"),
        (b'node {\n  name: "a"\n}\n', r"is a graph in text form \(.pbtxt\); write it as binary"),
        (bytes(range(1, 200)), what),
        (b"\x80\x02}q\x00", what),  # a pickle
        (saved_model(b""), what),
        (saved_model(frozen_array("w", ONES))[:-1], what),
        (varint_field(3, 5), what),
    ]:
        with pytest.raises(WeightsError, match=message):
            weights(content)


def test_damage(weights):
    good = frozen_array("w", ONES)
    for content, message in [
        (good[:-3], "damaged .*; copy it again"),
        (good + good, "two nodes 'w'"),
        (frozen("w", tensor(1, (3,), delimited(4, bytes(8)))), r"constant 'w': shape \(3,\) and 8 bytes"),
        (frozen("w", tensor(1, (1,), delimited(5, bytes(8)))), r"shape \(1,\) and 2 values"),
        (frozen("w", tensor(1, (2,), delimited(5, bytes(7)))), "values that are cut"),
        (frozen("w", tensor(1, (2,), varint_field(5, 1))), "another wire type"),
        (frozen("w", tensor(3, (2,), delimited(7, b"\xff"))), "without an end"),
        (frozen("w", tensor(1, (1 << 20, 1 << 20), delimited(5, bytes(4)))), "and only 1 values"),
        (frozen("w", tensor(1, (-1,))), "a tensor of shape"),
        (frozen("w", tensor(12, (2,))), "constant 'w' has the type quint8; known are"),
    ]:
        with pytest.raises(WeightsError, match=message):
            weights(content)


def test_filling_is_bounded_for_the_whole_file(weights, monkeypatch):
    monkeypatch.setattr(graph_module, "_MOST_FILLED", 1000)
    one = tensor(1, (400,), delimited(5, bytes(4)))
    assert len(weights(frozen("a", one) + frozen("b", one))) == 2
    with pytest.raises(WeightsError, match=r"constant 'c': .* only 1 values"):
        weights(frozen("a", one) + frozen("b", one) + frozen("c", one))


# ---------------------------------------------------------------- hostile bytes


def test_fields_that_nobody_reads_are_not_kept(weights):
    content = frozen("w", tensor(1, (2,), delimited(4, bytes(8)) + varint_field(15, 1) * 50_000))
    tracemalloc.start()
    try:
        assert weights(content)["w"].tolist() == [0, 0]
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content)
    finally:
        tracemalloc.stop()


def test_what_is_listed_is_bounded(weights, monkeypatch):
    monkeypatch.setattr(graph_module, "_MOST_PARTS", 5)
    one = fixed32_field(5, 0)
    assert weights(frozen("w", tensor(1, (9,), one * 5)))["w"].tolist() == [0] * 9
    with pytest.raises(WeightsError, match="constant 'w': more than 5 values that are not packed"):
        weights(frozen("w", tensor(1, (9,), one * 6)))


def test_dimensions_are_bounded(weights):
    with pytest.raises(WeightsError, match=r"constant 'w': a tensor of shape \((0, ){15}0\)"):
        weights(frozen("w", tensor(1, (0,) * 100_000)))


@settings(deadline=None)
@given(st.data())
def test_any_bytes_are_weights_or_refused(tmp_path_factory, written, data):
    source = data.draw(st.sampled_from(["frozen.pb", "frozen_lists.pb"]))
    content = bytearray((written / source).read_bytes())
    if data.draw(st.booleans()):
        content = bytearray(saved_model(bytes(content)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "fuzz.pb"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "_MOST_FILLED", 100_000)
        try:
            found = Graph(file).weights()
        except WeightsError:
            return
    assert sum(array.nbytes for array in found.values()) < 1_000_000


@given(st.binary(max_size=60))
def test_noise(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "noise.pb"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "_MOST_FILLED", 100_000)
        try:
            Graph(file).weights()
        except WeightsError:
            return
