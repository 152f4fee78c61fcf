"""Label maps of the TensorFlow Object Detection API (`.pbtxt`), and the classes of data that name them twice.

A label map is protobuf's text format: `item { id: 1 name: 'cup' display_name: "Cup" }`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.errors import DataError

LARGEST = 16 << 20  # bytes of a label map
_DEEPEST = 50  # brackets inside brackets
_TOKEN = re.compile(
    r"""(?P<gap>(?:\s|\#[^\n]*)+)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[+-]?[\w.][\w.+-]*)
    |(?P<sign>[{}<>\[\]:,;/-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSES = {"{": "}", "<": ">", "[": "]"}


@dataclass(frozen=True, slots=True)
class Item:
    """One class of a label map. `shown` is `display_name`, or else `name`."""

    id: int
    name: str
    shown: str


def looks_like_label_map(file: Path) -> bool:
    """Whether the first word is `item`; never raises."""
    try:
        with file.open("rb") as stream:
            head = stream.read(1 << 12).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return bool(re.match(r"(?:\s|#[^\n]*\n)*item\s*[:{<\[]", head))


def read_label_map(file: Path) -> list[Item]:
    """The items in their order. Raises `DataError` with the line where the file is not a label map."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"the label map cannot be read ({error})", path=file) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the label map is not UTF-8 text ({error}); save it again", path=file) from error
    if len(data) > LARGEST:
        raise DataError("the label map has more than 16 MB; is this another file?", path=file)
    return _Parser(text, file).items()


def label_map_text(classes: Sequence[str], ids: Sequence[int]) -> str:
    """A label map that protobuf and `read_label_map` read."""
    return "\n".join(f"item {{\n  id: {i}\n  name: {_quoted(n)}\n}}" for n, i in zip(classes, ids, strict=True)) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\{ord(m[0]):03o}", escaped) + '"'


class _Parser:
    """Tokens (kind, value, line) of one file, read from the front; one is looked at ahead."""

    def __init__(self, text: str, file: Path) -> None:
        self._file, self._line = file, 1
        self._tokens = self._split(text)
        self._kind, self._value, self._next_line = next(self._tokens)

    def items(self) -> list[Item]:
        found: list[Item] = []
        ids: set[int] = set()
        while self._kind:
            key = self._take()
            if key != "item":
                raise self._error(f"{key[:40]!r} where `item` belongs")
            self._skip(":")
            for item in self._list() if self._sees("[") else [self._item()]:
                if item.id in ids:
                    raise self._error(f"id {item.id} is there twice; give each class its own")
                ids.add(item.id)
                found.append(item)
        return found

    def _list(self) -> list[Item]:
        self._take()
        entries = []
        while not self._sees("]"):
            entries.append(self._item())
            self._skip(",")
        self._take()
        return entries

    def _item(self) -> Item:
        opening = self._take()
        if opening not in ("{", "<"):
            raise self._error(f"{opening[:40]!r} where '{{' belongs")
        fields: dict[str, str] = {}
        while not self._sees(_CLOSES[opening]):
            key = self._take()
            self._skip(":")
            value = self._scalar_or_group()
            if value is not None:
                fields[key] = value
            if key == "id":
                self._id(fields.get("id"))  # here, where the line is known
            self._skip(",", ";")
        self._take()
        name = fields.get("name", "")
        shown = fields.get("display_name") or name
        if not shown:
            raise self._error('the item that ends here has no name; write `name: "..."`')
        item = Item(self._id(fields.get("id")), name or shown, shown)
        self._skip(",", ";")
        return item

    def _id(self, word: str | None) -> int:
        if word is None:
            raise self._error("the item that ends here has no id; write `id: 1`")
        try:
            number = int(word, 8) if re.fullmatch(r"[+-]?0[0-7]+", word) else int(word, 0)
        except ValueError:
            raise self._error(f"id {word[:40]!r} is not an integer") from None
        if not -(1 << 31) <= number < 1 << 31:
            raise self._error(f"id {word[:40]} does not fit into 32 bits")
        return number

    def _scalar_or_group(self) -> str | None:
        """A value, strings joined; None for a message or list, which is passed over."""
        if self._kind == "sign":
            self._pass_over()
            return None
        if self._kind != "text":
            return self._take()
        parts = []
        while self._kind == "text":
            parts.append(self._take())
        return "".join(parts)

    def _pass_over(self) -> None:
        """A bracket and all that is in it."""
        closing: list[str] = []
        while True:
            kind, token = self._kind, self._take()
            if kind == "sign" and token in _CLOSES:
                closing.append(_CLOSES[token])
            elif not closing or (kind == "sign" and token in _CLOSES.values() and token != closing.pop()):
                raise self._error(f"{token[:40]!r} is out of place")
            if not closing:
                return
            if len(closing) > _DEEPEST:
                raise self._error(f"more than {_DEEPEST} brackets inside each other")

    def _sees(self, sign: str) -> bool:
        return self._kind == "sign" and self._value == sign

    def _take(self) -> str:
        if not self._kind:
            raise self._error("the file ends inside an item; a bracket is not closed")
        value, self._line = self._value, self._next_line
        self._kind, self._value, self._next_line = next(self._tokens)
        return value

    def _skip(self, *signs: str) -> None:
        if self._kind == "sign" and self._value in signs:
            self._take()

    def _split(self, text: str) -> Iterator[tuple[str, str, int]]:
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self._line = line
                raise self._error(f"{text[at : at + 20]!r} cannot be understood; is a quote missing?")
            kind, token = match.lastgroup or "", match[0]
            if kind != "gap":
                yield kind, _unescaped(token[1:-1]) if kind == "text" else token, line
            line += token.count("\n")
            at = match.end()
        while True:
            yield "", "", line

    def _error(self, message: str) -> DataError:
        return DataError(f"line {self._line} of the label map: {message}", path=self._file)


def _unescaped(text: str) -> str:
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
        return _NAMED.get(code, code)

    return _ESCAPE.sub(plain, text.encode()).decode("utf-8", "replace")


# ---------------------------------------------------------------- which class an object is


@dataclass
class ClassNames:
    """Names and ids of classes, gathered object by object from a text, a number, or both.

    The text is the class; the number only its id. A number without a text gets the name that the label map has for it.
    """

    items: Sequence[Item] = ()
    votes: Counter[tuple[str, int | None]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._shown = {item.id: item.shown for item in self.items}
        self._id = {item.name: item.id for item in self.items} | {item.shown: item.id for item in self.items}

    def name(self, text: str, label: int | None) -> str:
        """The class of an object; "" where it has neither. Counts it."""
        name = text
        if text in self._id:  # a name like "/m/01g317" is shown as "person"
            name = self._shown[self._id[text]]
        elif not text and label is not None:
            name = self._shown.get(label, str(label))
        if name:
            self.votes[name, self._id.get(text) if label is None else label] += 1
        return name

    def mapped(self, label: int) -> str | None:
        """What the label map calls this number."""
        return self._shown.get(label)

    def classes(self) -> tuple[list[str], list[int]]:
        """All names and their ids, by id: those of the objects, and those of the map whose name and id are free."""
        id_of: dict[str, int] = {}
        taken: set[int] = set()
        for (name, label), _ in self.votes.most_common():
            if label is not None and name not in id_of and label not in taken:
                id_of[name] = label
                taken.add(label)
        counted = {name for name, _ in self.votes}
        for item in self.items:
            if item.shown not in id_of and item.id not in taken and item.shown not in counted:
                id_of[item.shown] = item.id
                taken.add(item.id)
        spare = max([0, *taken])
        for name in sorted(counted - set(id_of)):
            id_of[name] = spare = spare + 1
        names = sorted(id_of or {"object": 1}, key=lambda name: id_of.get(name, 1))
        return names, [id_of.get(name, 1) for name in names]
