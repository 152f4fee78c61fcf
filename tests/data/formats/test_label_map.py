"""Label maps: protobuf's text format in all its variants."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats.label_map import Item, label_map_text, looks_like_label_map, read_label_map
from maskrcnn.errors import DataError


def parsed(tmp_path, text: str | bytes) -> list[tuple[int, str, str]]:
    file = tmp_path / "map.pbtxt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(item.id, item.name, item.shown) for item in read_label_map(file)]


@pytest.mark.parametrize(
    "text",
    [
        "item { id: 1 name: 'cup' }",
        'item{id:1,name:"cup"}',
        "item: { id: 1; name: 'cup'; };",
        "item < id: 1 name: 'cup' >",
        "item: [ { id: 1 name: 'cup' } ]",
        "\ufeff# made by hand\n\nitem {\r\n  # the one\r\n  name: 'c' \"up\"  # in two parts\r\n  id: 0x1\r\n}\r\n",
        "item { name: 'c\\165p' id: +1 }",
        "item { name: 'c\\x75p' id: 01 }",
        "item { id: 1 name: 'cup' keypoints { id: 0 label: 'ear}' } color { r: 1.5 } ancestor_ids: ['a', 'b'] }",
        "item { id: 1 frequency: FREQUENT instance_count: 12 name: 'cup' score: -1.5e-3 }",
    ],
)
def test_variants(tmp_path, text):
    assert parsed(tmp_path, text) == [(1, "cup", "cup")]
    assert looks_like_label_map(tmp_path / "map.pbtxt")


def test_display_names_and_escapes(tmp_path):
    text = "item { id: 3 name: '/m/1' display_name: \"it\\'s \\\"one\\\"\\n\\u00e9\" } item { id: 2 display_name: 'ö' }"
    assert parsed(tmp_path, text) == [(3, "/m/1", 'it\'s "one"\né'), (2, "ö", "ö")]


def test_the_background_is_no_class(tmp_path):
    text = "item { id: 0 name: 'background' } item { id: 1 name: 'cup' }"
    assert parsed(tmp_path, text) == [(1, "cup", "cup")]
    assert parsed(tmp_path, text.replace("background", "none_of_the_above")) == [(1, "cup", "cup")]


def test_an_empty_file_has_no_items(tmp_path):
    assert parsed(tmp_path, "# nothing\n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item {\n id: 1\n", "line 1 of the label map: the file ends inside 'item': the bracket of 'item' in line 1"),
        ("item {\n id: 1 }", r"line 2 .*has no name; write `name: "),
        ("item {\n name: 'a' }", r"line 2 .*has no id; write `id: 1`"),
        ("item {\n\n id: 1.5 name: 'a' }", r"line 3 .*id '1\.5' is not an integer"),
        ("item { id: 99999999999 name: 'a' }", r"line 1 .*does not fit into 32 bits"),
        ("item { id: " + "9" * 5000 + " name: 'a' }", "line 1 "),
        ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", "line 2 .*id 1 is there twice"),
        ("item {\n id: 0 name: 'a' }", "line 2 .*id 0 of 'a': ids begin at 1, 0 is the background; count from 1"),
        ("item { id: -3 name: 'a' }", "line 1 .*id -3 of 'a': ids begin at 1"),
        ("item {\n name: 'a }", "line 2 .*cannot be understood; is a quote missing"),
        ("node { id: 1 }", "line 1 .*'node' where `item` belongs"),
        ("item: 3", "line 1 .*'3' where '{' belongs"),
        ("item { a { ] } id: 1 }", "line 1 .*']' where '}' belongs, to close 'a' of line 1"),
        ("item { " + "a {" * 60, "line 1 .*more than 50 brackets"),
        (b"item { name: '\xff' }", "is not UTF-8 text"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        parsed(tmp_path, text)


def test_a_missing_file(tmp_path):
    assert not looks_like_label_map(tmp_path / "none.pbtxt")
    with pytest.raises(DataError, match="cannot be read"):
        read_label_map(tmp_path / "none.pbtxt")


def test_what_is_written_is_read(tmp_path):
    names = ["cup", 'a "b" \\ c', "é\n\x01", "#{}"]
    assert parsed(tmp_path, label_map_text(names, [1, 5, 7, 90])) == [
        (number, name, name) for number, name in zip([1, 5, 7, 90], names, strict=True)
    ]


@settings(max_examples=50, deadline=None)
@given(st.text("item{}<>[]:,;'\"\\#\n 01x-namedisplay_", max_size=80))
def test_any_text_gives_items_or_an_error(tmp_path_factory, text):
    file = tmp_path_factory.mktemp("fuzz") / "map.pbtxt"
    file.write_text("item {" + text)
    with contextlib.suppress(DataError):
        assert all(isinstance(item, Item) for item in read_label_map(file))
