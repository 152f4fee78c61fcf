"""The image of a record as the bytes of an image file: copied where that may be, else a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from maskrcnn.data.decode import image_header, opened, orientation
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import load_record, record_values
from maskrcnn.data.write.images import suffix_of_content
from maskrcnn.data.write.lost import note
from maskrcnn.errors import DataError
from maskrcnn.structures import Record


def encoded_image(record: Record, copied: Mapping[str, str], lost: Skipped, *, turned: bool) -> tuple[bytes, str]:
    """The bytes, and what their format is called.

    Args:
        copied: Pillow's name of each format whose files are copied byte by byte -> what it is called here.
        lost: counts images that lose channels or depth.
        turned: whether files that an EXIF tag turns are copied too.

    Raises:
        DataError: the image cannot be read.
    """
    if record.make is None:
        kind, turn = _kind(record, copied)
        if kind and (turned or turn == 1):
            try:
                return (record.path.read_bytes() if record.span is None else record.span.read(record.path)), kind
            except OSError as error:
                raise DataError(f"image cannot be read ({error})", path=record.path) from error
    else:
        record = replace(record, make=cache(record.make))  # for its depth, and for its pixels
    pixels = load_record(record).permute(1, 2, 0).numpy()
    if not _fits_rgb8(record):
        note(lost, "reduced", "images to PNG of 8-bit RGB", record, None, "the format knows no other kind")
    return png_bytes(Image.fromarray(np.ascontiguousarray(pixels))), "png"


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _kind(record: Record, copied: Mapping[str, str]) -> tuple[str, int]:
    """What the file's format is called, "" where it is not to be copied, and its EXIF orientation."""
    try:
        with opened(record.path, record.span) as image:
            return copied.get(image.format or "", ""), orientation(image)
    except DataError:  # Pillow does not know every TIFF, nor NumPy's files
        image_header(record.path, record.span)  # raises where we do not know it either
    kind = suffix_of_content(record)[1:]
    return (kind if kind in copied.values() else ""), 1


def _fits_rgb8(record: Record) -> bool:
    """Whether 8-bit RGB keeps all of an image that was read."""
    if record.make is None:
        header = image_header(record.path, record.span)
        return header.dtype == "uint8" and header.channels in (1, 3)
    try:
        values = record_values(record)
    except DataError:  # a Pillow image of which it would drop bits
        return False
    return values.dtype == np.uint8 and values.shape[2] in (1, 3)
