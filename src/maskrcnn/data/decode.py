"""From the bytes of an image file to numbers: 8-bit RGB, or channels and depth as they are in the file.

Frame: the *original* one, the image as a person sees it (EXIF orientation applied). Pillow reads what it can; TIFF with
more than 8 bits or other than three channels is read in `tiff.py`, NumPy's files in `npy.py`.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from maskrcnn.data import npy, tiff
from maskrcnn.errors import DataError
from maskrcnn.structures import Span

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 500_000_000  # 1.5 GB as RGB; a file that claims more is taken for a decompression bomb
MAX_VALUES = 500_000_000  # pixels times channels where they are read as they are: 2 GB as float32

_STRIP_PIXELS = 4_000_000
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_PNG_TEXT = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks in which Pillow looks for an orientation
# Pillow's mode -> the mode that is read as it is; modes that are not here are colour, and become RGB.
_RAW_MODES = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGBA": "RGBA", "RGBa": "RGBA"}
_WIDE_MODES = {"I": "int32", "F": "float32"}
_pillow_limit = threading.Lock()


class _Unidentified(DataError):
    """Pillow does not know this kind of file."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says about its pixels.

    Attributes:
        height, width: as a person sees it (EXIF applied).
        channels: as in the file; a palette counts as RGB.
        dtype: NumPy's name of the numbers: "uint8", "uint16", "float32", ...
        alpha: the last channel is the opacity.
    """

    height: int
    width: int
    channels: int
    dtype: str
    alpha: bool = False

    @property
    def ordinary(self) -> bool:
        """Whether 8-bit RGB keeps everything but the opacity."""
        return self.dtype == "uint8" and (self.channels in (1, 3, 4) or self.alpha)


def image_size(path: str | Path, span: Span | None = None) -> tuple[int, int]:
    """(height, width) as a person sees it (EXIF applied), from the header alone. Raises `DataError` as `read_rgb8`."""
    path = Path(path)
    try:
        with opened(path, span) as image:
            return _pillow_size(image)
    except _Unidentified:
        if _kind(path, span) == "other":
            raise
    header = image_header(path, span)
    return header.height, header.width


def image_header(path: str | Path, span: Span | None = None) -> ImageHeader:
    """Size, channels and depth of an image file, without decoding it. Raises `DataError` as `read_raw`."""
    path = Path(path)
    kind = _kind(path, span)
    header = None
    if kind == "npy":
        with complaints(path):
            header = ImageHeader(*npy.header(path, span))
    elif kind == "tiff":
        with complaints(path), tiff.opened(_stream(path, span)) as pages:
            header = None if pages.for_pillow else ImageHeader(*pages.header)
    if header is not None:
        _check_pixels(header.height, header.width, path)
        return header
    with opened(path, span) as image:
        height, width = _pillow_size(image)
        channels, dtype, alpha = _pillow_channels(image)
        return ImageHeader(height, width, channels, dtype, alpha)


def read_rgb8(path: str | Path, span: Span | None = None) -> np.ndarray:
    """Decode a file to (H, W, 3) uint8 RGB.

    What is lost: opacity, channels after the third, pages after the first, and all but the upper 8 bits of 16. Floats
    are 0..1 or else 0..255.

    Raises:
        DataError: the file is missing, truncated, no image, or larger than 500 megapixels.
    """
    path = Path(path)
    try:
        with opened(path, span) as image:
            if not _misread(image):
                return pil_to_rgb8(image)
    except DataError:  # Pillow also opens TIFFs that it then cannot unpack
        if _kind(path, span) == "other":
            raise
    return values_to_rgb8(read_raw(path, span))


def _misread(image: Image.Image) -> bool:
    """TIFFs of 16 bits with a plane for each channel, which Pillow unpacks wrongly and without a word."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(284) == 2 and max(tags.get(258, (8,))) > 8  # PlanarConfiguration, BitsPerSample


def read_raw(path: str | Path, span: Span | None = None) -> np.ndarray:
    """Decode a file to (H, W, C): channels and numbers as in the file; NaN and infinity are left in.

    The pages of a TIFF are stacked as channels. The array may be a read-only view of the file.

    Raises:
        DataError: as `read_rgb8`; or more than 500 million values; or a compression that we cannot read.
    """
    path = Path(path)
    header = image_header(path, span)
    if header.height * header.width * header.channels > MAX_VALUES:
        raise DataError(
            f"image is {header.width} x {header.height} pixels of {header.channels} channels, more than the limit of "
            f"{MAX_VALUES // 1_000_000} million values; cut it into tiles",
            path=path,
        )
    kind = _kind(path, span)
    if kind == "npy":
        with complaints(path):
            return npy.read(path, span)
    if kind == "tiff":
        with complaints(path), tiff.opened(_stream(path, span)) as pages:
            if not pages.for_pillow:
                return upright(pages.read(), pages.orientation)
    with opened(path, span) as image:
        rawmode = _png_rawmode(image)
        if not rawmode:
            return pil_to_raw(image)
    return _read_png16(path, span, rawmode)


