"""Pascal VOC: XML with boxes, one file an image, and masks as `SegmentationObject` PNGs; also LabelImg's loose XMLs.

Boxes. VOC counts pixels from 1 and includes the last one: xmin 1, xmax W is the whole width, so x0 = xmin - 1 and
x1 = xmax (VOC2012 development kit). LabelImg, Roboflow and most others write the corners as drawn, from 0 on; LabelImg
only turns a 0 into 1 (its issues 4 and 19). A data set is true VOC when it has ImageSets or SegmentationObject, or its
`<database>` says VOC; elsewhere a corner is what it says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.beside import Beside, annotation_files, split_of_place
from maskrcnn.data.formats.mask_images import in_threads, read_size
from maskrcnn.data.formats.pairs import subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.voc_masks import MASK_FOLDERS, VocMasks
from maskrcnn.data.formats.xml_tree import Element, read_xml
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Mask, Polygons

NAME = "voc"
LOOKS_FOR = (
    "Pascal VOC's or LabelImg's .xml (an <annotation> for each image), or SegmentationObject PNGs, here or below"
)
DEEPEST = 3  # folders: VOCdevkit/VOC2012/Annotations
LISTS = ("train", "val", "test", "trainval")
MOST_LISTED = 64 << 20  # bytes of a split file
_ROOT = re.compile(rb"<annotation[\s/>]")
_TRUE_VOC = re.compile(r"\bvoc|pascal", re.IGNORECASE)


def sniff(path: Path) -> bool:
    """Whether the first XML files of some folder are annotations of one image each, or there are VOC's mask folders."""
    try:
        looks = (_looks_right(file) for files in annotation_files(path, ".xml", DEEPEST) for file in islice(files, 3))
        return any(looks) or any(True for _ in _bare_roots(path))
    except OSError:
        return False


def read(path: Path) -> Dataset:
    """Open one XML, a folder of them, or one or several VOC data sets. Difficult objects become regions to ignore.

    Raises:
        DataError: nothing here, or no image that can be used.
    """
    skipped = Skipped()
    pages: list[_Page] = []
    for files in annotation_files(path, ".xml", DEEPEST):
        pages += _pages(files, path, skipped)
    for root in _bare_roots(path):
        pages += _bare_pages(root, path, skipped)
    if not pages and not skipped:
        raise DataError("no Pascal VOC annotations (.xml) here", path=path)
    sizes = in_threads(read_size, [page.image for page in pages])
    with_masks = any(page.masks for page in pages)
    found = []
    for page, size in zip(pages, sizes, strict=True):
        if isinstance(size, DataError):
            skipped.add("images that cannot be opened", page.file, page.image.name, None, size.message)
        elif with_masks and page.drawn and not page.masks:
            value = "has boxes only"
            skipped.add("images without masks in a data set with masks", page.file, page.image.name, None, value)
        else:
            found.append(page.found(size, skipped))
    return assemble(found, path=path, format=NAME, skipped=skipped)


# ---------------------------------------------------------------- which files


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        return bool(_ROOT.search(stream.read(1 << 12)))


def _bare_roots(path: Path, depth: int = DEEPEST - 1) -> Iterator[Path]:
    """Folders with SegmentationObject and without Annotations: their classes are in SegmentationClass."""
    names = {folder.name: folder for folder in subfolders(path)}
    if any(name in names for name in MASK_FOLDERS) and "JPEGImages" in names and "Annotations" not in names:
        yield path
    elif depth:
        for folder in names.values():
            yield from _bare_roots(folder, depth - 1)


@dataclass(frozen=True, slots=True)
class _Lists:
    """The split files of one data set. `split_of` maps stems; None: there are none."""

    split_of: dict[str, str] | None
    true_voc: bool
    masks: VocMasks | None

    @classmethod
    def of(cls, root: Path, skipped: Skipped) -> _Lists:
        masks = VocMasks.of(root, skipped)
        for name in ("Segmentation", "Main") if masks else ("Main", "Segmentation", "Layout"):
            split_of = _read_lists(root / "ImageSets" / name, skipped)
            if split_of:
                return cls(split_of, True, masks)
        return cls(None, masks is not None or (root / "ImageSets").is_dir(), masks)


