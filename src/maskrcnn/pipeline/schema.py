"""What a message may hold: fields with type and default; the check of a parsed file against them; typed reading.

The table itself is in `messages.py`. A file is checked as a whole before anything is read from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.text_proto import Message, ProtoError, Scalar, parse, read_text

Tree = Mapping[str, Mapping[str, "Field"]]


class Field(NamedTuple):
    """One field of a message.

    `kind` is int, float, bool, text, an enum's name or a message's name; "any" is not looked into. `ignored`: why it
    has no effect here; it is reported unless the value is the default. `refused`: why it cannot be followed at all.
    `only`: the values that can be followed, all others are refused.
    """

    kind: str
    default: Any = None
    repeated: bool = False
    ignored: str = ""
    refused: str = ""
    only: tuple[Any, ...] = ()


def whole(default: int = 0, why: str = "", only: tuple[int, ...] = ()) -> Field:
    """An int32."""
    return Field("int", default, ignored=why, only=only)


def real(default: float = 0.0, why: str = "", only: tuple[float, ...] = ()) -> Field:
    """A float."""
    return Field("float", default, ignored=why, only=only)


def flag(default: bool = False, why: str = "", only: tuple[bool, ...] = ()) -> Field:
    """A bool."""
    return Field("bool", default, ignored=why, only=only)


def text(default: str = "", why: str = "") -> Field:
    """A string."""
    return Field("text", default, ignored=why)


def part(kind: str, why: str = "") -> Field:
    """A message."""
    return Field(kind, ignored=why)


def many(kind: str, why: str = "") -> Field:
    """A repeated field."""
    return Field(kind, repeated=True, ignored=why)


def other(reason: str) -> Field:
    """A message that cannot be followed."""
    return Field("any", refused=reason)


class Range(NamedTuple):
    """What a number must be: the test, and in words what it must do."""

    holds: Callable[[float], bool]
    wanted: str


POSITIVE = Range(lambda value: value > 0, "be positive")
NOT_NEGATIVE = Range(lambda value: value >= 0, "not be negative")
BELOW_1 = Range(lambda value: 0 <= value < 1, "lie in [0, 1)")


@dataclass(frozen=True)
class Schema:
    """Messages, enums with the number of each word, and the messages of whose parts only one may be given."""

    messages: Tree
    enums: Mapping[str, Mapping[str, int]]
    choices: frozenset[str]


def load(path: Path, schema: Schema, top: str) -> Message:
    """The parsed file, every name and type in it checked. Raises `ConfigError`: file, line, field, nearest name."""
    try:
        message = parse(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ProtoError as error:
        raise ConfigError(f"{path}:{error.line}: {error.message}") from error
    check(View(message, top, schema, path))
    return message


@dataclass(frozen=True)
class View:
    """A message read through its schema: defaults where a field is absent.

    Attributes:
        message: the parsed entries; empty where the file does not have the message.
        name: of the message in the schema.
        schema: the table.
        path: the file, for errors.
        where: dotted name of the message in the file.
        present: whether the file has it.
    """

    message: Message
    name: str
    schema: Schema
    path: Path
    where: str = ""
    present: bool = True

    @property
    def fields(self) -> Mapping[str, Field]:
        return self.schema.messages[self.name]

    def has(self, field: str) -> bool:
        """Whether the file gives it."""
        return self.message.first(field) is not None

    def get(self, field: str) -> Any:
        """The value, or the API's default. Repeated fields: a list."""
        known = self.fields[field]
        values = [self._value(field, entry.value) for entry in self.message.all(field)]
        if known.repeated:
            return values
        return values[0] if values else known.default

    def within(self, field: str, wanted: Range) -> Any:
        """The number, which must lie in this range. Raises `ConfigError`."""
        if not wanted.holds(value := self.get(field)):
            raise self.error(field, f"{value} must {wanted.wanted}")
        return value

    def part(self, field: str) -> View:
        """A message inside; an absent one reads as its defaults."""
        return next(iter(self.parts(field)), self._view(field, Message(line=self.message.line), False))

    def parts(self, field: str) -> list[View]:
        """All messages of a repeated field."""
        return [self._view(field, e.value, True) for e in self.message.all(field) if isinstance(e.value, Message)]

    def given(self) -> list[str]:
        """Names of the fields that the file gives, in its order, each once."""
        return list(dict.fromkeys(entry.name for entry in self.message.entries))

    def line(self, field: str = "") -> int:
        """The line of a field, or where its message begins."""
        entry = self.message.first(field)
        return entry.line if entry is not None else self.message.line

    def full(self, field: str) -> str:
        """Dotted name."""
        return f"{self.where}.{field}".strip(".")

    def error(self, field: str, sentence: str) -> ConfigError:
        """`FILE:LINE: full.name sentence`."""
        return ConfigError(f"{self.path}:{self.line(field)}: {self.full(field)} {sentence}".replace(" : ", ": "))

    def _view(self, field: str, message: Message, present: bool) -> View:
        return View(message, self.fields[field].kind, self.schema, self.path, self.full(field), present)

    def _value(self, field: str, value: Scalar | Message) -> Any:
        return value if isinstance(value, Message) else convert(self, field, value)