@contextmanager
def opened(path: Path, span: Span | None = None) -> Iterator[Image.Image]:
    """A file as a Pillow image, not decoded yet; whatever goes wrong inside the `with` becomes a `DataError`."""
    from PIL import UnidentifiedImageError

    try:
        with complaints(path), _open(path if span is None else BytesIO(span.read(path))) as image:
            _check_pixels(image.height, image.width, path)
            yield image
    except DataError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise _Unidentified(error.message, path=path) from None
        raise


@contextmanager
def complaints(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside the `with` becomes a `DataError`."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except DataError as error:
        raise error if error.path is not None else DataError(error.message, path=path) from error.__cause__
    except FileNotFoundError:
        raise DataError("image file not found; check the path in the annotations", path=path) from None
    except IsADirectoryError:
        raise DataError("is a folder, not an image file", path=path) from None
    except PermissionError:
        raise DataError("image file may not be read; check its permissions", path=path) from None
    except UnidentifiedImageError as error:
        what = "file is empty" if path.stat().st_size == 0 else "file is not an image that Pillow can read"
        raise DataError(f"{what}; replace or remove it", path=path) from error
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, ValueError, struct.error ...
        raise DataError(f"image is truncated or damaged ({error}); replace or remove it", path=path) from error


def _check_pixels(height: int, width: int, path: Path) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(
            f"image is {width} x {height} pixels, more than the limit of 500 megapixels; cut it into tiles", path=path
        )


def _stream(path: Path, span: Span | None) -> BinaryIO:
    return path.open("rb") if span is None else BytesIO(span.read(path))


def _kind(path: Path, span: Span | None) -> str:
    """ "npy", "tiff" or "other", by the first bytes. Raises `DataError`."""
    with complaints(path), path.open("rb") as stream:
        stream.seek(0 if span is None else span.start)
        start = stream.read(8 if span is None else min(8, span.length))
    if start.startswith(npy.MAGIC):
        return "npy"
    return "tiff" if start.startswith(tiff.MAGICS) else "other"


# ---------------------------------------------------------------- Pillow


def _open(path: Path | BytesIO) -> Image.Image:
    """Open lazily, with our pixel limit in place of Pillow's (which refuses from 179 megapixels on)."""
    from PIL import Image

    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        with _pillow_limit:
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = before


def _pillow_size(image: Image.Image) -> tuple[int, int]:
    """(height, width), EXIF applied, of an image that is not decoded yet."""
    tags = getattr(image, "tag_v2", None)
    # Pillow turns a TIFF by itself: when it opens the file or when it decodes, by its version.
    height, width = (tags[_TIFF_HEIGHT], tags[_TIFF_WIDTH]) if tags else (image.height, image.width)
    return (width, height) if orientation(image) >= 5 else (height, width)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8, without decoding where the file allows it. A decoded TIFF is upright already: 1."""
    from PIL import Image

    try:
        # A PNG may have it after the pixels, for which Pillow decodes the whole file; look before.
        early = image.format == "PNG" and "exif" not in image.info and not _has_late_text(image)
        exif = Image.Image.getexif(image) if early else image.getexif()
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _has_late_text(image: Image.Image) -> bool:
    """Whether a PNG that is not decoded yet has chunks after its pixels that may say how it is turned."""
    stream = getattr(image, "fp", None)
    if stream is None:  # decoded
        return True
    place = stream.tell()
    try:
        stream.seek(8)
        pixels = False
        while len(head := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            pixels = pixels or name == b"IDAT"
            if pixels and name in _PNG_TEXT:
                return True
            stream.seek(length + 4, 1)
        return False
    finally:
        stream.seek(place)


def _pillow_channels(image: Image.Image) -> tuple[int, str, bool]:
    """(channels, dtype, whether the last one is opacity) of what `pil_to_raw` makes."""
    bits = _png_rawmode(image)
    if bits:
        return (2 if bits == "LA;16B" else len(image.mode)), "uint16", image.mode == "RGBA"
    if image.mode in _WIDE_MODES or image.mode.startswith("I;16"):
        return 1, _WIDE_MODES.get(image.mode, "uint16"), False
    mode = _RAW_MODES.get(image.mode, "RGB")
    return len(mode), "uint8", mode.endswith("A")


def _png_rawmode(image: Image.Image) -> str:
    """How Pillow unpacks the 16-bit samples of a PNG that has several channels; "" for any other image."""
    tile = getattr(image, "tile", None)
    if image.format != "PNG" or not tile:
        return ""
    rawmode = tile[0][3]
    return rawmode if rawmode in ("LA;16B", "RGB;16B", "RGBA;16B") else ""


def pil_to_rgb8(image: Image.Image) -> np.ndarray:
    """A Pillow image -> (H, W, 3) uint8, upright."""
    turn = _load(image)
    if image.mode in _WIDE_MODES or image.mode.startswith("I;16"):
        pixels = _to_uint8(np.asarray(image))[:, :, None].repeat(3, axis=2)
    else:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns about P with alpha -> RGB
        pixels = _pixels(image if image.mode == "RGB" else image.convert("RGB"))
    return upright(pixels, turn)


def _load(image: Image.Image) -> int:
    """Decode, and only then ask for the EXIF orientation that is left to undo: Pillow turns a TIFF as it decodes it."""
    if image.format == "TIFF" and orientation(image) >= 5:
        image.filename = ""  # type: ignore[attr-defined]  # else it maps the file with the sides swapped (Pillow 13)
    image.load()
    return orientation(image)


def pil_to_raw(image: Image.Image) -> np.ndarray:
    """A Pillow image -> (H, W, C), upright: 16 bits and floats kept, a palette and colour spaces as RGB.

    Raises:
        DataError: a PNG of which Pillow would drop half of the bits.
    """
    if _png_rawmode(image):
        raise DataError("Pillow keeps 8 of the 16 bits of this PNG; give the path of the file")
    turn = _load(image)
    if image.mode in _WIDE_MODES or image.mode.startswith("I;16"):
        return upright(np.asarray(image)[:, :, None], turn)
    mode = _RAW_MODES.get(image.mode, "RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as in `pil_to_rgb8`
    return upright(_pixels(image if image.mode == mode else image.convert(mode)), turn)


def _read_png16(path: Path, span: Span | None, rawmode: str) -> np.ndarray:
    """(H, W, C) uint16, upright. Pillow keeps 8 of 16 bits of several channels, so it is asked for either half."""
    if rawmode == "LA;16B":  # four bytes a pixel, as RGBA has
        pixels, turn = _unpacked_as(path, span, "RGBA")
        return upright(pixels.view(">u2").astype(np.uint16), turn)
    upper, turn = _unpacked_as(path, span, rawmode)
    lower, _ = _unpacked_as(path, span, rawmode.replace("16B", "16L"))
    return upright((upper.astype(np.uint16) << 8) | lower, turn)


def _unpacked_as(path: Path, span: Span | None, rawmode: str) -> tuple[np.ndarray, int]:
    """(H, W, bands) uint8 of a PNG whose samples are unpacked in another way, and its EXIF orientation."""
    with opened(path, span) as image:
        codec, extents, offset, _ = image.tile[0]  # type: ignore[attr-defined]
        image.tile = [(codec, extents, offset, rawmode)]  # type: ignore[attr-defined]
        return _pixels(image), orientation(image)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, bands) uint8 of an image. In strips, because numpy's own way holds three copies of a large image."""
    pixels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip: Image.Image = image if rows >= image.height else image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(strip).reshape(bottom - top, image.width, -1)
    return pixels


# ---------------------------------------------------------------- numbers


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation: EXIF orientation 1..8 on (H, W, C)."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the transposition: 5 nothing more, 6 mirror x, 7 both, 8 mirror y; without it: 2 x, 3 both, 4 y.
    mirror_x, mirror_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def values_to_rgb8(values: np.ndarray) -> np.ndarray:
    """(H, W, C) of any numbers -> (H, W, 3) uint8: the first three channels, or the first as grey."""
    values = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, :1]
    return np.broadcast_to(_to_uint8(values), (*values.shape[:2], 3)).copy(order="C")


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Any numbers -> uint8: bits become 0 and 255, wider integers are 16 bit at full range, floats 0..1 or else
    0..255."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values * np.uint8(255)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float32, copy=False))
        top = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return np.clip(values * top + 0.5, 0, 255).astype(np.uint8)
    return (np.clip(values, 0, min(65535, np.iinfo(values.dtype).max)).astype(np.uint16) >> 8).astype(np.uint8)
