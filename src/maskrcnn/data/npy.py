"""NumPy's own files as images: (H, W), (H, W, C) or (C, H, W), told apart by the smaller axis. No pickle is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from maskrcnn.errors import DataError
from maskrcnn.structures import Span

MAGIC = npy_format.MAGIC_PREFIX


def header(path: Path, span: Span | None) -> tuple[int, int, int, str]:
    """(height, width, channels, dtype). Raises `DataError`, `OSError` or `ValueError`."""
    shape, _, dtype, _ = _layout(path, span)
    height, width, channels = _sides(shape)
    return height, width, channels, dtype.newbyteorder("=").name


def read(path: Path, span: Span | None) -> np.ndarray:
    """(H, W, C), a read-only view of the file. Raises `DataError`, `OSError` or `ValueError`."""
    shape, fortran, dtype, offset = _layout(path, span)
    order = "F" if fortran else "C"
    values: np.ndarray = np.memmap(path, dtype, "r", offset, shape, order)  # type: ignore[call-overload]
    if values.ndim == 2:
        return values[:, :, None]
    return values.transpose(1, 2, 0) if _channels_first(shape) else values


def _layout(path: Path, span: Span | None) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, column-major, dtype, where the numbers start in the file), all of it checked."""
    start, end = (0, path.stat().st_size) if span is None else (span.start, span.start + span.length)
    with path.open("rb") as stream:
        stream.seek(start)
        version = npy_format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"NumPy file of version {version[0]}.{version[1]}; save plain numbers with numpy.save")
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        offset = stream.tell()
    if dtype.kind not in "buif":
        raise DataError(f"array holds {dtype}; save integers or floats")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataError(f"array has shape {shape}; save (H, W), (H, W, C) or (C, H, W)")
    size = dtype.itemsize
    for side in shape:
        size *= side
    if offset + size > end:
        raise DataError(f"array of {size} bytes is cut short, {max(0, end - offset)} are there; save it again")
    return shape, fortran, dtype, offset


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] < shape[2]


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(height, width, channels)."""
    if len(shape) == 2:
        return shape[0], shape[1], 1
    return (shape[1], shape[2], shape[0]) if _channels_first(shape) else (shape[0], shape[1], shape[2])
