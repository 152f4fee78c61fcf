"""TIFF with any depth, any number of channels and several pages, through tifffile.

tifffile alone unpacks no LZW, which is what most tools write; those strips go through Pillow's libtiff one by one.
`tiff_parts.py` reads windows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from maskrcnn.errors import DataError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
MAX_PAGES = 4096  # each is a channel at least

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: a smaller copy, a mask of another page
_ALPHA = (1, 2)  # ExtraSamples: opacity
_LEAST_SEGMENT = 1 << 26  # values of one tile, whatever the size of the image
_MOST_PACKED = 5000  # deflate packs 1032 bytes into one, LZW up to 2700
LZW = 5  # of `Compression`
# White is 0, palette, CMYK, YCbCr, Lab: with up to 8 bits Pillow turns them into what a person sees.
_FOR_PILLOW = (0, 3, 5, 6, 8)


class Pages:
    """The pages of a file that are one image: as large and of the same kind as the first, stacked as channels.

    Smaller copies (pyramids, thumbnails) and masks are left out.

    Args:
        file: an open `tifffile.TiffFile`.
        page: take this page alone; None: the first, and those that are like it.

    Attributes:
        header: (height, width, channels, dtype, whether the last channel is opacity), EXIF orientation applied.
        orientation: EXIF orientation 1..8, as stored.
        for_pillow: 8 bits or fewer in colours that Pillow knows, one page.
    """

    def __init__(self, file: Any, page: int | None = None) -> None:
        first = file.pages[page or 0]
        if not hasattr(first, "imagelength"):  # tifffile reads later pages in short where it can
            first = first.aspage()
        _check(first)
        self._file = file
        self._pages = [first, *(other for other in _others(file) if page is None and _alike(other, first))]
        for page in self._pages:
            _check_ends(page, file.filehandle.size)
        tag = first.tags.get("Orientation")
        self.orientation = int(tag.value) if tag is not None and isinstance(tag.value, int) else 1
        height, width = first.imagelength, first.imagewidth
        if self.orientation in (5, 6, 7, 8):
            height, width = width, height
        alone = len(self._pages) == 1
        extra = tuple(first.extrasamples or ())
        alpha = alone and bool(extra) and int(extra[-1]) in _ALPHA
        self.for_pillow = alone and _narrow(first) and (int(first.photometric) in _FOR_PILLOW or _packed(first))
        channels = first.samplesperpixel * len(self._pages)
        self.header = (height, width, channels, np.dtype(first.dtype).newbyteorder("=").name, alpha)

    def read(self) -> np.ndarray:
        """(H, W, C) as stored, not turned. Raises `DataError`, or what tifffile raises."""
        first = self._pages[0]
        samples = first.samplesperpixel
        stacked = np.empty((first.imagelength, first.imagewidth, samples * len(self._pages)), first.dtype)
        for i, page in enumerate(self._pages):
            planes = _read_lzw(page, self._file) if int(page.compression) == LZW else _read(page)
            # (planes, 1, H, W, samples of a pixel): one of the two is 1
            stacked[:, :, i * samples : (i + 1) * samples] = np.moveaxis(planes[:, 0], 0, 2).reshape(
                *stacked.shape[:2], samples
            )
        return stacked

    def alone(self) -> tuple[Any, Any] | None:
        """(page, file) of tifffile where the image is one page, neither turned nor for Pillow; else None."""
        one = len(self._pages) == 1 and self.orientation == 1 and not self.for_pillow
        return (self._pages[0], self._file) if one else None


@contextmanager
def opened(stream: BinaryIO, page: int | None = None) -> Iterator[Pages]:
    """The image in a TIFF, or one page of it, not decoded yet; closes the stream. Raises `DataError`, or what tifffile
    raises."""
    import tifffile

    with closing(stream), tifffile.TiffFile(stream) as file:
        if not len(file.pages):
            raise DataError("TIFF without a page; replace or remove it")
        if len(file.pages) > MAX_PAGES:
            raise DataError(f"TIFF has {len(file.pages)} pages, at most {MAX_PAGES} are read; split it")
        yield Pages(file, page)


def _others(file: Any) -> Iterator[Any]:
    return (file.pages[i] for i in range(1, len(file.pages)))


def _alike(page: Any, first: Any) -> bool:
    return (
        not int(page.subfiletype or 0) & (_REDUCED | _MASK)
        and page.shaped == first.shaped
        and page.dtype == first.dtype
        and page.planarconfig == first.planarconfig
    )


def _check(page: Any) -> None:
    """Sizes that make sense, before anything is allocated."""
    sides = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel, page.rowsperstrip)
    if not all(isinstance(side, int) for side in (*sides, page.tilewidth, page.tilelength, page.tiledepth)):
        raise DataError("image is truncated or damaged: a size has several values; replace or remove it")
    if page.dtype is None or np.dtype(page.dtype).kind not in "buif":
        raise DataError(f"TIFF with {page.bitspersample} bits of format {page.sampleformat}; save integers or floats")
    if page.imagedepth != 1 or min(page.shaped) < 1:
        raise DataError(f"TIFF page has shape {page.shape}; save it as pages of (H, W)")
    tile = page.tilewidth * page.tilelength * page.tiledepth * page.samplesperpixel if page.is_tiled else 0
    if tile > max(_LEAST_SEGMENT, 4 * page.size):
        raise DataError(f"TIFF tile of {page.tilewidth} x {page.tilelength} is larger than its image; save it again")


def _check_ends(page: Any, size: int) -> None:
    """Whether all strips are there, and may hold what they claim to: what is not there would become zeros."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    planes, _, height, width, _ = page.shaped
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    wanted = planes * -(-height // max(high, 1)) * -(-width // max(wide, 1))
    if len(ends) < wanted:
        raise DataError(f"image is truncated or damaged: {len(ends)} of {wanted} strips are there; replace it")
    if max(ends) > size:
        raise DataError(f"image is truncated or damaged: {size} of {max(ends)} bytes are there; replace or remove it")
    most = sum(page.databytecounts) * (1 if page.compression == 1 else _MOST_PACKED)
    if page.nbytes > most + _LEAST_SEGMENT:
        raise DataError(
            f"image is truncated or damaged: {page.nbytes} bytes of pixels cannot be packed in "
            f"{sum(page.databytecounts)}; replace or remove it"
        )


def _narrow(page: Any) -> bool:
    return isinstance(page.bitspersample, int) and page.bitspersample <= 8 and np.dtype(page.dtype).kind in "bu"


def _packed(page: Any) -> bool:
    """JPEG, or several pixels in a byte."""
    return int(page.compression) in (6, 7) or page.bitspersample < 8


def _read(page: Any) -> np.ndarray:
    """(planes, 1, H, W, samples). Raises `DataError` where only imagecodecs knows the compression."""
    try:
        return page.asarray(squeeze=False, maxworkers=1)
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise unpackable(error) from error


def unpackable(error: ValueError) -> DataError:
    """The remedy for a compression that only imagecodecs knows."""
    return DataError(f"{error}; pip install imagecodecs, or save it with LZW, deflate or no compression")


def _read_lzw(page: Any, file: Any) -> np.ndarray:
    """As `_read`. The page is told that it is not compressed, and given strips that Pillow has unpacked."""
    planes = np.zeros(page.shaped, page.dtype)
    page.compression = 1
    for index, (offset, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False)):
        _, (plane, _, top, left, _), (_, height, width, samples) = page.decode(None, index, _fullsize=False)
        if not length or plane >= len(planes):
            continue
        file.filehandle.seek(offset)
        unpacked = unlzw(file.filehandle.read(length), height, width * samples * np.dtype(page.dtype).itemsize)
        strip = page.decode(unpacked, index)[0][0]  # (height, width, samples), predictor undone
        room = planes[plane, 0, top : top + height, left : left + width]
        room[:] = strip[: room.shape[0], : room.shape[1]]
    return planes


def unlzw(data: bytes, height: int, row_bytes: int) -> bytes:
    """Unpack one strip: wrapped as a grey 8-bit TIFF of its own, (height, row_bytes)."""
    from PIL import Image

    # Tag, type (4: a 32-bit number), count, value; in the order of the tags.
    entries = [(256, row_bytes), (257, height), (258, 8), (259, LZW), (262, 1), (273, 0), (277, 1), (278, height)]
    entries += [(279, len(data))]
    start = 8 + 2 + 12 * len(entries) + 4
    table = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries)
    whole = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0) + data
    with Image.open(BytesIO(whole)) as image:
        return image.tobytes()
