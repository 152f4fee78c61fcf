"""CVAT's XML as a stream of events: images with their shapes, nothing else kept; no document types, so no entities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from maskrcnn.errors import DataError

LARGEST = 4 << 30  # bytes; memory follows what is kept of them
CHUNK = 1 << 20
DEEPEST = 16
LINES = ("tag", "points", "polyline", "skeleton", "cuboid")  # kinds of labels without an inside

Attributes = dict[str, str]


@dataclass(slots=True)
class Shape:
    """One element in an <image>: its tag, its XML attributes, and its <attribute> children."""

    tag: str
    fields: Attributes
    extra: Attributes = field(default_factory=dict)


@dataclass(slots=True)
class Header:
    """What the <meta> says: names of labels that have an inside, and how many images and tracks there are."""

    labels: list[str] = field(default_factory=list)
    tracks: int = 0
    images: int = 0


def parse(file: Path, on_image: Callable[[Attributes, list[Shape]], None]) -> Header:
    """Read a file once; `on_image` gets the XML attributes of each image, and its shapes.

    Raises:
        DataError: unreadable, not XML, with a document type, too large or too deep.
    """
    events = _Events(file, on_image)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = events.start
    parser.EndElementHandler = events.end
    parser.CharacterDataHandler = events.text
    parser.StartDoctypeDeclHandler = events.doctype
    done = 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                done += len(chunk)
                if done > LARGEST:
                    raise DataError(f"has more than {LARGEST >> 30} GB; export it in parts", path=file)
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except OSError as error:
        raise DataError(f"cannot be read ({error})", path=file) from error
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: encodings that expat lacks
        raise DataError(f"is not valid XML ({error}); export it again", path=file) from error
    return events.header


class _Events:
    """Takes expat's events. `_path` holds the open tags."""

    def __init__(self, file: Path, on_image: Callable[[Attributes, list[Shape]], None]) -> None:
        self.header = Header()
        self._file, self._on_image = file, on_image
        self._path: list[str] = []
        self._image: Attributes | None = None
        self._shapes: list[Shape] = []
        self._text: list[str] = []
        self._key = ""
        self._label, self._kind = "", ""

    def start(self, tag: str, fields: Attributes) -> None:
        if len(self._path) >= DEEPEST:
            raise DataError(f"has elements in each other {DEEPEST} deep; is it of CVAT?", path=self._file)
        self._path.append(tag)
        self._text.clear()
        if self._path[1:] == ["image"]:
            self._image, self._shapes = fields, []
        elif self._path[1:] == ["track"]:
            self.header.tracks += 1
        elif self._image is not None and len(self._path) == 3:
            self._shapes.append(Shape(tag, fields))
        elif self._image is not None and tag == "attribute" and len(self._path) == 4:
            self._key = fields.get("name", "")
        elif tag == "label" and "meta" in self._path:
            self._label, self._kind = "", ""

    def end(self, tag: str) -> None:
        text, depth = "".join(self._text).strip(), len(self._path)
        parent = self._path[-2] if depth > 1 else ""
        if self._image is not None and depth == 4 and tag == "attribute":
            self._shapes[-1].extra[self._key] = text
        elif self._path[1:] == ["image"]:
            self.header.images += 1
            if self._image is not None:
                self._on_image(self._image, self._shapes)
            self._image = None
        elif parent == "label" and tag == "name":
            self._label = text
        elif parent == "label" and tag in ("type", "parent"):  # a label with a parent is a point of a skeleton
            self._kind = "skeleton" if tag == "parent" else text
        elif tag == "label" and "meta" in self._path and self._label and self._kind not in LINES:
            self.header.labels.append(self._label)
        self._path.pop()
        self._text.clear()

    def text(self, data: str) -> None:
        if self._path[-1] in ("name", "type", "attribute"):
            self._text.append(data)

    def doctype(self, *_: object) -> None:
        raise DataError("has a document type (<!DOCTYPE>), which can hide an attack; remove that line", path=self._file)
