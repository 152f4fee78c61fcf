"""Files that name classes: label maps, texts with one name a line, JSON."""

from __future__ import annotations

import pytest

from maskrcnn.data.formats.label_map import read_label_map
from maskrcnn.errors import DataError


def read(tmp_path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return [(item.id, item.shown, item.listed) for item in read_label_map(tmp_path / name)]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("m.pbtxt", "item { id: 3 name: 'cat' }", [(3, "cat", False)]),
        ("m.txt", "item { id: 3 name: 'cat' }", [(3, "cat", False)]),
        ("m.txt", "cat\n\nhot dog \n", [(1, "cat", True), (2, "hot dog", True)]),
        ("coco.names", "\ufeffBG\r\ncat\r\n", [(1, "cat", True)]),
        ("m.json", '["__background__", "cat", "dog"]', [(1, "cat", True), (2, "dog", True)]),
        ("m.json", '{"7": "dog", "3": "cat"}', [(3, "cat", False), (7, "dog", False)]),
        ("m.json", '{"0": "background", "2": "cat"}', [(2, "cat", False)]),
        ("m.json", '{"0": "cat", "1": "dog"}', [(1, "cat", True), (2, "dog", True)]),
    ],
)
def test_each_form(name, text, found, tmp_path):
    assert read(tmp_path, name, text) == found


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.txt", "cat\ncat\n", "class 'cat' is there twice; rename one of them"),
        ("m.json", "{", "is not readable as JSON"),
        ("m.json", "3", "holds neither a list of names nor a table of id and name; give a .pbtxt"),
        ("m.json", '{"cat": 1}', "holds neither a list of names"),
        ("m.json", '["cat", 2]', "2 is not the name of a class"),
        ("m.json", '{"1": ["cat"]}', "is not the name of a class"),
        ("m.json", '{"0": "cat", "2": "dog"}', "ids from 0 on with gaps"),
        ("m.json", '{"1": "cat", "01": "dog"}', "has an id twice"),
    ],
)
def test_mistakes(name, text, message, tmp_path):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, name, text)
    assert name in str(error.value)


def test_what_is_no_text(tmp_path):
    (tmp_path / "m.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"is no text; give a \.pbtxt"):
        read_label_map(tmp_path / "m.txt")
    with (tmp_path / "m.json").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(DataError, match="has more than 16 MB"):
        read_label_map(tmp_path / "m.json")
