"""Parts of one large image, read as they are asked for: a TIFF strip by strip or tile by tile, an array by slicing.

Frame: the *original* one; a window is (top, left, bottom, right) in its pixels. Of a TIFF only the strips or tiles
under the window are decoded; every other file, and a TIFF that Pillow must read, is decoded whole, once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskrcnn.data import tiff
from maskrcnn.data.decode import complaints, values_to_rgb8
from maskrcnn.data.sample import Pixels, to_image_tensor
from maskrcnn.data.tiff_parts import Parts
from maskrcnn.structures import Record

Window = tuple[int, int, int, int]
"""(top, left, bottom, right), ends excluded."""

_MOST_BAND = 1 << 28  # bytes of the rows that are kept; of a wider image each window is decoded by itself
_STRIP_ROWS = 256


class Windows:
    """An image in memory, or a memory-mapped one.

    Attributes:
        size: (height, width).
        path: the file, when there is one.
    """

    def __init__(self, values: np.ndarray | Tensor, path: str | None = None) -> None:
        """`values`: (H, W) or (H, W, C), or a tensor (C, H, W)."""
        self._values = values
        self.path = path
        high, wide = values.shape[-2:] if isinstance(values, Tensor) else values.shape[:2]
        self.size = (int(high), int(wide))

    def read(self, window: Window) -> np.ndarray | Tensor:
        """What `to_image_tensor` takes: (h, w) or (h, w, C), a tensor (C, h, w); may share memory with the image.

        May be called from several threads. Raises `DataError` where the file is damaged.
        """
        top, left, bottom, right = window
        if isinstance(self._values, Tensor):
            return self._values[..., top:bottom, left:right]
        return self._values[top:bottom, left:right]


@contextmanager
def open_windows(image: Any, pixels: Pixels = "rgb8", channels: int | None = None) -> Iterator[Windows]:
    """One image of any usual form, to be read in parts.

    Args:
        image: a path, a record, an array (also a memory-mapped one), a PIL image, a tensor, or `Windows` already.
        pixels, channels: as in `to_image_tensor`.

    Raises:
        DataError: as `to_image_tensor`, or a TIFF whose strips are too large to be read one by one.
    """
    if isinstance(image, Windows):
        yield image
        return
    path = _file(image)
    if path is not None and (parts := _TiffWindows.opened(path, pixels)) is not None:
        try:
            yield parts
        finally:
            parts.close()
        return
    lazy = isinstance(image, (np.ndarray, Tensor)) and image.ndim in (2, 3)
    whole = image if lazy else to_image_tensor(image, pixels, channels).permute(1, 2, 0).numpy()
    yield Windows(whole, None if path is None else str(path))


def _file(image: Any) -> Path | None:
    if isinstance(image, Record):
        return image.path if image.span is None and image.make is None else None
    return Path(image) if isinstance(image, (str, Path)) else None


class _TiffWindows(Windows):
    """A TIFF in strips or tiles. The rows under the latest window are kept at full width: the next one needs them."""

    def __init__(self, parts: Parts, path: Path, pixels: Pixels, stack: ExitStack) -> None:
        self.size, self.path, self._file = parts.size, str(path), path
        self._parts, self._stack, self._rgb = parts, stack, pixels == "rgb8"
        self._lock = threading.RLock()
        self._rows: tuple[int, int] = (0, 0)
        self._band = parts.read(0, 0, 1, 1)  # (1, 1, C): says early what cannot be unpacked
        self._unit: bool | None = None  # floats of the whole file lie in 0..1

    @classmethod
    def opened(cls, path: Path, pixels: Pixels) -> _TiffWindows | None:
        """None for what is no TIFF, or one that must be decoded whole. Raises `DataError`."""
        try:
            with path.open("rb") as stream:
                if not stream.read(4).startswith(tiff.MAGICS):
                    return None
        except OSError:
            return None  # whoever reads it whole says what is wrong
        with ExitStack() as stack, complaints(path):
            pages = stack.enter_context(tiff.opened(path.open("rb")))
            if (alone := pages.alone()) is None:
                return None
            windows = cls(Parts(*alone), path, pixels, stack)
            windows._stack = stack.pop_all()
            return windows

    def close(self) -> None:
        """Let go of the file."""
        self._stack.close()

    def read(self, window: Window) -> np.ndarray:
        """(h, w, 3) uint8, or (h, w, C) as stored."""
        with complaints(self._file), self._lock:
            values = self._stored(window)
            if self._rgb and values.dtype.kind == "f" and self._unit is None:
                self._unit = all(self._in_unit(top) for top in range(0, self.size[0], _STRIP_ROWS))
        if not self._rgb:
            return values
        if values.dtype.kind == "f" and not self._unit:  # a dark window must not be taken for one of 0..1
            values = np.clip(np.nan_to_num(values.astype(np.float32)) + 0.5, 0, 255).astype(np.uint8)
        return values_to_rgb8(values)

    def _stored(self, window: Window) -> np.ndarray:
        top, left, bottom, right = window
        row_bytes = self.size[1] * self._band.shape[2] * self._band.itemsize
        if (bottom - top) * row_bytes > _MOST_BAND:
            return self._parts.read(top, left, bottom, right)
        if (top, bottom) != self._rows:
            self._band = self._band[:1, :1]  # let go of the last one first
            self._band, self._rows = self._parts.read(top, 0, bottom, self.size[1]), (top, bottom)
        return self._band[:, left:right]

    def _in_unit(self, top: int) -> bool:
        """Whether no number of these rows is above 1: only then `read_rgb8` takes the floats of a file for 0..1."""
        strip = self._parts.read(top, 0, min(top + _STRIP_ROWS, self.size[0]), self.size[1])
        return bool(np.nan_to_num(strip).max(initial=0.0) <= 1.0)
