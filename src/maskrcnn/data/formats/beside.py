"""The image of an annotation file that describes one image: beside it, or in a sibling folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from maskrcnn.data.formats.layout import ImageFinder, split_of_name
from maskrcnn.data.formats.pairs import IMAGE_FOLDERS, IMAGE_SUFFIXES, subfolders

IMAGE_WORDS = ("image", "img", "jpeg", "photo", "picture")  # of folders: JPEGImages, img, train_images
_SUFFIXES = (*sorted(IMAGE_SUFFIXES), *sorted(suffix.upper() for suffix in IMAGE_SUFFIXES))


class Beside:
    """Finds images. Lists each folder once; keeps the listings of one folder of annotations.

    Args:
        root: the data set's folder, or its only file. Outside it only folders called `images`, `img` ... are searched:
            a wrong picture is worse than none.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root if root.is_dir() else root.parent))
        self._here: Path | None = None
        self._find = ImageFinder((), ())

    def __call__(self, file: Path, name: str, by_stem: bool = False) -> Path | None:
        """The image file, or None.

        Args:
            file: the annotation file.
            name: what it calls its image: a name, or a path with either kind of slash, maybe of another machine.
            by_stem: whether an image named like `file` goes before `name`.
        """
        if file.parent != self._here:
            self._here, self._find = file.parent, ImageFinder(_image_folders(file.parent, self._root), ())
        name = name.strip()
        plain = name.replace("\\", "/")
        named = self._find(name) or self._find(plain)
        if named is not None and not (by_stem and named.stem != file.stem):
            return named
        # The last part of a path that leads nowhere could be another folder's image, unless it is named like the file.
        last = PurePosixPath(plain)
        own = [last.name] if last.stem == file.stem else []
        found = (self._find(wanted) for wanted in (*own, *(file.stem + suffix for suffix in _SUFFIXES)))
        return next((place for place in found if place is not None), named)


def _image_folders(here: Path, root: Path) -> list[Path]:
    """Where the images of annotations in `here` may lie, nearest first."""
    here = Path(os.path.abspath(here))  # "." has a parent too
    split = split_of_name(here.name)
    siblings = sorted(
        (folder for folder in _for_images(here.parent, split, root) if folder != here),
        key=lambda folder: split_of_name(folder.name) != split,
    )
    cousins = [f / here.name for f in _for_images(here.parent.parent, split, root)]  # images/train of annotations/train
    parent = [here.parent] if here.parent.is_relative_to(root) else []
    found = [here, *_for_images(here, split, root), *siblings, *cousins, *parent]
    return [folder for folder in found if os.access(folder, os.R_OK | os.X_OK)]


def _for_images(place: Path, split: str | None, root: Path) -> list[Path]:
    """The folders in `place` that are named as holding images, and not those of another split."""
    inside = place.is_relative_to(root)
    names = ((folder, folder.name.lower()) for folder in subfolders(place))
    fitting = (f for f, name in names if name in IMAGE_FOLDERS or (inside and any(w in name for w in IMAGE_WORDS)))
    return [folder for folder in fitting if split_of_name(folder.name) in (None, split)]


def annotation_files(path: Path, suffix: str, depth: int) -> Iterator[list[Path]]:
    """The files with a suffix (".xml"), folder by folder down to `depth` below `path`, each list sorted, never empty.

    A file gives itself. What cannot be listed gives nothing.
    """
    if path.is_file():
        if path.suffix.lower() == suffix:
            yield [path]
        return
    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.name.lower().endswith(suffix))
    except OSError:
        return
    files = [path / name for name in names if name[0] != "." and (path / name).is_file()]
    if files:
        yield files
    if depth:
        for folder in subfolders(path):
            yield from annotation_files(folder, suffix, depth - 1)


def split_of_place(file: Path, root: Path) -> str:
    """ "train" of root/train/annotations/a.json: the nearest folder below `root` that is named like a split; or ""."""
    folders = file.relative_to(root).parts[:-1] if file.is_relative_to(root) else ()
    return next((split for name in reversed(folders) if (split := split_of_name(name))), "")
