"""CVAT for images 1.1: XML with polygons, boxes, ellipses and masks; images beside it or in images/, also by subset.

Shapes of one group and label are one object of several parts. Points, lines, cuboids and tags have no inside: they
are left out and counted. A file is parsed twice, for the names of its images and then image by image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.data.formats.assemble import Found, assemble
from maskrcnn.data.formats.beside import annotation_files, split_of_place
from maskrcnn.data.formats.cvat_shapes import objects_of
from maskrcnn.data.formats.cvat_xml import Attributes, Shape, parse
from maskrcnn.data.formats.layout import MOST_PIXELS, ImageFinder, split_of_name
from maskrcnn.data.formats.pairs import IMAGE_SUFFIXES, subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import MAX_PIXELS, image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

NAME = "cvat"
LOOKS_FOR = "an .xml of CVAT for images (annotations with image elements), here or one folder down"
HEAD = 1 << 16
GLANCE = 32  # files of a folder that sniff looks into: VOC has thousands
SUFFIXES = (*sorted(IMAGE_SUFFIXES), *sorted(suffix.upper() for suffix in IMAGE_SUFFIXES))


def sniff(path: Path) -> bool:
    """Whether there is a CVAT XML: the file itself, or one in the folder, one level down."""
    return any(_looks_right(file) for files in annotation_files(path, ".xml", 1) for file in files[:GLANCE])


def read(path: Path) -> Dataset:
    """Open a CVAT XML file, or all of a folder.

    Raises:
        DataError: no valid XML, tracks of a video in place of images, or no image that can be used.
    """
    files = [file for files in annotation_files(path, ".xml", 1) for file in files if _looks_right(file)]
    if not files:
        raise DataError("no XML of CVAT here; export it as `CVAT for images 1.1`", path=path)
    skipped = Skipped()
    images: list[Found] = []
    labels: dict[str, None] = {}
    for file in files:
        names: list[str] = []
        header = parse(file, lambda fields, _, names=names: names.append(fields.get("name", "")))  # type: ignore[misc]
        if header.tracks and not header.images:
            message = f"holds {header.tracks} tracks of a video; export the task again as `CVAT for images 1.1`"
            raise DataError(message, path=file)
        labels |= dict.fromkeys(header.labels)
        reader = _Reader(file, split_of_place(file, path) or split_of_name(file.stem) or "", names, skipped, images)
        parse(file, reader.take)
    labels |= dict.fromkeys(sorted({o.name for image in images for o in image.objects}))
    return assemble(images, path=path, format=NAME, skipped=skipped, classes=list(labels) or None)


def _looks_right(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD).replace(b"\0", b"")  # UTF-16
    except OSError:
        return False
    return b"<annotations" in head and any(tag in head for tag in (b"<meta", b"<image", b"<track"))


@dataclass(slots=True)
class _Reader:
    """Takes the images of one file.

    Attributes:
        split: of images that name no subset.
        names: of all images in the file.
        images: what is found goes here.
    """

    file: Path
    split: str
    names: list[str]
    skipped: Skipped
    images: list[Found]
    _finders: dict[str, ImageFinder] = field(default_factory=dict)

    def take(self, fields: Attributes, shapes: list[Shape]) -> None:
        """One <image>."""
        name, subset = fields.get("name", ""), fields.get("subset", "")
        place = self._place(name, subset)
        if place is None:
            self.skipped.add("images whose file is missing", self.file, fields.get("id"), None, f"{name!r:.200}")
            return
        size = _size(fields)
        if size is None:
            try:
                size = image_size(place)
            except DataError as error:
                self.skipped.add("images that cannot be opened", place, None, None, error.message)
                return
        objects = objects_of(shapes, size, self.file, name, self.skipped)
        self.images.append(Found(place, size, objects, _split(subset) or self.split, file=self.file))

    def _place(self, name: str, subset: str) -> Path | None:
        if subset not in self._finders:
            self._finders[subset] = ImageFinder(_folders(self.file.parent, subset), self.names)
        find = self._finders[subset]
        frames = (name + suffix for suffix in SUFFIXES)  # of a video, CVAT writes frame_000001 for frame_000001.PNG
        return find(name) or next((place for frame in frames if (place := find(frame))), None)


def _folders(here: Path, subset: str) -> list[Path]:
    """Where images of a subset may lie, nearest first."""
    places = [here / "images", here, here.parent / "images"]
    own = [folder for place in places for folder in subfolders(place) if folder.name == subset]
    return [*own, *places]


def _split(subset: str) -> str:
    """CVAT's subsets have free names; `default` is none."""
    return split_of_name(subset) or ("" if subset.lower() == "default" else subset)


def _size(fields: Attributes) -> tuple[int, int] | None:
    """(height, width) as CVAT showed it, or None where that is no size."""
    try:
        height, width = int(fields["height"]), int(fields["width"])
    except (KeyError, ValueError):
        return None
    sound = 0 < min(height, width) <= max(height, width) < MOST_PIXELS and height * width <= MAX_PIXELS
    return (height, width) if sound else None
