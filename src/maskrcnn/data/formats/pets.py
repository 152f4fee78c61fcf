"""Oxford-IIIT Pets: `images/NAME.jpg` and `annotations/trimaps/NAME.png`; one class per breed.

A trimap says 1 pet, 2 background, 3 border. The border, a few pixels wide, is not part of the mask. `pets_species`
opens the same folder with the classes cat and dog. The boxes of heads in `annotations/xmls` are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.mask_images import in_threads, masks_of, objects_of, read_labels, regions_of
from maskrcnn.data.formats.pairs import subfolders
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

NAME = "pets"
LOOKS_FOR = "images/ and annotations/trimaps/ of Oxford-IIIT Pets, here or one folder down"
PET = 1  # in a trimap
SPECIES = {1: "cat", 2: "dog"}
SPLIT_FILES = {"trainval.txt": "train", "test.txt": "test"}
NOTE = "the border of the trimaps (value 3) is left out of the masks"


@dataclass(frozen=True, slots=True)
class _Look:
    """One image: its size, and the pet in its trimap, if there is one."""

    size: tuple[int, int]
    objects: list[Object]


def sniff(path: Path) -> bool:
    """Whether the folder, or one in it, holds images and trimaps."""
    return _root(path) is not None


def read(path: Path) -> Dataset:
    """Open the pets with a class per breed, as the file names say, numbered as in list.txt.

    Raises:
        DataError: no image that can be used.
    """
    return read_pets(path, NAME, species=False)


def read_pets(path: Path, format: str, species: bool) -> Dataset:
    """Open the pets.

    Args:
        species: classes cat and dog in place of breeds.

    Raises:
        DataError: no image that can be used.
    """
    root = _root(path)
    if root is None:
        raise DataError("no folders images and annotations/trimaps here; unpack both archives in one place", path=path)
    skipped, lists = Skipped(), root / "annotations"
    listed = {name: (breed, kind) for name, breed, kind in _lines(lists / "list.txt", skipped)}
    splits = {name: split for file, split in SPLIT_FILES.items() for name, _, _ in _lines(lists / file, skipped)}
    files = [file for file in sorted((lists / "trimaps").glob("*.png")) if file.name[0] != "."]  # not macOS's ._NAME
    names = [file.stem for file in files]
    if species:
        class_of, ids = _species(names, listed), {name: number for number, name in SPECIES.items()}
    else:
        class_of, ids = {name: _breed(name) for name in names}, _breed_ids(names, listed)
    places = [root / "images" / f"{name}.jpg" for name in names]
    images = []
    looks = in_threads(lambda job: _look(*job), zip(places, files, class_of.values(), strict=True))
    for image, file, look in zip(places, files, looks, strict=True):
        if isinstance(look, DataError):
            skipped.add("images or trimaps that cannot be used", look.path or file, None, None, look.message)
            continue
        if not look.objects:
            skipped.add("trimaps without a pet", file, None, None, "no pixel is 1", verb="kept")
        images.append(Found(image, look.size, look.objects, splits.get(file.stem, "")))
    dataset = assemble(
        images, path=path, format=format, skipped=skipped, classes=list(ids), category_ids=list(ids.values())
    )
    return replace(dataset, warnings=(NOTE, *dataset.warnings))


def _root(path: Path) -> Path | None:
    for root in (path, *subfolders(path)):
        if (root / "annotations" / "trimaps").is_dir() and (root / "images").is_dir():
            return root
    return None


def _look(image: Path, trimap: Path, name: str) -> _Look | DataError:
    try:
        size = image_size(image)
        labels = read_labels(trimap, size)
        pet = replace(labels, pixels=(labels.pixels == PET).view(np.uint8))
        regions = regions_of(pet)
        return _Look(size, objects_of(regions, masks_of(pet, regions), name))
    except DataError as error:
        return error


def _lines(file: Path, skipped: Skipped) -> Iterator[tuple[str, int, int]]:
    """Name, number of the breed and number of the species of each line: `Abyssinian_100 1 1 1`."""
    if not file.is_file():
        return
    for line in file.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) >= 3 and words[1].isdecimal() and len(words[1]) < 10 and words[2] in ("1", "2"):
            yield words[0], int(words[1]), int(words[2])
        else:
            skipped.add("lines that are not NAME CLASS-ID SPECIES BREED", file, None, None, f"{line!r:.100}")


def _breed(name: str) -> str:
    return name.rpartition("_")[0] or name


def _breed_ids(names: list[str], listed: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Breed -> number in list.txt, ascending; counted in order of the names where the list does not tell them apart."""
    ids = {_breed(name): number for name, (number, _) in listed.items()}
    breeds = sorted({*ids, *map(_breed, names)}, key=lambda breed: (breed.lower(), breed))
    if len(set(ids.values())) < len(breeds):
        return {breed: number for number, breed in enumerate(breeds, 1)}
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _species(names: list[str], listed: dict[str, tuple[int, int]]) -> dict[str, str]:
    """Image -> cat or dog: by its line, else by another of its breed, else by the name, which cats have capitalised."""
    of_breed = {_breed(name): kind for name, (_, kind) in listed.items()}
    guess = {name: of_breed.get(_breed(name), 1 if name[0].isupper() else 2) for name in names}
    return {name: SPECIES[listed[name][1] if name in listed else guess[name]] for name in names}
