"""What a user may point at -> images, one after the other. Files, folders, patterns, arrays, and lists of them."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskrcnn.data.sample import to_image_tensor
from maskrcnn.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".npy")
"""Files that count as images in a folder."""


def list_sources(sources: Any) -> Iterable[Any]:
    """Every image meant, not opened yet: paths for files, anything else as it came.

    Args:
        sources: a file, a folder (its images, folders inside it too, sorted), a pattern such as `photos/*.jpg`, an
            array, a tensor, a PIL image, or an iterable of these. Lists are looked through at once, so that a missing
            file is noticed before the first image is predicted; other iterables when their items are asked for.

    Raises:
        DataError: nothing at a path, a folder without images, or a pattern that fits no image.
    """
    if isinstance(sources, (str, Path)):
        return files_of(sources)
    if isinstance(sources, (list, tuple)):
        return [item for source in sources for item in list_sources(source)]
    if is_image(sources):
        return [sources]
    if isinstance(sources, Iterable):
        return (item for source in sources for item in list_sources(source))
    raise DataError(f"cannot take {type(sources).__name__} for images; give files, folders, patterns or arrays")


def iterate_images(sources: Any) -> Iterator[tuple[Path | None, Tensor]]:
    """(path or None, (3, H, W) uint8 RGB) of every image, in order. Raises `DataError` as `list_sources`, and for an
    image that cannot be read."""
    for item in list_sources(sources):
        yield item if isinstance(item, Path) else None, to_image_tensor(item)


def is_image(item: Any) -> bool:
    """Whether this is one image in memory, not several."""
    if isinstance(item, np.ndarray):
        return item.ndim < 4  # (B, H, W, 3) is a batch: iterate
    if isinstance(item, Tensor):
        return item.ndim < 4
    return hasattr(item, "getexif")


def files_of(source: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The file, or those of a folder or pattern that have one of the suffixes, frame2 before frame10.

    Raises:
        DataError: there is none.
    """
    path = Path(source)
    if path.is_dir():
        files = (file for file in path.rglob("*") if _counts(file.relative_to(path), suffixes) and file.is_file())
        found = sorted(files, key=_in_order)
        if not found:
            raise DataError(f"no image in this folder; looked for {' '.join(suffixes)}", path=path)
        return found
    if path.exists():
        return [path]
    if glob.has_magic(str(source)):
        matches = sorted((Path(name) for name in glob.glob(str(source), recursive=True)), key=_in_order)
        found = [file for file in matches if _counts(Path(file.name), suffixes) and file.is_file()]
        if not found:
            raise DataError(f"no image fits this pattern; looked for {' '.join(suffixes)}", path=path)
        return found
    raise DataError("no such file or folder; check the path", path=path)


def _in_order(path: Path) -> list[list[tuple[int, str]]]:
    """As people count."""
    parts = (re.split(r"(\d+)", part) for part in path.parts)
    return [[(int(text), "") if text.isdecimal() else (-1, text) for text in part] for part in parts]


def _counts(path: Path, suffixes: tuple[str, ...]) -> bool:
    """An image by its suffix, not hidden: macOS leaves `._photo.jpg` beside `photo.jpg`."""
    return path.suffix.lower() in suffixes and not any(part.startswith(".") for part in path.parts)
