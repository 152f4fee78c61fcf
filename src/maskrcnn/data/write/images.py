"""The image of a record becomes a file in a folder: copied byte by byte where it is a file or a part of one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Set
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.pairs import IMAGE_SUFFIXES
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import load_record, opened, record_values
from maskrcnn.data.write.lost import note
from maskrcnn.errors import DataError
from maskrcnn.structures import Record

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif",
            "GIF": ".gif", "PPM": ".ppm"}  # fmt: skip
MAGIC = {b"\x93NUMPY": ".npy", b"II*\0": ".tif", b"MM\0*": ".tif", b"II+\0": ".tif", b"MM\0+": ".tif"}

LONGEST = 100  # characters of a name that we make


class ImageFolder:
    """One folder of images whose names differ by more than their suffix, in any case of letters.

    Args:
        lost: counts images that get another name or lose channels or depth.
        suffixes: lower case; an image file of another kind is written as 8-bit RGB PNG.
        plain: no white space in names, for formats that list names in text.
        separate: each image lies in `STEM/images` below the folder.
    """

    def __init__(
        self,
        folder: Path,
        lost: Skipped,
        suffixes: Set[str] = IMAGE_SUFFIXES,
        *,
        plain: bool = False,
        separate: bool = False,
    ) -> None:
        self._folder, self._lost, self._suffixes = folder, lost, suffixes
        self._plain, self._separate = plain, separate
        self._taken: set[str] = set()

    def put(self, record: Record) -> Path:
        """Write the image of a record; its bytes, and so its EXIF tags, stay as they are. Returns the file.

        Raises:
            DataError: the image cannot be read.
        """
        suffix, data = self._content(record)
        name = self._name(record, suffix)
        folder = self._folder / Path(name).stem / "images" if self._separate else self._folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(data, Path):
                shutil.copyfile(data, folder / name)
            elif isinstance(data, bytes):
                (folder / name).write_bytes(data)
            else:
                _save(data, folder / name)
        except FileNotFoundError:
            message = "image file not found; check the path in the annotations"
            raise DataError(message, path=record.path, image=record.image_id) from None
        return folder / name

    def _content(self, record: Record) -> tuple[str, Path | bytes | np.ndarray]:
        """The suffix, and the file to copy, its bytes, or pixels (H, W, C)."""
        if record.make is not None:
            values = record_values(record)
            ordinary = values.dtype == np.uint8 and values.shape[2] in (1, 3, 4)
            if ordinary or ".npy" not in self._suffixes:
                return ".png", values if ordinary else self._reduced(record)
            return ".npy", values
        suffix = record.path.suffix if record.span is None else ""
        if suffix.lower() not in IMAGE_SUFFIXES:
            suffix = suffix_of_content(record)
        if suffix.lower() not in self._suffixes:
            return ".png", self._reduced(record)
        if record.span is None:
            return suffix, record.path
        try:
            return suffix, record.span.read(record.path)
        except OSError as error:
            raise DataError(f"image cannot be read ({error})", path=record.path, image=record.image_id) from error

    def _reduced(self, record: Record) -> np.ndarray:
        note(self._lost, "reduced", "images to PNG of 8-bit RGB", record, None, "no suffix for its kind")
        return np.ascontiguousarray(load_record(record).permute(1, 2, 0).numpy())

    def _name(self, record: Record, suffix: str) -> str:
        """A free name. Parts of shards are called by their id: all have the same path."""
        stem, whole = record.path.stem, record.path.name
        if record.span is not None:
            stem = f"{record.image_id:012}"
            whole = stem + suffix
        elif record.make is not None:
            stem = re.sub(r"[^\w.-]+", "_", stem)[-LONGEST:].strip(".") or f"{record.image_id:012}"
            whole = stem + suffix
        if self._plain:
            stem = re.sub(r"\s+", "_", stem)
        free, number = stem, 1
        while free.lower() in self._taken:
            number += 1
            free = f"{stem}_{number}"
        self._taken.add(free.lower())
        if free + suffix != whole:
            self._lost.add("images", record.path, record.image_id, None, free + suffix, "renamed")
        return free + suffix


def suffix_of_content(record: Record) -> str:
    """ ".png" of an image file without a name that says so; "" for kinds that we know no suffix of."""
    start = b""
    try:
        if record.span is not None:
            start = record.span.read(record.path)[:8]
        else:
            with record.path.open("rb") as stream:
                start = stream.read(8)
    except OSError as error:
        raise DataError(f"image cannot be read ({error})", path=record.path, image=record.image_id) from error
    for magic, suffix in MAGIC.items():
        if start.startswith(magic):
            return suffix
    with opened(record.path, record.span) as image:
        return SUFFIXES.get(image.format or "", "")


def _save(pixels: np.ndarray, file: Path) -> None:
    """(H, W, C) as PNG where the suffix says so, else as NumPy's file."""
    from PIL import Image

    if file.suffix == ".npy":
        np.save(file, pixels, allow_pickle=False)
    else:
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file)
