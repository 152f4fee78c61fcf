"""From a file, array or PIL image to the resized RGB tensor. The one place where images are decoded and resized:
training, evaluation, prediction and export call these functions.

Frames: the decoded image is the *original* frame (EXIF orientation applied); the resized one is the content of the
*input* frame, which `pad_to` extends with zeros at the right and bottom.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.errors import DataError
from maskrcnn.structures import Record, Span

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 500_000_000  # 1.5 GB as RGB; a file that claims more is taken for a decompression bomb

_STRIP_PIXELS = 4_000_000
_EXIF_ORIENTATION = 0x0112
_pillow_limit = threading.Lock()


def load_record(record: Record) -> Tensor:
    """The image of a record, (3, H, W) uint8 RGB, wherever it lies: a file, a part of one, or a function.

    Raises:
        DataError: as `load_image`; or the function failed, or gave no image.
    """
    if record.make is None:
        return load_image(record.path, record.span)
    try:
        made = record.make()
    except Exception as error:
        message = f"the function that makes this image failed ({type(error).__name__}: {error}); mend it"
        raise DataError(message, path=record.path, image=record.image_id) from error
    return to_image_tensor(made)


def load_image(path: str | Path, span: Span | None = None) -> Tensor:
    """Decode a file to (3, H, W) uint8 RGB, original frame. Strides are those of (H, W, 3), which resizing likes.

    Args:
        path: an image file, or a file that holds the encoded image in `span`.

    Raises:
        DataError: the file is missing, truncated, no image, or larger than 500 megapixels.
    """
    with opened(Path(path), span) as image:
        return _from_pil(image)


def image_size(path: str | Path, span: Span | None = None) -> tuple[int, int]:
    """(height, width) as a person sees it (EXIF applied), from the header alone. Raises `DataError` as `load_image`."""
    with opened(Path(path), span) as image:
        height, width = image.height, image.width
        return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def opened(path: Path, span: Span | None = None) -> Iterator[Image.Image]:
    """A file as a Pillow image, not decoded yet; whatever goes wrong inside the `with` becomes a `DataError`."""
    from PIL import UnidentifiedImageError

    try:
        with _open(path if span is None else BytesIO(span.read(path))) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"image is {image.width} x {image.height} pixels, more than the limit of 500 megapixels; "
                    "cut it into tiles",
                    path=path,
                )
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("image file not found; check the path in the annotations", path=path) from None
    except IsADirectoryError:
        raise DataError("is a folder, not an image file", path=path) from None
    except PermissionError:
        raise DataError("image file may not be read; check its permissions", path=path) from None
    except UnidentifiedImageError:
        what = "file is empty" if path.stat().st_size == 0 else "file is not an image that Pillow can read"
        raise DataError(f"{what}; replace or remove it", path=path) from None
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, ValueError, struct.error ...
        raise DataError(f"image is truncated or damaged ({error}); replace or remove it", path=path) from error


def to_image_tensor(image: Any) -> Tensor:
    """Any usual form of one image -> (3, H, W) uint8 RGB.

    Args:
        image: a path; a PIL image (EXIF obeyed); an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB order; or a
            tensor (1, H, W) or (3, H, W). Numbers are uint8, uint16 (full range), or floats in 0..1.

    Raises:
        DataError: another type, shape or range.
    """
    if isinstance(image, (str, Path)):
        return load_image(image)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
            raise DataError(f"image tensor has shape {tuple(image.shape)}; give (3, H, W)")
        # Values are checked in numpy; a permuted view costs nothing.
        return _from_array(image.detach().cpu().permute(1, 2, 0).numpy())
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
            raise DataError(f"image array has shape {image.shape}; give (H, W, 3) in RGB order, or (H, W)")
        return _from_array(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return _from_pil(image)
    raise DataError(f"cannot take {type(image).__name__} for an image; give a path, PIL image, array or tensor")


def resized_size(height: int, width: int, data: DataConfig) -> tuple[int, int]:
    """(height, width) of the content in the input frame. float64 arithmetic in torchvision's order of operations."""
    if data.resize == "square":
        scale = data.max_size / max(height, width)
    else:
        scale = min(data.min_size / min(height, width), data.max_size / max(height, width))
    bias = 0.5 if data.size_rounding == "nearest" else 0.0
    return max(1, int(height * scale + bias)), max(1, int(width * scale + bias))


def resize_image(image: Tensor, size: tuple[int, int], interpolation: Literal["antialias", "bilinear"]) -> Tensor:
    """Resize (3, H, W) uint8 to (3, *size).

    "antialias" gives uint8, filtered when it shrinks (Pillow's bilinear); "bilinear" gives float32 0..255, two taps
    however much it shrinks (torchvision's detection models).
    """
    if interpolation == "antialias":
        if tuple(image.shape[-2:]) == tuple(size):
            return image
        return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    image = image.float()
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]


def pad_to(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, h, w) -> (C, *size): content at the top left, zeros elsewhere."""
    height, width = image.shape[-2:]
    if height > size[0] or width > size[1]:
        raise ValueError(f"an image of {height} x {width} does not fit into {size[0]} x {size[1]}")
    padded = image.new_zeros((image.shape[0], *size))
    padded[:, :height, :width] = image
    return padded


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


def _from_pil(image: Image.Image) -> Tensor:
    orientation = _orientation(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = _wide_to_uint8(np.asarray(image))[:, :, None].repeat(3, axis=2)
    else:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns about P with alpha -> RGB
        pixels = _pixels(image if image.mode == "RGB" else image.convert("RGB"))
    return torch.from_numpy(_upright(pixels, orientation)).permute(2, 0, 1)  # (3, H, W)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an RGB image. In strips, because numpy's own way holds three copies of a large image."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        pixels[:] = np.asarray(image)
        return pixels
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the camera's rotation: EXIF orientation 1..8 on (H, W, 3)."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the transposition: 5 nothing more, 6 mirror x, 7 both, 8 mirror y; without it: 2 x, 3 both, 4 y.
    mirror_x, mirror_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def _wide_to_uint8(values: np.ndarray) -> np.ndarray:
    """Grey values beyond 8 bits -> uint8: integers are 16 bit at full range, floats 0..1 or else 0..255."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        top = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return np.clip(values * top + 0.5, 0, 255).astype(np.uint8)
    return (np.clip(values, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)


def _from_array(values: np.ndarray) -> Tensor:
    """(H, W, 1|3|4) -> (3, H, W) uint8, not sharing memory."""
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise DataError(f"float image has values from {low:g} to {high:g}; give floats in 0..1 or uint8 in 0..255")
        values = (values * 255 + 0.5).astype(np.uint8)
    elif values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise DataError(f"image has numbers of type {values.dtype}; give uint8, uint16, or floats in 0..1")
    pixels = np.broadcast_to(values[:, :, :3], (*values.shape[:2], 3)).copy(order="C")
    return torch.from_numpy(pixels).permute(2, 0, 1)
