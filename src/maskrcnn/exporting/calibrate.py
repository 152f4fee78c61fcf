"""A user's images as inputs of a graph, so that quantisation can measure the ranges of its values."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.open import open_dataset
from maskrcnn.data.resize import pad_to, resize_image
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError, ExportError, NoAnnotationsError
from maskrcnn.predict.exported.info import ExportInfo
from maskrcnn.predict.sources import SUFFIXES, list_sources

MOST = 300
"""Images that are looked at; more change the ranges little (NNCF's own default)."""


class Calibration:
    """Inputs of a graph, made anew each time they are gone through: hundreds of photographs need not fit in memory.

    Attributes:
        info: of the graph.
        items: what the images are made from.
    """

    def __init__(self, info: ExportInfo, items: list[Any]) -> None:
        self.info, self.items = info, items

    def __len__(self) -> int:
        """At most so many inputs: files that cannot be read are left out."""
        return len(self.items)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Raises `ExportError` when no image can be read."""
        readable = 0
        for item in self.items:
            try:
                yield inputs(self.info, item)
            except DataError as error:
                warnings.warn(f"{error}; left out of the calibration", stacklevel=2)
                continue
            readable += 1
        if not readable:
            raise ExportError(f"calibration set without images: none of its {len(self.items)} can be read")


def calibration_inputs(info: ExportInfo, images: Any, most: int = MOST) -> Calibration:
    """Typical images -> inputs of the graph.

    Args:
        info: what the graph takes.
        images: a data set or what `open_dataset` takes; a folder, a pattern, a list of image files or arrays.
        most: of more than this many, as many evenly spread over all.

    Raises:
        ExportError: a calibration set without images.
        DataError: nothing there.
    """
    items = list(_items(images))
    if not items:
        raise ExportError(
            f"calibration set without images{_named(images)}; give typical photographs, a hundred or more"
        )
    chosen = np.linspace(0, len(items), min(most, len(items)), endpoint=False).astype(int)
    return Calibration(info, [items[index] for index in chosen])


def inputs(info: ExportInfo, image: Any) -> dict[str, np.ndarray]:
    """One image as the graph takes it, as often as it takes images at once. Raises `DataError`."""
    photo = to_image_tensor(image, info.data.pixels, len(info.model.image_mean))
    content, padded = info.fit((photo.shape[-2], photo.shape[-1]))
    if info.takes == "tensor":
        photo = pad_to(resize_image(photo, content, info.data.interpolation), padded, info.data.pad_place)
    count = info.batch or 1
    values = {
        "images": np.repeat(photo.numpy()[None].astype(info.image_dtype, copy=False), count, axis=0),
        "score_threshold": np.asarray(0.0, np.float32),
    }
    return values | ({"sizes": np.array([content] * count, np.int64)} if info.takes == "tensor" else {})


def _items(images: Any) -> Any:
    """Records, paths or arrays."""
    if isinstance(images, Dataset):
        return images.records
    if not isinstance(images, (str, Path)):
        return list_sources(images)
    path = Path(images)
    if path.suffix.lower() in SUFFIXES or (not path.exists() and glob.has_magic(str(images))):
        return list_sources(images)
    try:
        # First as a data set: its folder may hold masks, which are images, but not such as the network sees.
        return open_dataset(images).records
    except DataError as error:
        if not path.is_dir():
            raise
        if not isinstance(error, NoAnnotationsError):
            warnings.warn(f"{path} is taken as a folder of photographs, because as a data set: {error}", stacklevel=2)
        return list_sources(images)


def _named(images: Any) -> str:
    name = images.name if isinstance(images, Dataset) else images if isinstance(images, (str, Path)) else None
    return f": {name}" if name else ""
