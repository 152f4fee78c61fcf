"""Protobuf's text format, without protobuf and without a schema: text -> nested messages with line numbers, and back.

It is the format of the TensorFlow Object Detection API's `pipeline.config` and label maps: `key: value`, `key { ... }`,
`key: { ... }`, `key < ... >`, lists `[a, b]`, repeated keys, strings in either quote that join when they stand side by
side, `#` comments, entries separated by nothing, `,` or `;`. Comments are kept, so that an edited file still has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 16 << 20
"""Bytes of a file; real ones have a few thousand."""
DEEPEST = 50
"""Brackets inside brackets; a pipeline.config has 9."""
_TOKEN = re.compile(
    r"""(?P<gap>\s+)
    |(?P<comment>\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[+-]?[\w.][\w.+-]*)
    |(?P<sign>[{}<>\[\]:,;-])""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_NAMED |= {sign: sign for sign in (b"\\", b"'", b'"', b"?")}
_CLOSES = {"{": "}", "<": ">", "[": "]"}


class ProtoError(ValueError):
    """The text is not in the format. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        self.line, self.message = line, message
        super().__init__(f"line {line}: {message}")


@dataclass(slots=True)
class Scalar:
    """One value: `text` unescaped where it was `quoted`, else the word as it stands (number, true, enum name)."""

    text: str
    quoted: bool = False
    line: int = 0


@dataclass(slots=True)
class Entry:
    """`name: value` with the comments above it and the one beside it."""

    name: str
    value: Scalar | Message
    line: int = 0
    comments: tuple[str, ...] = ()
    beside: str = ""


@dataclass(slots=True)
class Message:
    """Entries in their order. `line` is where its bracket opens, `end` where it closes; `comments` precede that."""

    entries: list[Entry] = field(default_factory=list)
    line: int = 0
    end: int = 0
    comments: tuple[str, ...] = ()

    def all(self, name: str) -> list[Entry]:
        """Every entry of that name."""
        return [entry for entry in self.entries if entry.name == name]

    def first(self, name: str) -> Entry | None:
        """The first entry of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def part(self, name: str) -> Message:
        """The message of that name, made where it is missing."""
        entry = self.first(name)
        if entry is None or not isinstance(entry.value, Message):
            entry = Entry(name, Message())
            self.entries.append(entry)
        assert isinstance(entry.value, Message)
        return entry.value

    def put(self, name: str, *values: Scalar | Message) -> None:
        """These values in place of all that the name has; at the end where it has none. No value removes it."""
        old = self.all(name)
        new = [Entry(name, value) for value in values]
        if old and new:
            new[0].comments, new[0].line = old[0].comments, old[0].line
            new[0].beside = old[0].beside if isinstance(new[0].value, Scalar) else ""
        at = self.entries.index(old[0]) if old else len(self.entries)
        rest = [entry for entry in self.entries[at:] if entry.name != name]
        self.entries = self.entries[:at] + new + rest


def parse(text: str) -> Message:
    """The whole file as one message. Raises `ProtoError` with the line."""
    return _Parser(text).file()


