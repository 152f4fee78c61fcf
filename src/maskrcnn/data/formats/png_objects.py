"""One mask image per object: `ID/images/*.png` and `ID/masks/*.png`, as in the Data Science Bowl 2018 (nuclei).

Also with classes: `ID/masks/CLASS/*.png`, and `classes.txt` beside the folders ID or SPLIT, which names all classes in
the order of their labels. A mask whose name ends in `_crowd` is a region to ignore. Objects come in the order of their
file names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.layout import SPLITS, split_of_name
from maskrcnn.data.formats.mask_images import (
    WrongSizeError,
    as_one,
    in_threads,
    objects_of,
    read_labels,
    regions_as_rle,
    regions_of,
)
from maskrcnn.data.formats.pairs import MASK_SUFFIXES, image_files, subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import MaskFile

NAME = "png_objects"
LOOKS_FOR = "folders ID/images with ID/masks, one image and one mask an object, here or one folder down"
EMPTY, WRONG_SIZE = "empty masks", "masks of another size than their image"
UNREADABLE = "masks that cannot be read"
CLASSES, CROWD = "classes.txt", "_crowd"
LARGEST, MOST_CLASSES = 1 << 20, 100_000  # bytes and lines of classes.txt


@dataclass(slots=True)
class _Look:
    """One image with its objects, and what is wrong: kind, file, value."""

    size: tuple[int, int]
    objects: list[Object] = field(default_factory=list)
    problems: list[tuple[str, Path, str]] = field(default_factory=list)


def sniff(path: Path) -> bool:
    """Whether a folder holds ID/images with one image, and ID/masks."""
    return any(len(image_files(folder / "images")) == 1 for folder in _folders(path))


def read(path: Path) -> Dataset:
    """Open all images of a folder; masks are read once for their boxes and stay in their files.

    Raises:
        DataError: no image that can be used.
    """
    skipped = Skipped()
    images = []
    for folder in _folders(path):
        files = image_files(folder / "images")
        if len(files) == 1:
            images.append(files[0])
        else:
            skipped.add("folders without exactly one image", folder, None, None, f"{len(files)} images")
    name = "nucleus" if "nucle" in str(path.resolve()).lower() else "object"
    listed = _listed(path)
    classes = class_folders(listed)
    found = []
    looks = in_threads(lambda image: _look(image, name, classes), images)
    for image, look in zip(images, looks, strict=True):
        if isinstance(look, DataError):
            skipped.add("images that cannot be opened", image, None, None, look.message)
            continue
        for kind, file, value in look.problems:
            skipped.add(kind, file, None, None, value)
        above = image.parents[2]  # the folder of ID
        split = split_of_name(above.name) if above != path else None
        found.append(Found(image, look.size, look.objects, split or ""))
    others = sorted({o.name for page in found for o in page.objects} - set(listed))
    return assemble(found, path=path, format=NAME, skipped=skipped, classes=[*listed, *others] or [name])


def class_folders(classes: Sequence[str]) -> dict[str, str]:
    """Name of a folder that every file system takes -> class; in the order of the classes."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in classes:
        plain = re.sub(r'[\x00-\x1f/\\:*?"<>|\ud800-\udfff]', "_", name)[:60].strip()
        plain = re.sub(r"^\.|\.$", "_", plain) or "_"
        free, number = plain, 1
        while free.lower() in taken:
            number += 1
            free = f"{plain}_{number}"
        taken.add(free.lower())
        folders[free] = name
    return folders


def _listed(path: Path) -> list[str]:
    """The lines of classes.txt, each once; [] without one."""
    try:
        with (path / CLASSES).open("rb") as stream:
            lines = stream.read(LARGEST).decode("utf-8-sig", "replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))[:MOST_CLASSES]


def _folders(path: Path) -> list[Path]:
    """Folders ID. One that is called like a split holds whole masks by name: `mask_folder`."""
    below = subfolders(path)
    folders = [*below, *(inner for folder in below for inner in subfolders(folder))]
    return [
        folder
        for folder in folders
        if folder.name.lower() not in SPLITS and (folder / "masks").is_dir() and (folder / "images").is_dir()
    ]


def _masks(folder: Path, name: str, classes: dict[str, str]) -> list[tuple[Path, str]]:
    """Masks with their classes: `name` for those in no folder of a class."""
    files = [(file, name) for file in image_files(folder, 1, MASK_SUFFIXES)]
    for below in subfolders(folder):
        files += [(file, classes.get(below.name, below.name)) for file in image_files(below, 1, MASK_SUFFIXES)]
    return sorted(files, key=lambda pair: (pair[0].stem, pair[0]))


def _look(image: Path, name: str, classes: dict[str, str]) -> _Look | DataError:
    try:
        look = _Look(image_size(image))
    except DataError as error:
        return error
    for file, label in _masks(image.parents[1] / "masks", name, classes):
        try:
            objects = _object(file, look.size, label)
        except DataError as error:
            kind = WRONG_SIZE if isinstance(error, WrongSizeError) else UNREADABLE
            look.problems.append((kind, file, error.message))
            continue
        for found in objects:
            found.crowd = file.stem.endswith(CROWD)
        look.objects += objects
        if not objects:
            look.problems.append((EMPTY, file, "no pixel above 0"))
    return look


def _object(file: Path, size: tuple[int, int], name: str) -> list[Object]:
    """The object of a mask; [] where it is empty."""
    labels = read_labels(file, size)
    whole = as_one(labels)
    regions = regions_of(whole)
    masks = [MaskFile(file)] if labels.whole_in_file else regions_as_rle(whole, regions)
    return objects_of(regions, masks[: len(regions.values)], name)
