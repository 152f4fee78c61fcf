"""An uploaded file -> `Prepared`, ready for the network. Nothing is decoded before its header is within the limits."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from maskrcnn.data.sample import image_header
from maskrcnn.errors import DataError
from maskrcnn.serve.limits import Limits

if TYPE_CHECKING:
    from maskrcnn.predict.predictor import Predictor, Prepared

FORMATS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""What a server opens, by its first bytes; other formats have decoders that are not made for strangers' files."""


class RefusedError(Exception):
    """An upload that is not taken: `status` of HTTP and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def prepare_upload(file: BinaryIO, name: str, predictor: Predictor, limits: Limits) -> Prepared:
    """Decode and resize one upload.

    Args:
        file: from its start; at most `limits.bytes`.
        name: what the client calls it; used in sentences only.

    Raises:
        RefusedError: 415 for other kinds of files, 413 for too many pixels, 422 for damaged ones.
    """
    start = file.read(16)
    if not start:
        raise RefusedError(422, f"{name}: the file is empty; send an image")
    if not any(start.startswith(magics) for magics in FORMATS.values()):
        raise RefusedError(415, f"{name}: not an image of a known kind; send one of {', '.join(FORMATS)}")
    file.seek(0)
    # The readers of images open paths. The name is ours: nothing of the client's reaches the file system.
    with tempfile.NamedTemporaryFile(prefix="maskrcnn-", suffix=".upload") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        try:
            return _prepare(Path(copy.name), name, predictor, limits)
        except DataError as error:
            raise RefusedError(422, f"{name}: {error.message}") from error


def _prepare(path: Path, name: str, predictor: Predictor, limits: Limits) -> Prepared:
    header = image_header(path)
    height, width = header.height, header.width
    if not height or not width:
        raise RefusedError(422, f"{name}: the image has no pixels; send another one")
    if height * width * max(header.channels, 3) > 3 * limits.pixels:
        raise RefusedError(
            413, f"{name}: {width} x {height} pixels, more than {limits.megapixels:g} megapixels; make it smaller"
        )
    return replace(predictor.prepare(path), path=name)
