"""The object graph of a TF2 checkpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskrcnn.data.formats.example import Damaged
from maskrcnn.weights.tensorflow import objects
from maskrcnn.weights.tensorflow.bundle import Bundle
from maskrcnn.weights.tensorflow.objects import GRAPH_KEY, VALUE, is_of_model, read_objects
from maskrcnn.weights.tensorflow.wire import delimited, varint_field


def variable(key: str, name: str = "") -> bytes:
    """A node with one attribute."""
    return delimited(1, delimited(2, delimited(2, name.encode()) + delimited(3, key.encode())))


def test_names_and_slots():
    key, slot = f"model/a{VALUE}", f"model/b{VALUE}"
    root = delimited(1, delimited(3, varint_field(1, 1) + delimited(2, b"momentum") + varint_field(3, 2)))
    graph = read_objects(root + variable(key, "conv2d/kernel") + variable(slot))
    assert graph.full_names == {key: "conv2d/kernel", slot: ""}
    assert graph.slots == {slot}
    assert is_of_model(key, graph)
    assert not is_of_model(slot, graph)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (f"model/layer_with_weights-0/kernel{VALUE}", True),
        (f"_model/_mask_rcnn_box_predictor/a/0/kernel{VALUE}", True),
        (f"model/step{VALUE}", True),
        (f"step{VALUE}", False),
        (f"save_counter{VALUE}", False),
        (f"optimizer/_variables/3{VALUE}", False),
        (f"model/a/.OPTIMIZER_SLOT/optimizer/momentum{VALUE}", False),
        ("model/a/.ATTRIBUTES/OBJECT_CONFIG_JSON", False),
        (GRAPH_KEY, False),
    ],
)
def test_what_belongs_to_the_model(key, wanted):
    assert is_of_model(key, read_objects(b"")) == wanted


def test_too_many_objects(monkeypatch):
    monkeypatch.setattr(objects, "_MOST_OBJECTS", 10)
    with pytest.raises(Damaged, match="more than 10 objects"):
        read_objects(delimited(1, b"") * 11)


@given(st.data())
def test_any_bytes_are_a_graph_or_damage(written, data):
    (content,) = Bundle(written / "object" / "ckpt-1").strings(GRAPH_KEY)
    changed = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        changed[place] = data.draw(st.integers(0, 255))
    try:
        graph = read_objects(bytes(changed))
    except Damaged:
        return
    assert sum(map(len, graph.full_names)) <= len(content)
