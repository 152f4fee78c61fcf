"""What a row of a Hugging Face data set may hold for an image: PIL image, {"bytes", "path"}, path or array."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image

from maskrcnn.data.sample import MAX_PIXELS, image_size
from maskrcnn.errors import DataError


def is_number(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number of 64 bits."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(int(value)) < 1 << 62


def picture(value: Any) -> Any:
    """Anything that a row holds for an image, as a path, PIL image or array."""
    if isinstance(value, Mapping):
        data = value.get("bytes")
        return value["path"] if data is None else Image.open(BytesIO(data))
    return np.asarray(value, np.uint8) if isinstance(value, list) else value


def file_of(value: Any) -> Path | None:
    """The file of an image that is one."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else None
    return Path(value) if isinstance(value, (str, Path)) else None


def size_of(value: Any) -> tuple[int, int]:
    """(height, width) as a person sees it, from the header. Raises anything."""
    found = picture(value)
    if isinstance(found, (str, Path)):
        return image_size(found)
    if isinstance(found, np.ndarray):
        height, width = found.shape[:2]
        return int(height), int(width)
    if found.width * found.height > MAX_PIXELS:
        raise DataError(f"image is {found.width} x {found.height} pixels, more than the limit of 500 megapixels")
    turned = found.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (found.width, found.height) if turned else (found.height, found.width)
