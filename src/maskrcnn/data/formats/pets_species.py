"""Oxford-IIIT Pets with two classes, cat and dog. `pets` has a class per breed, and is what "auto" takes."""

from __future__ import annotations

from pathlib import Path

from maskrcnn.data.formats import pets
from maskrcnn.dataset import Dataset

NAME = "pets_species"
LOOKS_FOR = "what pets looks for; classes cat and dog"


def sniff(path: Path) -> bool:
    """Whether the folder holds images and trimaps."""
    return pets.sniff(path)


def read(path: Path) -> Dataset:
    """Open the pets as cats and dogs.

    Raises:
        DataError: no image that can be used.
    """
    return pets.read_pets(path, NAME, species=True)
