"""A part of one page of a TIFF: only the strips or tiles under it are decoded, each by itself, and let go."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskrcnn.data.tiff import LZW, unlzw, unpackable
from maskrcnn.errors import DataError

MOST_SEGMENT = 1 << 28
"""Values of a strip or tile that are decoded for a part."""


class Parts:
    """The strips or tiles of a page.

    Attributes:
        size: (height, width).
        channels: numbers a pixel has, in all planes.
    """

    def __init__(self, page: Any, file: Any) -> None:
        """`page` of the open tifffile `file`, checked already (see `Pages`); from here on it is read by parts alone.

        Raises:
            DataError: strips too large to be decoded for a part.
        """
        self._page, self._file = page, file
        planes, _, height, width, samples = page.shaped
        self.size, self.channels = (height, width), planes * samples
        self._planes, self._samples = planes, samples
        self._high, self._wide = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
        )
        self._plain = page.is_final
        if not self._plain and self._high * self._wide * samples > MOST_SEGMENT:
            raise DataError(
                f"TIFF strips of {self._high} x {self._wide} pixels are too large to read in parts; save it with tiles"
            )
        self._lzw = int(page.compression) == LZW
        if self._lzw:
            page.compression = 1  # before tifffile makes its decoder, which gets what is unpacked already

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """(h, w, C) as stored, in this machine's byte order; what is not in the file is 0.

        Raises:
            DataError: a compression that we cannot unpack. Of a damaged file whatever tifffile raises.
        """
        kind = np.dtype(self._page.dtype).newbyteorder("=")
        values = np.zeros((bottom - top, right - left, self._planes, self._samples), kind)
        for plane in range(self._planes):
            room = values[:, :, plane]
            if self._plain:
                self._copy_rows(room, plane, top, left)
                continue
            for row in range(top // self._high, -(-bottom // self._high)):
                for column in range(left // self._wide, -(-right // self._wide)):
                    y, x = row * self._high, column * self._wide
                    segment = self._segment(plane, row, column)
                    segment = segment[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                    down, across = max(y - top, 0), max(x - left, 0)
                    room[down : down + segment.shape[0], across : across + segment.shape[1]] = segment
        return values.reshape(*values.shape[:2], self.channels)

    def _copy_rows(self, room: np.ndarray, plane: int, top: int, left: int) -> None:
        """Rows that lie in the file as they are."""
        (height, width), kind = self.size, np.dtype(self._page.dtype).newbyteorder(self._file.byteorder)
        pixel, handle = self._samples * kind.itemsize, self._file.filehandle
        for row in range(len(room)):
            handle.seek(self._page.dataoffsets[0] + ((plane * height + top + row) * width + left) * pixel)
            line = np.frombuffer(handle.read(room.shape[1] * pixel), kind)
            room[row] = line.reshape(room.shape[1:])

    def _segment(self, plane: int, row: int, column: int) -> np.ndarray:
        """(h, w, samples) of one strip or tile, without what of it lies outside the image."""
        down, across = -(-self.size[0] // self._high), -(-self.size[1] // self._wide)
        index = (plane * down + row) * across + column
        length = self._page.databytecounts[index]
        if not length:
            return np.zeros((0, 0, self._samples), np.uint8)
        self._file.filehandle.seek(self._page.dataoffsets[index])
        data = self._file.filehandle.read(length)
        if self._lzw:
            _, _, (_, high, wide, samples) = self._page.decode(None, index, _fullsize=self._page.is_tiled)
            data = unlzw(data, high, wide * samples * np.dtype(self._page.dtype).itemsize)
        try:
            segment, _, (_, high, wide, _) = self._page.decode(data, index)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise unpackable(error) from error
        return segment[0, :high, :wide]
