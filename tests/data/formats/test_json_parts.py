import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats import json_parts as parts

TEXT = st.text(alphabet='a{}[],":\\ \n\u00e9\u2028\U0001f600', max_size=5)
LEAF = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e9, 1e9), TEXT)
VALUE = st.recursive(
    LEAF, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(TEXT, v, max_size=3)), max_leaves=8
)
CONTENT = st.dictionaries(TEXT, st.one_of(VALUE, st.lists(st.dictionaries(TEXT, VALUE, max_size=2), max_size=6)))


@settings(max_examples=100, deadline=None)
@given(CONTENT, st.integers(1, 60), st.sampled_from([None, 1]), st.booleans(), st.sampled_from([",", " , "]))
def test_pieces_make_the_whole(tmp_path_factory, content, piece, indent, ascii_only, comma):
    file = tmp_path_factory.getbasetemp() / "pieces.json"
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only, separators=(comma, ":"))
    file.write_text(text, encoding="utf-8")
    found: dict = {}
    usual, parts.PIECE = parts.PIECE, piece
    try:
        for key, value in parts.json_parts(file):
            if isinstance(value, list):
                found.setdefault(key, []).extend(value)
            else:
                found[key] = value
    finally:
        parts.PIECE = usual
    assert list(found.items()) == list(content.items())


@pytest.mark.parametrize("content", ['{"a": [' + '\\"' * 100_000, '{"a": "' + '\\"' * 100_000, '{"' + "x" * 1_000_000])
def test_strings_without_an_end_are_looked_at_once(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    started = time.perf_counter()
    with pytest.raises(parts.NotInParts):
        list(parts.json_parts(tmp_path / "x.json"))
    assert time.perf_counter() - started < 2  # minutes, where each quote looks for its end anew
