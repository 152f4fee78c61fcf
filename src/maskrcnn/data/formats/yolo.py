"""YOLO: one .txt an image, a line an object, as fractions of the width and height of the image as a person sees it.

`class x y x y ...` is an outline, `class cx cy w h` a box; a file may have both. An image without lines, or without a
file, shows none of the classes. The folders are named in `data.yaml`, or are `images` and `labels`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.beside import split_of_place
from maskrcnn.data.formats.mask_images import in_threads, read_size
from maskrcnn.data.formats.pairs import IMAGE_SUFFIXES, image_files, subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.yolo_yaml import (
    NAME_FILES,
    Plan,
    bare_roots,
    bases,
    names_beside,
    read_plan,
    resolve,
    yaml_files,
)
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Polygons

NAME = "yolo"
LOOKS_FOR = "a data.yaml (names, train, val), folders images/ and labels/*.txt, or images beside .txt and classes.txt"
DEEPEST = 5  # levels of folders of images
MOST_BYTES = 16 << 20  # of a label file
MOST_LISTED = 64 << 20  # bytes of a list of images
MOST_UNNAMED = 2048  # classes, where no list says how many there are
ROUNDING = 1e-4  # outside the image by less: six digits' rounding
SLIGHTLY = 0.1  # outside the image by less: cut to it; by more: no fractions of this image


def sniff(path: Path) -> bool:
    """Whether there is a data.yaml, labels of numbers beside images, or images beside labels with a list of classes."""
    try:
        if yaml_files(path):
            return True
        return path.is_dir() and (any(_are_labels(labels) for _, labels in bare_roots(path)) or _is_flat(path))
    except OSError:
        return False


def read(path: Path) -> Dataset:
    """Open a data.yaml, or the folder of a YOLO data set with or without one.

    Raises:
        DataError: no YOLO labels here, a data.yaml that cannot be used, or no image that can be used.
    """
    skipped = Skipped()
    files = yaml_files(path)
    plan = read_plan(files[0]) if files else None
    for other in files[1:]:
        skipped.add("further YAML files", other, None, None, f"{files[0].name} is read; name another one to read that")
    images = dict(_planned(plan, skipped) if plan is not None else _unplanned(path))
    if not images:
        reason = f"; {skipped.sentences()[0]}" if skipped else ""
        raise DataError(f"no images with YOLO labels (.txt) here{reason}", path=path)
    labels = {image: file for image in images if (file := _label_file(image)) is not None}
    if not labels:
        image = next(iter(images))
        message = f"no image has a label file; the first, {image}, needs {_label_places(image)[0]}"
        raise DataError(message, path=path)
    names = plan.names if plan is not None else None
    if names is None:
        root = path if path.is_dir() else path.parent
        folders = dict.fromkeys(file.parent for file in labels.values())
        names = names_beside([root, *subfolders(root), *folders])
    classes = _Classes.of(names, plan is not None and plan.keypoints, skipped)
    found = []
    for (image, split), size in zip(images.items(), in_threads(read_size, images), strict=True):
        if isinstance(size, DataError):
            skipped.add("images that cannot be opened", image, None, None, size.message)
            continue
        page = Found(image, size, split=split, file=labels.get(image))
        if page.file is None:
            skipped.add("images without a label file", image, None, None, "taken to show no object", verb="kept")
        else:
            page.objects = classes.objects(page.file, page)
        found.append(page)
    return assemble(found, path=path, format=NAME, skipped=skipped, classes=classes.all())


# ---------------------------------------------------------------- which images


def _planned(plan: Plan, skipped: Skipped) -> Iterator[tuple[Path, str]]:
    """(image, split) as data.yaml says; an image in two splits belongs to the first."""
    taken: dict[str, str] = {}
    for split, places in plan.places.items():
        for written in places:
            place = resolve(plan, written)
            if place is None:
                skipped.add("places of images that are missing", plan.file, None, None, f"{split}: {written!r:.200}")
                continue
            for image in _images_at(place, plan, skipped):
                key = os.path.normpath(image)
                if key not in taken:
                    taken[key] = split
                    yield image, split
                elif taken[key] != split:
                    value = f"in {taken[key]} and {split}"
                    skipped.add("images that are in two splits", plan.file, image.name, None, value, verb="kept")


def _images_at(place: Path, plan: Plan, skipped: Skipped) -> Iterator[Path]:
    """Of a folder, a list, or the image itself."""
    if place.is_dir():
        yield from image_files(place, DEEPEST)
    elif place.suffix == ".txt":
        yield from _listed(place, plan, skipped)
    elif place.suffix.lower() in IMAGE_SUFFIXES:
        yield place


def _listed(file: Path, plan: Plan, skipped: Skipped) -> Iterator[Path]:
    """The images that a .txt names, one a line: relative to the list, or as `data.yaml` resolves them."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(MOST_LISTED).decode("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        skipped.add("lists of images that cannot be read", file, None, None, str(error))
        return
    roots = list(dict.fromkeys([file.parent, *bases(plan)]))
    for line in filter(None, (line.strip().replace("\\", "/") for line in lines)):
        places = (root / line for root in roots)
        image = next((place for place in places if place.is_file()), None) or resolve(plan, line)
        if image is None:
            skipped.add("images whose file is missing", file, None, None, f"{line!r:.200}")
        else:
            yield image


