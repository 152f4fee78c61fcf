"""Protobuf's text format: every way to write a thing, every way to get it wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.text_proto import Entry, Message, ProtoError, Scalar, parse, read_text, write


def plain(message: Message) -> list:
    return [
        (entry.name, plain(entry.value) if isinstance(entry.value, Message) else entry.value.text)
        for entry in message.entries
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a { b: 1 b: 2 c: 'x' }",
        "a: { b: 1, b: 2; c: 'x'; }",
        'a < b: [1, 2] c: "x" >',
        "a: [{ b: [1, 2], c: 'x' }]",
        "# top\na {  # opens\n  b: 1 # one\n  b: 2\n  c: 'x'\n}\n# end",
        "\ta{b:1b_:0}".replace("b_:0", " b:2 c:'x'"),
        "a { b: 1 b: 2 c: '' \"x\" '' }",
        "a { b: 1 b: 2 c: '\\x78' }",
    ],
)
def test_ways_to_write_the_same(text):
    assert plain(parse(text)) == [("a", [("b", "1"), ("b", "2"), ("c", "x")])]


def test_words_and_strings():
    message = parse(
        'rate: .00002 big: 1e-4 low: - 3 f: 1.5f flag: true kind: PNG_MASKS text: "it\'s \\"it\\"" none: []'
    )
    assert [entry.value.text for entry in message.entries] == [
        *(".00002", "1e-4", "-3", "1.5f", "true", "PNG_MASKS", 'it\'s "it"')
    ]
    assert [entry.value.quoted for entry in message.entries] == [False] * 6 + [True]


def test_lines_count_from_one():
    message = parse("a {\n\n  b: [1,\n    2]\n}\nc: 'x'\n  'y'\n")
    inner = message.entries[0].value
    assert (message.entries[0].line, inner.line, inner.end) == (1, 1, 5)
    assert [entry.line for entry in inner.entries] == [3, 4]
    assert (message.entries[1].line, message.entries[1].value.text) == (6, "xy")


def test_comments_come_along():
    text = "# what this is\nmodel {\n  # how many\n  num: 3  # beside\n  # last\n}\n\ntrain: 1\n# end\n"
    assert write(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a {\n b: 1\n", 1, "the file ends inside 'a': the bracket of 'a' in line 1 is not closed"),
        (
            "a {\n  b {\n    c: 1\n  d: 2\n}\n",
            1,
            "the file ends inside 'a': a bracket is not closed, perhaps that of 'b' in line 2",
        ),
        ("a { b: 1 > }", 1, "'>' where '}' belongs, to close 'a' of line 1"),
        ("a { }\n}", 2, "'}' where a field name belongs; one bracket too many?"),
        ("a: [1, 2", 1, "the list of 'a' in line 1 is not closed"),
        ("a: [1 2]", 1, "the list of 'a' in line 1 is not closed"),
        ("a 3", 1, "':' or '{' is missing after 'a'"),
        ("a:\n", 1, "the file ends where the value of 'a' belongs"),
        ("a: }", 1, "'}' where the value of 'a' belongs"),
        ("\na: 'x\n", 2, "cannot be understood; is a quote missing?"),
        ("a: 1\nb: 'C:\\mask'", 2, "\\m in a string means nothing; write / or \\\\ in paths"),
        ("a: 'C:\\users'", 1, "\\u in a string means nothing"),
        ("a: 1 @", 1, "'@' cannot be understood"),
        ("3: 1", 1, "'3' where a field name belongs"),
        ("[x.y]: 1", 1, "'[' where a field name belongs"),
        ("a {" * 60, 1, "more than 50 brackets inside each other"),
    ],
)
def test_mistakes(text, line, message):
    with pytest.raises(ProtoError) as caught:
        parse(text)
    assert caught.value.line == line
    assert message in caught.value.message


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"a: 1\nb: '\xff'")
    with pytest.raises(ProtoError, match=r"line 2: is not UTF-8 text"):
        read_text(tmp_path / "a")


def test_put_keeps_the_place():
    message = parse("# about a\na: 1\nb: 2\na: 3\nc: 4")
    message.put("a", Scalar("5"), Scalar("6"))
    assert write(message) == "# about a\na: 5\n\na: 6\n\nb: 2\n\nc: 4\n"
    message.put("b")
    message.part("d").put("e", Scalar("x", quoted=True))
    assert plain(message) == [("a", "5"), ("a", "6"), ("c", "4"), ("d", [("e", "x")])]


names = st.text("abc_", min_size=1, max_size=4)
scalars = st.one_of(
    st.builds(Scalar, st.text(max_size=8), st.just(True)),
    st.builds(Scalar, st.sampled_from(["1", "-2.5e-3", "true", "PNG_MASKS"])),
)
messages = st.recursive(
    st.builds(Message, st.lists(st.builds(Entry, names, scalars), max_size=3)),
    lambda inner: st.builds(Message, st.lists(st.builds(Entry, names, st.one_of(scalars, inner)), max_size=3)),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(messages)
def test_what_is_written_is_read(message):
    text = write(message)
    assert plain(parse(text)) == plain(message)
    assert write(parse(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.text("ab{}<>[]:,;'\"\\#\n 01.-", max_size=60))
def test_any_text_is_read_or_refused_with_a_line(text):
    with contextlib.suppress(ProtoError):
        parse(text)