def _read_lists(folder: Path, skipped: Skipped) -> dict[str, str]:
    """Stem of an image -> split; "" for those in trainval.txt alone."""
    split_of: dict[str, str] = {}
    for name in LISTS:
        file = folder / f"{name}.txt"
        if not file.is_file():
            continue
        try:
            with file.open("rb") as stream:
                lines = stream.read(MOST_LISTED).decode("utf-8", "surrogateescape").splitlines()
        except OSError as error:
            skipped.add("split files that cannot be read", file, None, None, str(error))
            continue
        for line in filter(None, map(str.split, lines)):
            split = "" if name == "trainval" else name
            if split_of.setdefault(line[0], split) != split and split:
                skipped.add("images that several splits name", file, line[0], None, split_of[line[0]], verb="kept")
    return split_of


# ---------------------------------------------------------------- pages: what one XML says


@dataclass(slots=True)
class _Drawn:
    """One <object>: its place among them, from 0, and what it says."""

    place: int
    name: str
    box: tuple[float, float, float, float] | None
    polygon: np.ndarray | None
    difficult: bool


@dataclass(slots=True)
class _Page:
    """One image."""

    image: Path
    file: Path
    split: str
    stated: tuple[int, int] | None
    drawn: list[_Drawn] = field(default_factory=list)
    masks: VocMasks | None = None

    def found(self, size: tuple[int, int], skipped: Skipped) -> Found:
        """With masks; what they lack is counted."""
        if self.stated not in (None, size):
            value = f"{self.stated} instead of {size} (height, width)"
            skipped.add("images of another size than annotated", self.file, self.image.name, None, value, verb="kept")
        page = Found(self.image, size, split=self.split, file=self.file)
        if self.masks is not None and self.file == self.image:
            page.objects = self.masks.objects(self.image, size)
            return page
        masks = self.masks.by_number(self.image, size) if self.masks is not None and self.drawn else {}
        for drawn in self.drawn:
            mask: Mask | None = None if drawn.polygon is None else Polygons((drawn.polygon,))
            found, area = masks.pop(drawn.place + 1, (mask, None))
            if drawn.difficult:
                value = "a region to ignore"
                skipped.add("objects marked as difficult", self.file, self.image.name, drawn.place, value, verb="kept")
            page.objects.append(Object(drawn.name, found, drawn.box, drawn.difficult, area))
        for number in masks:
            skipped.add("masks without an object in the XML", self.file, self.image.name, None, f"pixels of {number}")
        return page


def _pages(files: list[Path], path: Path, skipped: Skipped) -> Iterator[_Page]:
    """One folder's XML files."""
    here = files[0].parent
    lists = _Lists.of(Path(os.path.abspath(here)).parent, skipped)
    if path.is_file():  # asked for by name: it need not be in a list
        lists = replace(lists, split_of=None)
    beside = Beside(path)
    missing = set(lists.split_of or ())
    for file in files:
        try:
            root = read_xml(file)
        except DataError as error:
            skipped.add("XML files that cannot be read", file, None, None, error.message)
            continue
        if root.tag != "annotation":
            skipped.add("XML files of another kind", file, None, None, f"<{root.tag[:80]}>")
            continue
        missing.discard(file.stem)
        split = split_of_place(file, path)
        if lists.split_of is not None:
            if file.stem not in lists.split_of:
                skipped.add("images that no split file names", file, None, None, file.stem)
                continue
            split = lists.split_of[file.stem]
        page = _page(root, file, split, lists, beside, skipped)
        if page is not None:
            yield page
    for stem in sorted(missing):
        skipped.add("images of split files without an XML", here, stem, None, f"{stem}.xml")


