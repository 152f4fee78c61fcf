"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from maskrcnn.errors import DataError


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file beside its place and move it there when it is complete. Raises `DataError` when it cannot."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            partial.unlink()
        if not isinstance(error, OSError):
            raise
        raise DataError(
            f"cannot write: {error.strerror or error}; free some space or choose another folder", path=path
        ) from error
    return path


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """(H, W), (H, W, 3) or (H, W, 4) -> JPEG or PNG, by the suffix. Raises `DataError` as `write_whole`."""
    from PIL import Image

    options = {"format": "JPEG", "quality": 92} if path.suffix == ".jpg" else {"format": "PNG"}
    return write_whole(path, lambda file: Image.fromarray(pixels).save(file, **options))


def make_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises `DataError` when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make this folder: {error.strerror or error}; choose another one", path=folder
        ) from error
    return folder