def _unplanned(path: Path) -> Iterator[tuple[Path, str]]:
    """(image, split) of folders `images` with `labels` beside them, or else of images with a .txt of the same name."""
    if path.is_dir():
        folders = [images for images, _ in bare_roots(path)]
        for image in (image for folder in folders for image in image_files(folder, DEEPEST)):
            yield image, split_of_place(image, path)
        if not folders:
            for image in image_files(path, 3):
                if image.with_suffix(".txt").is_file():
                    yield image, split_of_place(image, path)


def _label_places(image: Path) -> list[Path]:
    """Where an image's labels may be: the last folder `images` on its way becomes `labels`; or beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            return [Path(*parts[:index], "labels", *parts[index + 1 :]), beside]
    return [beside]


def _label_file(image: Path) -> Path | None:
    return next((file for file in _label_places(image) if file.is_file()), None)


def _are_labels(folder: Path, depth: int = 2) -> bool:
    """Whether the first .txt files hold numbers as labels do."""
    files = [file for file in islice(sorted(folder.glob("*.txt")), 16) if file.name not in NAME_FILES]
    if files:
        return all(map(_looks_right, files[:4]))
    return depth > 0 and any(_are_labels(below, depth - 1) for below in subfolders(folder))


def _is_flat(path: Path) -> bool:
    """Whether images have labels beside them, and a list of classes says that this is YOLO."""
    if names_beside([path, *subfolders(path)]) is None:
        return False
    pairs = (file for image in islice(image_files(path, 3), 64) if (file := image.with_suffix(".txt")).is_file())
    checked = [_looks_right(file) for file in islice(pairs, 4)]
    return bool(checked) and all(checked)


def _looks_right(file: Path) -> bool:
    with file.open("rb") as stream:
        lines = stream.read(1 << 12).splitlines()[:2]
    try:
        return all(
            len(line) != 1 and line[0] >= 0 for line in ([float(v) for v in text.split()] for text in lines) if line
        )
    except ValueError:
        return False


# ---------------------------------------------------------------- one label file


@dataclass(slots=True)
class _Classes:
    """Names of the classes, and what lines of labels mean. `known` is whether names were given."""

    names: dict[int, str]
    known: bool
    keypoints: bool
    skipped: Skipped

    @classmethod
    def of(cls, names: dict[int, str] | None, keypoints: bool, skipped: Skipped) -> _Classes:
        return cls(dict(names or {}), names is not None, keypoints, skipped)

    def all(self) -> list[str]:
        """Every name once, in the order of the numbers; without given names, all numbers up to the largest used."""
        if not self.known:
            return [str(number) for number in range(max(self.names, default=0) + 1)]
        return list(dict.fromkeys(self.names[number] for number in sorted(self.names)))

    def objects(self, file: Path, image: Found) -> list[Object]:
        """The objects of a label file; lines that cannot be used are counted."""
        try:
            with file.open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
        except OSError as error:
            self.skipped.add("label files that cannot be read", file, None, None, str(error))
            return []
        if len(data) > MOST_BYTES:
            self.skipped.add("label files of more than 16 MB", file, None, None, "no label of one image is as large")
            return []
        objects = []
        for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
            if line.strip():
                made = self._object(line, image, f"line {number}")
                if isinstance(made, Object):
                    objects.append(made)
                else:
                    self.skipped.add(made[0], file, None, f"line {number}", made[1])
        return objects

    def _object(self, line: str, image: Found, where: str) -> Object | tuple[str, str]:
        """What a line says, or what is wrong with it: (kind, value)."""
        try:
            values = np.array(line.split(), np.float64)
        except ValueError:
            values = np.array([np.nan])
        if not (np.abs(values) < 1e9).all():  # NaN fails too
            return "lines that are not numbers", f"{line.strip()!r:.60}"
        index, points = float(values[0]), values[1:]
        if not self._is_class(index):
            return "labels of an unknown class", f"class {index:g}"
        if self.keypoints and len(points) > 4:
            value = f"{len(points) - 4} numbers after the box"
            self.skipped.add(
                "objects whose keypoints are not read", image.file or image.path, None, where, value, "kept"
            )
            points = points[:4]
        if len(points) == 5:
            return "boxes with a sixth number (a confidence?)", f"{line.strip()!r:.80}"
        if len(points) < 4 or len(points) % 2:
            return "lines of neither a box nor an outline", f"{len(points)} numbers after the class"
        made = _box(points) if len(points) == 4 else points.reshape(-1, 2)
        outside = float(np.maximum(-made, made - 1).max())
        if outside > SLIGHTLY:
            return "objects whose coordinates are no fractions of the image", f"from {made.min():g} to {made.max():g}"
        if outside > ROUNDING:
            value = f"by {outside:.4f} of its side"
            self.skipped.add(
                "objects that reach out of their image", image.file or image.path, None, where, value, "cut"
            )
        made = np.clip(made, 0, 1) * [image.size[1], image.size[0]]
        name = self.names.setdefault(int(index), str(int(index)))
        return Object(name, box=made.ravel().tolist()) if len(points) == 4 else Object(name, Polygons((made,)))

    def _is_class(self, index: float) -> bool:
        if not index.is_integer():
            return False
        return int(index) in self.names if self.known else 0 <= index < MOST_UNNAMED


def _box(values: np.ndarray) -> np.ndarray:
    """cx cy w h -> (2, 2) corners."""
    centre, half = values[:2], np.abs(values[2:]) / 2
    return np.stack([centre - half, centre + half])
