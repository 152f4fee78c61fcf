"""LVIS's lists beside COCO's objects: which classes were looked for in which image, and how common each class is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Federated

ODD_LISTS = "images whose LVIS lists are not lists of category ids, taken as empty"


def federated_of(
    categories: list[dict], images: Iterable[tuple[Any, int, dict]], label_of: Mapping[Any, int], skipped: Skipped
) -> Federated | None:
    """The lists by our image ids and labels; None where the classes have no frequency.

    Args:
        categories: in order of the labels.
        images: (file, id in the data set, the image as the file has it).
        label_of: label of each category id; ids that no class has are left out.
        skipped: notes what is wrong.
    """
    frequency = tuple(category.get("frequency") for category in categories)
    if not all(isinstance(letter, str) and letter in ("r", "c", "f") for letter in frequency):
        return None
    negative: dict[int, tuple[int, ...]] = {}
    not_exhaustive: dict[int, tuple[int, ...]] = {}
    for file, number, image in images:
        for name, kept in (("neg_category_ids", negative), ("not_exhaustive_category_ids", not_exhaustive)):
            given = image.get(name) or ()
            try:
                kept[number] = tuple(label_of[one] for one in given if one in label_of)
            except TypeError:
                skipped.add(ODD_LISTS, file, image.get("id"), None, f"{name} {given!r:.60}")
    return Federated(negative, not_exhaustive, tuple(map(str, frequency)))