def read_text(file: Path) -> str:
    """The file's text. Raises `OSError`, or `ProtoError` where it is not text or too large."""
    with file.open("rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ProtoError(1, "has more than 16 MB; is this another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProtoError(data[: error.start].count(b"\n") + 1, f"is not UTF-8 text ({error}); save it again") from error


# ---------------------------------------------------------------- reading


class _Parser:
    """Tokens (kind, value, line, column) read from the front; one is looked at ahead, comments are put aside."""

    def __init__(self, text: str) -> None:
        self._comments: list[tuple[str, int]] = []
        self._suspect = ""  # the entry whose bracket is probably missing, by the indentation
        self._line, self._column = 1, 0
        self._tokens = _split(text)
        self._kind, self._value, self._next_line, self._next_column = self._next()

    def file(self) -> Message:
        message = Message(line=1)
        while self._kind:
            self._entry(message, 0)
        message.end, message.comments = self._line, self._taken_comments()
        return message

    def _message(self, name: str, line: int, indent: int, depth: int) -> Message:
        if depth > DEEPEST:
            raise ProtoError(self._next_line, f"more than {DEEPEST} brackets inside each other")
        closing = _CLOSES[self._take()]
        message = Message(line=self._line)
        while not self._sees(closing):
            if not self._kind:
                where = f"{name!r} in line {line}"
                if self._suspect not in ("", where):
                    raise ProtoError(
                        line, f"the file ends inside {name!r}: a bracket is not closed, perhaps that of {self._suspect}"
                    )
                raise ProtoError(line, f"the file ends inside {name!r}: the bracket of {where} is not closed")
            if self._kind == "sign" and self._value in _CLOSES.values():
                message_ = f"{self._value!r} where {closing!r} belongs, to close {name!r} of line {line}"
                raise ProtoError(self._next_line, message_)
            self._entry(message, depth)
        message.comments = self._taken_comments()
        self._take()
        message.end = self._line
        if message.end != line and self._column < indent and not self._suspect:
            self._suspect = f"{name!r} in line {line}"
        return message

    def _entry(self, message: Message, depth: int) -> None:
        comments = self._taken_comments()
        if self._kind != "word" or not _NAME.fullmatch(self._value):
            extra = "; one bracket too many?" if self._value in _CLOSES.values() else ""
            raise ProtoError(self._next_line, f"{self._value[:40]!r} where a field name belongs{extra}")
        name = self._take()
        line, indent = self._line, self._column
        colon = self._skip(":")
        if self._sees("["):
            self._take()
            values = []
            while not self._sees("]"):
                values.append(self._one(name, line, indent, depth, True))
                if not self._skip(",") and not self._sees("]"):
                    raise ProtoError(self._next_line, f"the list of {name!r} in line {line} is not closed; ']' belongs")
            self._take()
        else:
            values = [self._one(name, line, indent, depth, colon)]
        self._skip(",", ";")
        entries = [Entry(name, value, value.line if isinstance(value, Scalar) else line) for value in values]
        if entries:
            entries[0].comments = comments
            if self._comments and self._comments[0][1] == self._line and isinstance(values[-1], Scalar):
                entries[-1].beside = self._comments.pop(0)[0]
        message.entries += entries

    def _one(self, name: str, line: int, indent: int, depth: int, colon: bool) -> Scalar | Message:
        """A message or a value, strings side by side joined."""
        if self._sees("{") or self._sees("<"):
            return self._message(name, line, indent, depth + 1)
        if not self._kind:
            raise ProtoError(self._line, f"the file ends where the value of {name!r} belongs")
        if not colon and self._kind != "sign":
            raise ProtoError(self._line, f"':' or '{{' is missing after {name!r}")
        first = self._next_line
        if self._kind == "text":
            parts = []
            while self._kind == "text":
                parts.append(self._take())
            return Scalar("".join(parts), True, first)
        minus = "-" if self._skip("-") else ""
        if self._kind != "word":
            raise ProtoError(self._next_line, f"{self._value[:40]!r} where the value of {name!r} belongs")
        return Scalar(minus + self._take(), False, first)

    def _sees(self, sign: str) -> bool:
        return self._kind == "sign" and self._value == sign

    def _take(self) -> str:
        value, self._line, self._column = self._value, self._next_line, self._next_column
        self._kind, self._value, self._next_line, self._next_column = self._next()
        return value

    def _skip(self, *signs: str) -> bool:
        found = self._kind == "sign" and self._value in signs
        if found:
            self._take()
        return found

    def _next(self) -> tuple[str, str, int, int]:
        for kind, value, line, column in self._tokens:
            if kind != "comment":
                return kind, value, line, column
            self._comments.append((value, line))
        return "", "", self._line, 0

    def _taken_comments(self) -> tuple[str, ...]:
        comments, self._comments = tuple(comment for comment, _ in self._comments), []
        return comments


def _split(text: str) -> Iterator[tuple[str, str, int, int]]:
    at, line, start = 0, 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            quote = "; is a quote missing?" if text[at] in "\"'" else ""
            raise ProtoError(line, f"{text[at : at + 20]!r} cannot be understood{quote}")
        kind, token = match.lastgroup or "", match[0]
        if kind == "gap":
            line += token.count("\n")
            start = at + token.rfind("\n") + 1 if "\n" in token else start
        else:
            yield kind, _unescaped(token[1:-1], line) if kind == "text" else token.rstrip(), line, at - start
        at = match.end()


def _unescaped(text: str, line: int) -> str:
    """Raises `ProtoError` for a backslash that means nothing, as in a path of Windows."""
    if "\\" not in text:
        return text

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code[:1] == b"x" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        if code[:1] == b"u" and len(code) > 1:
            return chr(int(code[1:], 16)).encode("utf-8", "replace")
        if code.isdigit() and code[:1] < b"8":
            return bytes([int(code, 8) & 255])
        if code not in _NAMED:
            sign = code.decode("utf-8", "replace")
            raise ProtoError(line, f"\\{sign} in a string means nothing; write / or \\\\ in paths")
        return _NAMED[code]

    return _ESCAPE.sub(plain, text.encode()).decode("utf-8", "replace")


# ---------------------------------------------------------------- writing


def write(message: Message) -> str:
    """The text that `parse` reads to the same entries and comments."""
    return "".join(f"{line}\n" for line in _lines(message, ""))


def quoted(text: str) -> str:
    """A string as the format writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\{ord(match[0]):03o}", escaped) + '"'


def _lines(message: Message, indent: str) -> Iterator[str]:
    for entry in message.entries:
        if not indent and entry is not message.entries[0]:
            yield ""
        yield from (indent + comment for comment in entry.comments)
        if isinstance(entry.value, Message):
            yield f"{indent}{entry.name} {{"
            yield from _lines(entry.value, indent + "  ")
            yield indent + "}"
        else:
            value = quoted(entry.value.text) if entry.value.quoted else entry.value.text
            yield f"{indent}{entry.name}: {value}" + (f"  {entry.beside}" if entry.beside else "")
    yield from (indent + comment for comment in message.comments)
