"""The image of a record as the bytes of an image file: copied where that may be, else a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from PIL import Image

from maskrcnn.data.decode import opened, orientation
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.structures import Record


def encoded_image(record: Record, copied: Mapping[str, str], *, turned: bool) -> tuple[bytes, str]:
    """The bytes, and what their format is called.

    Args:
        copied: Pillow's name of each format whose files are copied byte by byte -> what it is called here.
        turned: whether files that an EXIF tag turns are copied too.

    Raises:
        DataError: the image cannot be read.
    """
    if record.make is None:
        with opened(record.path, record.span) as image:
            kind, turn = copied.get(image.format or ""), orientation(image)
        if kind and (turned or turn == 1):
            try:
                return (record.path.read_bytes() if record.span is None else record.span.read(record.path)), kind
            except OSError as error:
                raise DataError(f"image cannot be read ({error})", path=record.path) from error
    pixels = load_record(record).permute(1, 2, 0).numpy()
    return png_bytes(Image.fromarray(np.ascontiguousarray(pixels))), "png"


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
