"""Files that name classes, and the classes of data that name them twice.

A label map of the TensorFlow Object Detection API (`.pbtxt`) is protobuf's text format: `item { id: 1 name: 'cup'
display_name: "Cup" }`. A text with one name a line and JSON are read too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.errors import DataError
from maskrcnn.text_proto import Entry, Message, ProtoError, Scalar, parse, quoted, read_text

BACKGROUND = {"background", "none_of_the_above", "__background__", "BG", "_background_"}
"""What id 0, or the first line of a list, is called where it is named; it is no class."""
FORMS = "a .pbtxt, a text with one name a line, or JSON: a list of names, or a table of id and name"
MOST_BYTES = 16 << 20
"""Of a file of names: LVIS's has 50 kB."""


@dataclass(frozen=True, slots=True)
class Item:
    """One class of a label map. `shown` is `display_name`, or else `name`.

    `listed`: the file has no ids, or ids from 0 on; `id` is then the place in the list, from 1.
    """

    id: int
    name: str
    shown: str
    listed: bool = False


def looks_like_label_map(file: Path) -> bool:
    """Whether the first word is `item`; never raises."""
    try:
        with file.open("rb") as stream:
            head = stream.read(1 << 12).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return bool(re.match(r"(?:\s|#[^\n]*\n)*item\s*[:{<\[]", head))


def read_label_map(file: Path) -> list[Item]:
    """The items in their order, without the background.

    Args:
        file: one of `FORMS`; by its name, and a text by what is in it.

    Raises:
        DataError: unreadable, or with a mistake, whose line is told.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(f"has more than {MOST_BYTES >> 20} MB, which no file of names has; give {FORMS}", path=file)
        if file.suffix.lower() == ".json":
            return _of_json(file)
        if file.suffix.lower() in (".pbtxt", ".prototxt") or looks_like_label_map(file):
            return _items(parse(read_text(file)))
        return _listed(file.read_text(encoding="utf-8-sig").splitlines(), file)
    except UnicodeDecodeError as error:
        raise DataError(f"is no text; give {FORMS}", path=file) from error
    except OSError as error:
        raise DataError(f"the label map cannot be read ({error})", path=file) from error
    except ProtoError as error:
        raise DataError(f"line {error.line} of the label map: {error.message}", path=file) from error


def _of_json(file: Path) -> list[Item]:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not readable as JSON ({error}); give {FORMS}", path=file) from error
    if isinstance(value, list):
        return _listed(value, file)
    if not isinstance(value, dict) or not all(re.fullmatch(r"\d{1,9}", key) for key in value):
        raise DataError(f"holds neither a list of names nor a table of id and name; give {FORMS}", path=file)
    names = {int(key): name for key, name in value.items()}
    if len(names) < len(value):
        raise DataError("has an id twice; give each class its own", path=file)
    ids = sorted(names)
    if names.get(0) not in (None, *BACKGROUND):  # numbered from 0: a list
        if ids != list(range(len(ids))):
            raise DataError("has ids from 0 on with gaps; number the classes from 1, 0 is the background", path=file)
        return _listed([names[i] for i in ids], file)
    _check_names([names[i] for i in ids], file)
    return [Item(i, names[i], names[i]) for i in ids if i]


def _listed(lines: Sequence[object], file: Path) -> list[Item]:
    """Names in the order of the classes; blank lines and a background on top are left out."""
    names = [line.strip() if isinstance(line, str) else line for line in lines]
    names = [name for name in names if name != ""]
    names = names[1:] if names[:1] and names[0] in BACKGROUND else names
    return [Item(i, name, name, listed=True) for i, name in enumerate(_check_names(names, file), 1)]


def _check_names(names: Sequence[object], file: Path) -> list[str]:
    """Each a text, none of them twice."""
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{repr(name)[:40]} is not the name of a class; give {FORMS}", path=file)
        if name in seen:
            raise DataError(f"class {name[:40]!r} is there twice; rename one of them", path=file)
        seen.add(name)
    return [str(name) for name in names]


def label_map_text(classes: Sequence[str], ids: Sequence[int]) -> str:
    """A label map that protobuf and `read_label_map` read."""
    return "\n".join(f"item {{\n  id: {i}\n  name: {quoted(n)}\n}}" for n, i in zip(classes, ids, strict=True)) + "\n"


def _items(message: Message) -> list[Item]:
    found: dict[int, Item] = {}
    for entry in message.entries:
        if entry.name != "item":
            raise ProtoError(entry.line, f"{entry.name[:40]!r} where `item` belongs")
        if not isinstance(entry.value, Message):
            raise ProtoError(entry.line, f"{entry.value.text[:40]!r} where '{{' belongs")
        item, line = _item(entry.value)
        if item.id == 0 and {item.name, item.shown} & BACKGROUND:
            continue
        if item.id < 1:
            raise ProtoError(line, f"id {item.id} of {item.shown!r}: ids begin at 1, 0 is the background; count from 1")
        if item.id in found:
            raise ProtoError(line, f"id {item.id} is there twice; give each class its own")
        found[item.id] = item
    return list(found.values())


def _item(message: Message) -> tuple[Item, int]:
    """An item, and the line of its id."""
    known = {entry.name: entry for entry in message.entries if isinstance(entry.value, Scalar)}
    if "id" not in known:
        raise ProtoError(message.end, "the item that ends here has no id; write `id: 1`")
    number = _id(known["id"])
    name = _text(known.get("name"))
    shown = _text(known.get("display_name")) or name
    if not shown:
        raise ProtoError(message.end, 'the item that ends here has no name; write `name: "..."`')
    return Item(number, name or shown, shown), known["id"].line


def _text(entry: Entry | None) -> str:
    return entry.value.text if entry is not None and isinstance(entry.value, Scalar) else ""


def _id(entry: Entry) -> int:
    word = _text(entry)
    try:
        number = int(word, 8) if re.fullmatch(r"[+-]?0[0-7]+", word) else int(word, 0)
    except ValueError:
        raise ProtoError(entry.line, f"id {word[:40]!r} is not an integer") from None
    if not -(1 << 31) <= number < 1 << 31:
        raise ProtoError(entry.line, f"id {word[:40]} does not fit into 32 bits")
    return number


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

    def known(self) -> bool:
        """Whether the label map names every object that was met, by the name that the object has."""
        return all(self._id.get(name) is not None and label == self._id[name] for name, label in self.votes)

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
