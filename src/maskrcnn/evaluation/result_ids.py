"""Ids of a COCO file with results -> those of a data set, by the names of files and classes.

`maskrcnn predict` knows no data set and counts the images it was given; so do other programs. Where such a file says
which image and class each id means, names decide. Without names, or where they agree already, ids stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from maskrcnn.dataset import Dataset

Ids = dict[Any, int] | None
"""Id in the file -> id in the data set, for all that have a counterpart; None: they are the same."""


def ids_by_name(parts: Iterable[tuple[str, Any]], dataset: Dataset) -> tuple[Ids, Ids]:
    """Of images and of categories, from the top-level (key, value) of a file; a list may come as several."""
    images: dict[Any, str] = {}
    categories: dict[Any, str] = {}
    for key, value in parts:
        if key in ("images", "categories") and isinstance(value, list):
            names, field = (images, "file_name") if key == "images" else (categories, "name")
            rows = [row for row in value if isinstance(row, dict)]
            names.update((row["id"], row[field]) for row in rows if _usable(row.get("id"), row.get(field)))
    return _images(images, dataset), _categories(categories, dataset)


def _usable(number: Any, name: Any) -> bool:
    return isinstance(number, (int, str)) and isinstance(name, str) and bool(name)


def _categories(names: dict[Any, str], dataset: Dataset) -> Ids:
    known = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    return _unless_equal({number: known[name] for number, name in names.items() if name in known})


def _images(names: dict[Any, str], dataset: Dataset) -> Ids:
    """By the file's name; among several of one name by as many folders above it as tell them apart."""
    known: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for path, image_id in zip(dataset.table.paths, dataset.table.image_ids.tolist(), strict=True):
        parts = _parts(path)
        known.setdefault(parts[0], []).append((parts, image_id))
    claims: dict[int, list[tuple[int, Any]]] = {}
    for number, name in names.items():
        own = _parts(name)
        image = _only_longest([(_shared(own, parts), image_id) for parts, image_id in known.get(own[0], [])])
        if image is not None:
            claims.setdefault(image[1], []).append((image[0], number))
    found = {claim[1]: image_id for image_id, rivals in claims.items() if (claim := _only_longest(rivals))}
    # An image of another name must not count as the one that happens to have its number.
    return _unless_equal(found) if len(found) == len(names) else found or None


def _parts(path: str) -> tuple[str, ...]:
    """File first, then the folders above it."""
    return PurePosixPath(path.replace("\\", "/")).parts[::-1] or ("",)


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _only_longest(ranked: list[tuple[int, Any]]) -> tuple[int, Any] | None:
    """The pair with the largest first number; None where there is none, or several."""
    best = max((number for number, _ in ranked), default=0)
    longest = [pair for pair in ranked if pair[0] == best]
    return longest[0] if len(longest) == 1 else None


def _unless_equal(found: dict[Any, int]) -> Ids:
    return None if all(number == own for number, own in found.items()) else found
