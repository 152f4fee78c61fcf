"""Images in a TIFF: each page of a stack, a window of a large one, and where they lie on the map. Original frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.sample import MAX_PIXELS, Pixels
from maskrcnn.errors import DataError
from maskrcnn.instances import Place

SUFFIXES = (".tif", ".tiff")
_WINDOW = re.compile(r"(.+\.tiff?)@(\d+):(\d+),(\d+):(\d+)", re.IGNORECASE)
_LIKE_WINDOW = re.compile(r"(.+)@(-?\d+):(-?\d+),(-?\d+):(-?\d+)")
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_MODEL_TYPES = ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey")
_USER_DEFINED = 32767

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Window:
    """A part of a TIFF, for `Predictor.stream`; on the command line `FILE.tif@TOP:BOTTOM,LEFT:RIGHT`.

    Attributes:
        path: the file.
        rows, columns: first pixel and the one after the last.
    """

    path: Path
    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> Window | None:
        """None for text of another form."""
        match = _WINDOW.fullmatch(text)
        if match is None:
            return None
        top, bottom, left, right = (int(match[number]) for number in range(2, 6))
        return cls(Path(match[1]), (top, bottom), (left, right))

    def __str__(self) -> str:
        return f"{self.path}@{self.rows[0]}:{self.rows[1]},{self.columns[0]}:{self.columns[1]}"


def refuse_window(text: str) -> None:
    """Raises `DataError` for what looks like a window and is none."""
    match = _LIKE_WINDOW.fullmatch(text)
    if match is None:
        return
    if Path(match[1]).suffix.lower() not in SUFFIXES:
        raise DataError("windows are of TIFFs; give the whole file, or save it as a TIFF", path=text)
    raise DataError("rows and columns begin at 0; give TOP:BOTTOM,LEFT:RIGHT without a minus", path=text)


def count_pages(path: Path) -> list[int]:
    """Indices of the pages that are images of their own: no smaller copies, no masks. Raises `DataError`."""
    with _opened(path) as file:
        return [i for i, page in enumerate(file.pages) if not int(page.subfiletype or 0) & (_REDUCED | _MASK)]


def read_page(path: Path, number: int) -> np.ndarray:
    """(H, W, C) as stored; 8-bit colours that Pillow knows as RGB. Raises `DataError`."""
    from maskrcnn.data import tiff

    try:
        with tiff.opened(path.open("rb"), number) as pages:
            height, width, *_ = pages.header
            if height * width > MAX_PIXELS:
                raise DataError(f"page {number} is {width} x {height} pixels, more than 500 megapixels; cut it")
            if not pages.for_pillow:
                return pages.read()
        from PIL import Image

        with Image.open(path) as image:
            image.seek(number)
            return np.asarray(image.convert("RGB"))
    except Exception as error:
        raise _told(error, path) from error


def read_window(window: Window, pixels: Pixels = "rgb8") -> np.ndarray:
    """(h, w, 3) uint8, or with "raw" (h, w, C) as stored. Raises `DataError`.

    Of a TIFF that can be read in parts only those are read that it touches.
    """
    from maskrcnn.data.windows import open_windows

    (top, bottom), (left, right) = window.rows, window.columns
    if not (top < bottom and left < right):
        raise DataError("the window holds no pixel; give TOP:BOTTOM,LEFT:RIGHT that rise", path=str(window))
    if (bottom - top) * (right - left) > MAX_PIXELS:
        raise DataError("the window has more than 500 megapixels; give several smaller ones", path=str(window))
    with open_windows(window.path, pixels) as image:
        height, width = image.size
        if bottom > height or right > width:
            raise DataError(f"the image has {height} rows and {width} columns; give a window inside", path=str(window))
        return np.array(image.read((top, left, bottom, right)))


def map_of(path: Path) -> tuple[Affine | None, str | None]:
    """(to_map, crs) of a GeoTIFF as `Place` has them; (None, None) of another. Raises `DataError`."""
    with _opened(path) as file:
        page = file.pages[0]
        if not page.is_geotiff:
            return None, None
        tags = page.geotiff_tags or {}
    return _affine(tags), _crs(tags)


def moved(to_map: Affine | None, top: int, left: int) -> Affine | None:
    """The same map for a window whose corner lies there."""
    if to_map is None:
        return None
    a, b, c, d, e, f = to_map
    return a, b, a * left + b * top + c, d, e, d * left + e * top + f


def place_of_window(window: Window, name: str, key: str) -> Place:
    """Where it lies. Raises `DataError`."""
    to_map, crs = map_of(window.path)
    top, left = window.rows[0], window.columns[0]
    return Place(
        name=name, key=key, file=str(window.path), corner=(top, left), to_map=moved(to_map, top, left), crs=crs
    )


def _affine(tags: dict[str, Any]) -> Affine | None:
    """From the tags of GeoTIFF 1.1: a matrix, or a scale and a point. "PixelIsPoint" counts from pixels' centres."""
    if "ModelTransformation" in tags:
        a, b, _, c, d, e, _, f = np.asarray(tags["ModelTransformation"], np.float64).ravel()[:8].tolist()
    elif "ModelPixelScale" in tags and "ModelTiepoint" in tags:
        wide, high = np.asarray(tags["ModelPixelScale"], np.float64).ravel()[:2].tolist()
        column, row, _, x, y, _ = np.asarray(tags["ModelTiepoint"], np.float64).ravel()[:6].tolist()
        a, b, c, d, e, f = wide, 0.0, x - column * wide, 0.0, -high, y + row * high
    else:
        return None
    if not np.isfinite([a, b, c, d, e, f]).all():
        return None
    if int(tags.get("GTRasterTypeGeoKey", 1)) == 2:
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


def _crs(tags: dict[str, Any]) -> str | None:
    for key in _MODEL_TYPES:
        code = int(tags.get(key, 0) or 0)
        if 0 < code < _USER_DEFINED:
            return f"EPSG:{code}"
    return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except Exception as error:  # tifffile raises whatever a damaged file leads it to
        raise _told(error, path) from error


def _told(error: Exception, path: Path) -> DataError:
    if isinstance(error, DataError):
        return error if error.path is not None else DataError(error.message, path=path)
    if isinstance(error, FileNotFoundError):
        return DataError("no such file or folder; check the path", path=path)
    return DataError(f"TIFF cannot be read ({type(error).__name__}: {error}); write it again", path=path)
