"""Small XML files as trees, read safely: no document types, so no entities, and a limit to size and depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from maskrcnn.errors import DataError

LARGEST = 8 << 20  # bytes; one image's annotations take some thousand
MOST_ELEMENTS = 200_000
DEEPEST = 32


@dataclass(slots=True)
class Element:
    """One element. `text` is what stands directly in it, stripped by `value`."""

    tag: str
    text: list[str] = field(default_factory=list)
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """The children of that name."""
        return (child for child in self.children if child.tag == tag)

    def find(self, *tags: str) -> Element | None:
        """The first child of the first child ... of these names."""
        element: Element | None = self
        for tag in tags:
            element = None if element is None else next(element.all(tag), None)
        return element

    def value(self, *tags: str) -> str:
        """The text of `find(*tags)`; "" where it is missing."""
        element = self.find(*tags)
        return "" if element is None else "".join(element.text).strip()


def read_xml(file: Path) -> Element:
    """The root element. Raises `DataError`: unreadable, not XML, with a document type, too large, too deep."""
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"cannot be read ({error})", path=file) from error
    if len(data) > LARGEST:
        raise DataError(f"has more than {LARGEST >> 20} MB; is this the annotation of one image?", path=file)
    tree = _Tree(file)
    parser = expat.ParserCreate()
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.text
    parser.StartDoctypeDeclHandler = tree.doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: encodings that expat lacks
        raise DataError(f"is not valid XML ({error}); export it again", path=file) from error
    return tree.root.children[0]


class _Tree:
    """Takes expat's events."""

    def __init__(self, file: Path) -> None:
        self.root = Element("")
        self._file, self._open, self._count = file, [self.root], 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS or len(self._open) > DEEPEST:
            message = f"has more than {MOST_ELEMENTS} elements, or {DEEPEST} inside each other; is it an annotation?"
            raise DataError(message, path=self._file)
        element = Element(tag)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, tag: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].text.append(data)

    def doctype(self, *_: object) -> None:
        raise DataError("has a document type (<!DOCTYPE>), which can hide an attack; remove that line", path=self._file)
