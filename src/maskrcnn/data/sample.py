"""From a file, array or PIL image to a tensor. The one place where images become tensors, as `data/resize.py` is the
one where they are resized: training, evaluation, prediction and export call these functions.

Frames: the decoded image is the *original* frame (EXIF orientation applied); the resized one is the content of the
*input* frame, which `pad_to` extends with zeros.

Pixels: "rgb8" makes (3, H, W) uint8 RGB of everything; "raw" keeps channels and depth as they are: (C, H, W) float32 in
the numbers of the file, NaN and infinity as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from maskrcnn.data.decode import (
    MAX_PIXELS,
    ImageHeader,
    image_header,
    image_size,
    opened,
    orientation,
    pil_to_raw,
    pil_to_rgb8,
    read_raw,
    read_rgb8,
    upright,
    values_to_rgb8,
)
from maskrcnn.errors import DataError
from maskrcnn.structures import Record, Span

__all__ = [
    "MAX_PIXELS",
    "ImageHeader",
    "Pixels",
    "headers",
    "image_header",
    "image_size",
    "load_image",
    "load_record",
    "opened",
    "orientation",
    "record_values",
    "to_display",
    "to_image_tensor",
    "upright",
]

Pixels = Literal["rgb8", "raw"]

_STRETCH = (1.0, 99.0)  # percentiles shown as black and white
_STRETCH_PIXELS = 1_000_000  # looked at for them


def load_record(record: Record, pixels: Pixels = "rgb8", channels: int | None = None) -> Tensor:
    """The image of a record, wherever it lies: a file, a part of one, or a function.

    Args:
        record: what to load.
        pixels: "rgb8" gives (3, H, W) uint8, "raw" (C, H, W) float32.
        channels: how many "raw" must give; None: any.

    Raises:
        DataError: as `load_image`; the function failed, or gave no image; another number of channels.
    """
    if record.make is None and pixels == "rgb8":
        return load_image(record.path, record.span)
    if pixels == "rgb8":
        return to_image_tensor(_made(record))
    try:
        return _to_float(_with_channels(record_values(record), channels))
    except DataError as error:
        if error.image is not None:
            raise
        raise DataError(error.message, path=record.path, image=record.image_id) from error


def record_values(record: Record) -> np.ndarray:
    """The image of a record as numbers, (H, W, C) as in the file; may be read-only. Raises `DataError`."""
    return read_raw(record.path, record.span) if record.make is None else _raw_values(_made(record))


def _made(record: Record) -> Any:
    assert record.make is not None
    try:
        return record.make()
    except Exception as error:
        message = f"the function that makes this image failed ({type(error).__name__}: {error}); mend it"
        raise DataError(message, path=record.path, image=record.image_id) from error


def usual_channels(records: Sequence[Record]) -> int | None:
    """Channels of most images, by their headers; None where none can be read."""
    seen = Counter(header.channels for header in headers(records))
    return seen.most_common(1)[0][0] if seen else None


def headers(records: Sequence[Record], most: int = 32) -> list[ImageHeader]:
    """The headers of records evenly spread over all, those that can be read. Of records that are made, one is."""
    if not len(records):
        return []
    found: list[ImageHeader] = []
    for index in np.unique(np.linspace(0, len(records) - 1, most).astype(int)):
        record = records[int(index)]
        try:
            if record.make is not None:
                height, width, channels = (values := record_values(record)).shape
                return [*found, ImageHeader(height, width, channels, values.dtype.name)]
            found.append(image_header(record.path, record.span))
        except DataError:  # the checks tell, and the loader
            continue
    return found


def load_image(path: str | Path, span: Span | None = None, pixels: Pixels = "rgb8") -> Tensor:
    """Decode a file to (3, H, W) uint8 RGB, or (C, H, W) float32; original frame.

    Strides of "rgb8" are those of (H, W, 3), which resizing likes.

    Args:
        path: an image file, or a file that holds the encoded image in `span`.
        span: part of the file.
        pixels: "rgb8" or "raw".

    Raises:
        DataError: the file is missing, truncated, no image, or larger than 500 megapixels.
    """
    if pixels == "raw":
        return _to_float(read_raw(path, span))
    return torch.from_numpy(read_rgb8(path, span)).permute(2, 0, 1)  # (3, H, W)


def to_image_tensor(image: Any, pixels: Pixels = "rgb8", channels: int | None = None) -> Tensor:
    """Any usual form of one image -> (3, H, W) uint8 RGB, or (C, H, W) float32.

    Args:
        image: a path; a record; a PIL image (EXIF obeyed); an array (H, W) or (H, W, C), RGB order where it is colour;
            or a tensor (C, H, W). For "rgb8" C is 1, 3 or, of an array, 4, and numbers are uint8, uint16 (full range),
            or floats in 0..1; for "raw" they are those of the files that the model was trained on.
        pixels: "rgb8" or "raw".
        channels: how many "raw" must give; None: any.

    Raises:
        DataError: another type, shape or range.
    """
    if isinstance(image, Record):
        return load_record(image, pixels, channels)
    if pixels == "raw":
        path = image if isinstance(image, (str, Path)) else None
        return _to_float(_with_channels(_raw_values(image), channels, path))
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
        return torch.from_numpy(pil_to_rgb8(image)).permute(2, 0, 1)
    raise DataError(f"cannot take {type(image).__name__} for an image; give a path, PIL image, array or tensor")


def to_display(image: Any) -> np.ndarray:
    """Any image for people's eyes: (H, W, 3) uint8, a copy.

    8-bit grey and RGB as they are. Others show their first three channels, or the first as grey, each stretched so that
    one pixel in a hundred is black and one white.

    Args:
        image: as for `to_image_tensor`; tensors and arrays may have any number of channels and any range.

    Raises:
        DataError: it cannot be read.
    """
    if is_ordinary(image):
        return np.array(to_image_tensor(image).permute(1, 2, 0).numpy(), order="C")
    values = to_image_tensor(image, "raw").permute(1, 2, 0).numpy()
    values = values[:, :, :3] if values.shape[2] >= 3 else values[:, :, :1]
    step = max(1, int((values.shape[0] * values.shape[1] / _STRETCH_PIXELS) ** 0.5))
    low, high = np.percentile(values[::step, ::step], _STRETCH, axis=(0, 1))  # each (1 or 3,)
    scale = 255 / np.where(high > low, high - low, 1)
    shown = np.clip((values - low) * scale + 0.5, 0, 255).astype(np.uint8)
    return np.array(np.broadcast_to(shown, (*shown.shape[:2], 3)), order="C")


# ---------------------------------------------------------------- raw numbers


def _raw_values(image: Any) -> np.ndarray:
    """Any form of one image -> (H, W, C) of its own numbers."""
    if isinstance(image, (str, Path)):
        return read_raw(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return pil_to_raw(image)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.numel() == 0:
            raise DataError(f"image tensor has shape {tuple(image.shape)}; give (C, H, W)")
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    if not isinstance(image, np.ndarray):
        raise DataError(f"cannot take {type(image).__name__} for an image; give a path, PIL image, array or tensor")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.size == 0:
        raise DataError(f"image array has shape {image.shape}; give (H, W, C), or (H, W)")
    if image.dtype.kind not in "buif":
        raise DataError(f"image has numbers of type {image.dtype}; give integers or floats")
    return image


def _with_channels(values: np.ndarray, channels: int | None, path: str | Path | None = None) -> np.ndarray:
    """The same (H, W, C). Raises `DataError` where C is not `channels`."""
    if channels is not None and values.shape[2] != channels:
        raise DataError(
            f"image has {values.shape[2]} channels, {channels} are expected; leave it out, save it with {channels} "
            "channels, or train with data.pixels rgb8",
            path=path,
        )
    return values


def _to_float(values: np.ndarray) -> Tensor:
    """(H, W, C) of any numbers -> (C, H, W) float32, not sharing memory, NaN and infinity as 0."""
    with np.errstate(over="ignore"):  # too large for float32: infinity, then 0
        planes = np.array(values.transpose(2, 0, 1), np.float32, order="C")
    if values.dtype.kind == "f":
        np.nan_to_num(planes, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.from_numpy(planes)


# ---------------------------------------------------------------- 8-bit RGB


def _from_array(values: np.ndarray) -> Tensor:
    """(H, W, 1|3|4) -> (3, H, W) uint8, not sharing memory."""
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise DataError(f"float image has values from {low:g} to {high:g}; give floats in 0..1 or uint8 in 0..255")
        values = (values * 255 + 0.5).astype(np.uint8)
    elif values.dtype not in (np.uint8, np.uint16):
        raise DataError(f"image has numbers of type {values.dtype}; give uint8, uint16, or floats in 0..1")
    return torch.from_numpy(values_to_rgb8(values)).permute(2, 0, 1)


def is_ordinary(image: Any) -> bool:
    """Whether 8-bit RGB shows it as it is."""
    if isinstance(image, Record):
        if image.make is None:
            return image_header(image.path, image.span).ordinary
        return is_ordinary(_made(image))
    if isinstance(image, (str, Path)):
        return image_header(image).ordinary
    if isinstance(image, Tensor):
        return image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] in (1, 3)
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and (image.ndim == 2 or image.shape[-1] in (1, 3, 4))
    return not str(getattr(image, "mode", "")).startswith(("I", "F"))
