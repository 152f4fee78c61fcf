"""What a reader skipped or repaired, and the image sizes it needs: shared by all formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskrcnn.errors import DataError

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height


class Tally:
    """Counts by kind, each with its first example: one sentence a kind, however many annotations it hits."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(
        self, kind: str, path: Path, *, image: object = None, annotation: object = None, value: object = None
    ) -> None:
        """`kind` completes "<count> ": "annotations skipped: ..."; the rest says where and what."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if kind not in self._first:
            parts = [str(path)]
            parts += [f"{name} {item}" for name, item in (("image", image), ("annotation", annotation)) if item is not None]
            parts += [f"value {_short(value)}"] if value is not None else []
            self._first[kind] = ", ".join(parts)

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{count} {kind}; first: {self._first[kind]}" for kind, count in self._counts.items())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def load_json(path: Path) -> Any:
    """The document. Raises `DataError` naming the place where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        message = f"not valid JSON ({error.msg}, line {error.lineno} column {error.colno}); write the file again"
        raise DataError(message, path=path) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the file cannot be read ({error})", path=path) from error


def peek(path: Path, whole: int = 1 << 25, part: int = 1 << 20) -> str:
    """The text of a small file, start and end of a large one; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= whole:
                return file.read().decode("utf-8", "replace")
            head = file.read(part)
            file.seek(size - part)
            return (head + file.read()).decode("utf-8", "replace")
    except OSError:
        return ""


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as a person sees it, from the header. Raises `DataError`."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
    except FileNotFoundError:
        raise DataError("the image file is missing", path=path) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"not a readable image ({error})", path=path) from error
    return (width, height) if sideways else (height, width)


def split_of(*names: str) -> str:
    """The split that the first telling name speaks of ("instances_train2017" -> "train"); "" when none does."""
    for name in names:
        for word in "".join(c if c.isalnum() else " " for c in name.lower()).split():
            split = SPLITS.get(word.rstrip("0123456789"))
            if split:
                return split
    return ""


SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "minival": "val",
    "test": "test",
    "testing": "test",
}


def stack_boxes(boxes: list) -> np.ndarray:
    """(N, 4) float32, also for none."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)