def _page(root: Element, file: Path, split: str, lists: _Lists, beside: Beside, skipped: Skipped) -> _Page | None:
    name = root.value("filename") or root.value("path")
    image = beside(file, name, by_stem=True)
    if image is None:
        skipped.add("images whose file is missing", file, None, None, repr(name))
        return None
    width, height = (_number(root.value("size", side)) for side in ("width", "height"))
    stated = (int(height), int(width)) if height and width and height > 0 and width > 0 else None
    first = 1.0 if lists.true_voc or _TRUE_VOC.search(root.value("source", "database")) else 0.0
    masks = lists.masks if lists.masks is not None and lists.masks.has(image) else None
    page = _Page(image, file, split, stated, [], masks)
    for place, element in enumerate(root.all("object")):
        drawn = _drawn(element, place, first)
        if isinstance(drawn, str):
            skipped.add(drawn, file, image.name, place, _shown(element))
        else:
            page.drawn.append(drawn)
    return page


def _bare_pages(root: Path, path: Path, skipped: Skipped) -> Iterator[_Page]:
    """Images of a data set without XML: all that have masks."""
    lists = _Lists.of(root, skipped)
    if lists.masks is None:
        return
    beside = Beside(path)
    for file in lists.masks.files():
        image = beside(root / "JPEGImages" / file.name, file.name, by_stem=True)
        if image is None:
            skipped.add("images whose file is missing", file, None, None, file.stem)
        elif lists.split_of is None or file.stem in lists.split_of:
            split = split_of_place(root / "_", path) if lists.split_of is None else lists.split_of[file.stem]
            yield _Page(image, image, split, None, [], lists.masks)
        else:
            skipped.add("images that no split file names", file, None, None, file.stem)


# ---------------------------------------------------------------- one <object>


def _drawn(element: Element, place: int, first: float) -> _Drawn | str:
    """What it says, or the kind of problem. `first`: the number of the first pixel."""
    if element.value("deleted") == "1":
        return "objects marked as deleted"
    name = element.value("name")
    if not name:
        return "objects without a name"
    corners = [_number(element.value("bndbox", side)) for side in ("xmin", "ymin", "xmax", "ymax")]
    polygon = _polygon(element)
    box = None
    if all(corner is not None for corner in corners):
        xmin, ymin, xmax, ymax = (corner for corner in corners if corner is not None)
        # Corners may be swapped: some tools write them in the order in which they were drawn.
        (xmin, xmax), (ymin, ymax) = sorted((xmin, xmax)), sorted((ymin, ymax))
        box = (xmin - first, ymin - first, xmax, ymax)
    elif polygon is None:
        return "objects without a box of four numbers"
    return _Drawn(place, name, box, polygon, element.value("difficult") in ("1", "true", "True"))


def _polygon(element: Element) -> np.ndarray | None:
    """(P, 2) of <polygon>: <pt><x/><y/></pt> ... (the MIT LabelMe), or <x1/><y1/><x2/> ... (Roboflow)."""
    polygon = element.find("polygon")
    if polygon is None:
        return None
    pairs: list[Sequence[float | None]] = [[_number(pt.value(axis)) for axis in "xy"] for pt in polygon.all("pt")]
    if not pairs:
        values = {child.tag: _number("".join(child.text)) for child in polygon.children}
        count = 1
        while f"x{count}" in values:
            pairs.append((values[f"x{count}"], values.get(f"y{count}")))
            count += 1
    if len(pairs) < 3 or any(value is None for pair in pairs for value in pair):
        return None
    return np.array(pairs, np.float64)


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # NaN fails too


def _shown(element: Element) -> str:
    box = element.find("bndbox")
    corners = {} if box is None else {child.tag: "".join(child.text).strip() for child in box.children[:4]}
    return f"{element.value('name')!r:.60}, bndbox {corners!r:.100}"
