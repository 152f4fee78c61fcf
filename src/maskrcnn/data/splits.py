"""Which images to train on and which to measure on: from split files, or drawn so that the class balance stays."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from maskrcnn.data.formats.layout import SPLITS, load_json
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.table.change import image_files, with_splits

LISTS = (".", "ImageSets/Main", "ImageSets/Segmentation", "ImageSets", "splits", "lists")
"""Folders of the data set that may hold train.txt, val.txt, test.txt."""
TABLES = ("split.json", "splits.json")
UNKNOWN = "lines of split lists that name no image"
TWICE = "images in two split lists"
NOWHERE = "images in no split list"
MOST_DRAWS = 20
MOST_BYTES = 1 << 28  # of a list; more is no list

# ---------------------------------------------------------------- drawn


def split_dataset(dataset: Dataset, fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """(train, held out): a seeded draw that keeps the share of each class, and of images with many objects.

    From the rarest class to the commonest, each class's images that are still free are dealt out in the wanted
    proportion (iterative stratification: Sechidis et al. 2011); images without objects come last. A class that is in
    two images or more is in both parts, unless its images hold other such classes that pull the other way. Neither
    part is empty.

    Args:
        fraction: share of the images to hold out; rare classes may need a few more.
        seed: the same seed and data give the same parts.

    Raises:
        DataError: fewer than two images, or a fraction outside of 0..1.
    """
    held = _held(dataset, fraction, seed)
    return dataset.take(np.flatnonzero(~held)), dataset.take(np.flatnonzero(held))


def hold_out(dataset: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """All images, in their order, the drawn ones (`split_dataset`) as split `val`, the others as `train`.

    Raises:
        DataError: a data set that has a validation split of its own, or as `split_dataset`.
    """
    if set(dataset.splits) - {"train"}:
        raise DataError(f"has splits already ({', '.join(dataset.splits)}); leave the held-out share away")
    held = _held(dataset, fraction, seed)
    return replace(dataset, records=with_splits(dataset.table, ["val" if drawn else "train" for drawn in held]))


def _held(dataset: Dataset, fraction: float, seed: int) -> np.ndarray:
    """(images,) bool."""
    if not 0 < fraction < 1:
        raise DataError(f"a share of {fraction:g} cannot be held out; give a number between 0 and 1")
    if len(dataset) < 2:
        raise DataError(f"{len(dataset)} image cannot be split in two; give more", path=dataset.name or None)
    return _best_draw(len(dataset), _presence(dataset), fraction, np.random.default_rng(seed))


def _presence(dataset: Dataset) -> np.ndarray:
    """(P, 3) int64: class, image, number of its objects; one row where there are any, sorted by class."""
    table = dataset.table
    real = ~table.crowd
    keys = table.labels[real] * len(dataset) + table.image_of[real]
    keys, counts = np.unique(keys, return_counts=True)
    return np.stack([*np.divmod(keys, len(dataset)), counts], axis=1)


def _best_draw(images: int, presence: np.ndarray, fraction: float, random: np.random.Generator) -> np.ndarray:
    """(images,) bool, held out. Large data is right the first time; in small data rare classes collide."""
    total = min(max(round(fraction * images), 1), images - 1)
    best, least = None, (0, 0)
    for _ in range(MOST_DRAWS):
        deal = _draw(total, images, presence, fraction, random)
        wrong = deal.lacking, abs(int(deal.held.sum()) - total)
        if best is None or wrong < least:
            best, least = deal, wrong
        if least == (0, 0):
            break
    assert best is not None
    return best.held


def _draw(total: int, images: int, presence: np.ndarray, fraction: float, random: np.random.Generator) -> _Deal:
    label, image, count = presence.T
    held, free = np.zeros(images, bool), np.ones(images, bool)
    members = np.split(np.arange(len(label)), np.flatnonzero(np.diff(label)) + 1)
    # A class of one image cannot be in both parts: it is better learnt than measured, and waits.
    for rows in sorted((rows for rows in members if len(rows) > 1), key=len):
        wanted = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        open_ = rows[free[image[rows]]]
        # Every n-th by number of objects, ties in random order: crowded images are shared out too.
        open_ = open_[np.lexsort([random.random(len(open_)), count[open_]])]
        chosen = _every(len(open_), wanted - int(held[image[rows]].sum()), random)
        held[image[open_[chosen]]] = True
        free[image[rows]] = False
    empty = np.ones(images, bool)
    empty[image] = False
    held[random.permutation(np.flatnonzero(empty))[: max(total - int(held.sum()), 0)]] = True
    deal = _Deal(held, label, image)
    deal.mend()
    deal.trim(total, random)
    return deal


def _every(length: int, wanted: int, random: np.random.Generator) -> np.ndarray:
    """`wanted` indices below `length`, evenly spaced, from a random start."""
    wanted = min(max(wanted, 0), length)
    return np.floor((np.arange(wanted) + random.random()) * length / max(wanted, 1)).astype(np.int64)


class _Deal:
    """Which images are held out, and how many images each class has on either side.

    Args:
        held: (images,) bool.
        label, image: (P,) int64, which class is in which image, sorted by class.
    """

    def __init__(self, held: np.ndarray, label: np.ndarray, image: np.ndarray) -> None:
        self.held = held
        self._label, self._image = label, image
        classes = int(label.max(initial=-1)) + 1
        self._total = np.bincount(label, minlength=classes)
        self._sides = np.stack([np.bincount(label[held[image] == side], minlength=classes) for side in (False, True)])
        self._by_image = np.argsort(image, kind="stable")
        self._starts = np.searchsorted(image[self._by_image], np.arange(len(held) + 1))

    def _classes_of(self, image: int) -> np.ndarray:
        return self._label[self._by_image[self._starts[image] : self._starts[image + 1]]]

    def _can_go(self, image: int) -> bool:
        """Whether no class loses its last image on this side, but one that has no other anywhere."""
        classes = self._classes_of(image)
        classes = classes[self._total[classes] > 1]
        return bool((self._sides[int(self.held[image]), classes] > 1).all())

    def _move(self, image: int) -> None:
        classes, side = self._classes_of(image), int(self.held[image])
        self._sides[side, classes] -= 1
        self._sides[1 - side, classes] += 1
        self.held[image] = not side

    @property
    def lacking(self) -> int:
        """Classes of two images or more that are on one side only."""
        return int(((self._total > 1) & (self._sides == 0).any(axis=0)).sum())

    def mend(self) -> None:
        """Give each class that is on one side only an image on the other, where no other class pays for it; and take
        classes of one image back from those held out."""
        lacking = np.flatnonzero((self._total > 1) & (self._sides == 0).any(axis=0))
        for label in lacking[np.argsort(self._total[lacking], kind="stable")].tolist():
            if self._sides[:, label].all():
                continue  # mended along with another
            first, stop = np.searchsorted(self._label, [label, label + 1])
            movable = (image for image in self._image[first:stop].tolist() if self._can_go(image))
            if (image := next(movable, None)) is not None:
                self._move(image)
        alone = self._image[self._total[self._label] == 1]
        for image in np.unique(alone[self.held[alone]]).tolist():
            if self._can_go(image):
                self._move(image)

    def trim(self, total: int, random: np.random.Generator) -> None:
        """Move images across until `total` are held out, those of common classes first: it changes least."""
        excess = int(self.held.sum()) - total
        side = excess > 0
        rarest = np.full(len(self.held), np.iinfo(np.int64).max)
        np.minimum.at(rarest, self._image, self._total[self._label])
        candidates = random.permutation(np.flatnonzero(self.held == side))
        for image in candidates[np.argsort(-rarest[candidates], kind="stable")].tolist():
            if excess == 0:
                break
            if self._can_go(image):
                self._move(image)
                excess -= 1 if side else -1


# ---------------------------------------------------------------- from files


def splits_from_files(dataset: Dataset, folder: Path) -> Dataset:
    """The data set with the splits that lists in its folder give; as it is where it has splits, or no list fits.

    Lists are train.txt, val.txt and test.txt, one image a line (a path, a file name, or a name without suffix), here
    or in ImageSets/Main and the like; or split.json, {"train": [names]}. Images in no list belong to no split.

    Raises:
        DataError: a split.json that is not JSON.
    """
    if dataset.splits or not folder.is_dir():
        return dataset
    lists = _lists(folder)
    if not lists:
        return dataset
    paths = image_files(dataset.table)[0]
    find, skipped = _Finder(paths), Skipped()
    splits = [""] * len(paths)
    for split, file, names in lists:
        for name in names:
            row = find(name)
            if row is None:
                skipped.add(UNKNOWN, file, None, None, f"{name!r:.100}")
            elif splits[row] in ("", split):
                splits[row] = split
            else:
                skipped.add(TWICE, file, None, None, f"{name!r:.100} stays in {splits[row]}", verb="kept")
    if any(splits):
        for path, split in zip(paths, splits, strict=True):
            if not split:
                skipped.add(NOWHERE, folder, None, None, path, verb="left out of all splits")
        dataset = replace(dataset, records=with_splits(dataset.table, splits))
    return replace(dataset, warnings=(*dataset.warnings, *skipped.sentences()))


def _lists(folder: Path) -> list[tuple[str, Path, list[str]]]:
    """(split, file, names) from the first place that has any."""
    for name in TABLES:
        if (file := folder / name).is_file() and (found := _from_json(file)):
            return found
    for place in LISTS:
        files = {file.stem.lower(): file for file in sorted((folder / place).glob("*.txt")) if file.is_file()}
        found = [(split, files[stem], _lines(files[stem])) for stem, split in SPLITS.items() if stem in files]
        if "train" not in files and "trainval" in files:  # VOC: both together; what `val` lists is not trained on
            others = {name for *_, names in found for name in names}
            both = files["trainval"]
            found.append(("train", both, [name for name in _lines(both) if name not in others]))
        if found:
            return found
    return []


def list_files(folder: Path) -> list[Path]:
    """All files from which `splits_from_files` may take splits."""
    lists = (file for place in LISTS for file in sorted((folder / place).glob("*.txt")))
    named = (file for file in lists if file.stem.lower() in (*SPLITS, "trainval"))
    return [file for file in (*(folder / name for name in TABLES), *named) if file.is_file()]


def _from_json(file: Path) -> list[tuple[str, Path, list[str]]]:
    content = load_json(file)
    if not isinstance(content, dict):
        return []
    known = ((SPLITS[key.lower()], names) for key, names in content.items() if key.lower() in SPLITS)
    return [
        (split, file, [name.strip() for name in names if isinstance(name, str) and name.strip()])
        for split, names in known
        if isinstance(names, list)
    ]


def _lines(file: Path) -> list[str]:
    try:
        if file.stat().st_size > MOST_BYTES:
            return []
        text = file.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"the split list cannot be read ({error}); check its permissions", path=file) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


class _Finder:
    """Finds the row of an image by what a list calls it."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._paths = [_posix(path) for path in paths]
        for row, path in enumerate(self._paths):
            name = PurePosixPath(path).name
            for key in {name, name.rpartition(".")[0] or name}:
                self._rows[key].append(row)

    def __call__(self, line: str) -> int | None:
        """The row, or None where none or several could be meant."""
        for text in dict.fromkeys((line, line.split()[0])):  # "name 1", as VOC's and the pets' lists have it
            name = _posix(os.path.normpath(text.replace("\\", "/")))
            bare = PurePosixPath(name).name
            for key in (bare, bare.rpartition(".")[0]):
                row = self._one(self._rows.get(key, ()), name)
                if row is not None:
                    return row
        return None

    def _one(self, rows: Iterable[int], name: str) -> int | None:
        rows = list(rows)
        if len(rows) > 1:  # the same name in several folders: the path decides
            stem = name.removesuffix(PurePosixPath(name).suffix)
            endings = tuple(f"/{text.lstrip('/')}" for text in (name, stem))
            rows = [
                row for row in rows if f"/{self._paths[row]}".endswith(endings) or self._stem(row).endswith(endings)
            ]
        return rows[0] if len(rows) == 1 else None

    def _stem(self, row: int) -> str:
        return f"/{self._paths[row]}".rpartition(".")[0]


def _posix(path: str) -> str:
    return path.replace("\\", "/")