def check(view: View) -> None:
    """Names, types, repetitions. Raises `ConfigError` at the first mistake."""
    chosen: dict[str, int] = {}
    for entry in view.message.entries:
        where = f"{view.path}:{entry.line}"
        known = view.fields.get(entry.name)
        inside = f" in {view.where}" if view.where else ""
        if known is None:
            raise ConfigError(f"{where}: unknown field {entry.name!r}{inside}{nearest(entry.name, view.fields)}")
        first = view.message.first(entry.name)
        if first is not entry and first is not None and not known.repeated:
            raise ConfigError(f"{where}: {view.full(entry.name)} is there twice, first in line {first.line}; keep one")
        is_message = known.kind in view.schema.messages or known.kind == "any"
        if is_message != isinstance(entry.value, Message):
            wanted = "a message, `{ ... }`," if is_message else f"a value ({_described(view.schema, known.kind)})"
            raise ConfigError(f"{where}: {view.full(entry.name)} must be {wanted} here")
        if isinstance(entry.value, Scalar):
            convert(view, entry.name, entry.value)
            continue
        if view.name in view.schema.choices:
            chosen.setdefault(entry.name, entry.line)
            if len(chosen) > 1:
                one, other = list(chosen)[:2]
                raise ConfigError(
                    f"{where}: {view.where} has {one} (line {chosen[one]}) and {other}; only one may be there"
                )
        if known.kind != "any":
            check(view._view(entry.name, entry.value, True))


def convert(view: View, field: str, value: Scalar) -> Any:
    """The scalar as the field's type. Raises `ConfigError`."""
    kind = view.fields[field].kind
    word = value.text
    if kind == "text" and value.quoted:
        return word
    if kind == "bool" and not value.quoted and word in _BOOLS:
        return _BOOLS[word]
    number = None if value.quoted else whole_number(word)
    if kind == "int" and number is not None:
        if not -(1 << 31) <= number < 1 << 32:  # some fields are unsigned
            raise ConfigError(f"{view.path}:{value.line}: {view.full(field)}: {word[:40]} does not fit into 32 bits")
        return number
    if kind == "float" and not value.quoted and _number(word) is not None:
        return _number(word)
    words = view.schema.enums.get(kind, {})
    if not value.quoted and (named := word if word in words else _numbered(words, number)):
        return named
    shown = f'"{word}"' if value.quoted else word
    close = nearest(word, words)
    quote = "; put it into quotes" if kind == "text" else ""
    raise ConfigError(
        f"{view.path}:{value.line}: {view.full(field)}: {shown} is not {_described(view.schema, kind)}{close}{quote}"
    )


def _numbered(words: Mapping[str, int], number: int | None) -> str:
    """The enum's word with this number; "" without."""
    return next((word for word, its in words.items() if its == number), "")


def whole_number(word: str) -> int | None:
    """An integer, decimal, 0x1f or octal (045); None for another word."""
    if not re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,21}|[1-9]\d{0,20})", word):
        return None
    digits = word.lstrip("+-")
    base = 16 if "x" in word.lower() else 8 if digits.startswith("0") else 10
    return int(word, base)


_BOOLS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


def _number(word: str) -> float | None:
    try:
        number = float(re.sub(r"(?<=[\d.])[fF]$", "", word))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _described(schema: Schema, kind: str) -> str:
    if kind in schema.enums:
        return f"one of {', '.join(schema.enums[kind])}"
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "a string"}.get(kind, kind)


# ---------------------------------------------------------------- what cannot be followed


def check_supported(view: View) -> None:
    """Raises `ConfigError` for a field that would change the model in a way that cannot be followed."""
    for entry in view.message.entries:
        known = view.fields[entry.name]
        if known.refused:
            raise view.error(entry.name, f": {known.refused}")
        if known.only and (value := view.get(entry.name)) not in known.only:
            values = " or ".join(_shown(allowed) for allowed in known.only)
            raise view.error(entry.name, f"{_shown(value)} is not supported; {values} is")
        if isinstance(entry.value, Message) and known.kind in view.schema.messages:
            check_supported(view._view(entry.name, entry.value, True))


def ignored(view: View) -> Iterator[tuple[str, int, str]]:
    """(dotted name, line, reason) of each given field that has no effect, unless it says what is done anyway.

    Fields that were put in, without a line, are not the user's.
    """
    for entry in view.message.entries:
        known = view.fields[entry.name]
        if known.ignored:
            given = isinstance(entry.value, Message) or view._value(entry.name, entry.value) != known.default
            if given and entry.line:
                yield view.full(entry.name), entry.line, known.ignored
        elif isinstance(entry.value, Message) and known.kind in view.schema.messages:
            yield from ignored(view._view(entry.name, entry.value, True))


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
