"""What a check says: one thing that is wrong or worth knowing, where it is, and what will be done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from maskrcnn.table import Table
from maskrcnn.table.change import image_files

# Repairs, as `Problem.repair` names them. `data/repair.py` carries them out, on the records, never on files.
DROP_IMAGE = "the image is left out"
DROP_OBJECT = "the object is left out"
CUT_BOX = "the box is cut to the image"
TURN = "the annotations are turned as the photo is"
RENUMBER = "the image gets a new id"

UNUSABLE = ("missing image", "unreadable image", "wrong image size", "unreadable mask", "wrong mask size", "mask count")
"""Kinds that keep a whole image out. A broken mask is among them: without its object the image would teach that there
is nothing."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong or worth knowing; `str(problem)` is one line.

    Attributes:
        kind: a short fixed name, such as "unreadable image".
        message: value and remedy.
        path, image, annotation: where; None where it does not apply.
        severity: an "error" keeps an image or object out of training as it is, a "warning" does not.
        repair: what `repair_dataset` does about it, or None.
        row: the image's index in the data set that was checked.
        index: the object's index in its image.
    """

    kind: str
    message: str
    path: Path | None = None
    image: int | None = None
    annotation: int | None = None
    severity: Literal["error", "warning"] = "error"
    repair: str | None = None
    row: int | None = field(default=None, repr=False)
    index: int | None = field(default=None, repr=False)

    def __str__(self) -> str:
        where = [str(self.path)] if self.path else []
        where += [f"image {self.image}"] if self.image is not None else []
        where += [f"annotation {self.annotation}"] if self.annotation is not None else []
        repair = f" (repair: {self.repair})" if self.repair else ""
        return ": ".join([self.severity, self.kind, *([", ".join(where)] if where else []), self.message + repair])


class Places:
    """Where images and objects of a table are, as keyword arguments of `Problem`. No record is unpacked."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @cached_property
    def _paths(self) -> list[str]:
        return image_files(self._table)[0]

    @cached_property
    def _first(self) -> list[int]:
        return (self._table.counts.cumsum() - self._table.counts).tolist()

    @cached_property
    def _numbers(self) -> list[int]:
        return self._table.annotation_ids.tolist()

    @cached_property
    def _images(self) -> list[int]:
        return self._table.image_ids.tolist()

    @cached_property
    def _image_of(self) -> list[int]:
        return self._table.image_of.tolist()

    def image(self, row: int) -> dict:
        """Of an image."""
        return {"path": Path(self._paths[row]), "image": self._images[row], "row": row}

    def object(self, number: int) -> dict:
        """Of an object, counted through the whole table."""
        row = self._image_of[number]
        return {**self.image(row), "annotation": self._numbers[number], "index": number - self._first[row]}
