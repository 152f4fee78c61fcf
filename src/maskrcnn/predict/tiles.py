"""A large image, tile by tile: where the tiles lie, what is read, and what the network sees of it.

The image is read in windows (`data/windows.py`), a few tiles ahead of the network; what they show is put together by
`merge.py`. Memory: the tiles on their way, the outlines of the objects, and of the image only what cannot be read in
parts.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from maskrcnn.data.windows import Window, Windows, open_windows
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.rle_runs import MOST_PIXELS
from maskrcnn.predict.ahead import prepare_ahead
from maskrcnn.predict.exported.model import ExportedModel
from maskrcnn.predict.merge import Merger
from maskrcnn.predict.named import check_one
from maskrcnn.structures import ObjectSizes, Record

if TYPE_CHECKING:
    from maskrcnn.predict.items import Item
    from maskrcnn.predict.predictor import Predictor

LEAST_TILE = 32
_MARGIN = 0.01  # of a tile's side: boxes of cut objects end about this close to the border
_LARGER = 1.5  # times the largest training object that an object may be
_LARGEST = 0.95  # of the objects fit into the overlap, up to half of a tile
_SURE = 0.3  # score of the objects that are measured for it
_FIRST_TILES = 9  # looked at to measure objects, at most a quarter of all
_STRIP_ROWS = 256


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut up."""

    tile: int | None = None
    """Side of a tile in the image's pixels; None: at which the network sees objects as large as in training."""
    overlap: int | None = None
    """Of neighbouring tiles, in pixels, at least; None: by the sizes of the training objects, or of those that a first
    look finds where the weights do not tell them."""
    full_image: bool = True
    """Look at the whole image too, made smaller, for objects that do not fit into an overlap."""

    def check(self) -> None:
        """Raises `ConfigError` for sizes that cannot be."""
        if self.tile is not None and self.tile < LEAST_TILE:
            raise ConfigError(f"{self.tile} must be at least {LEAST_TILE} pixels, such as 1024", field="tile")
        if self.overlap is not None and self.overlap < 0:
            raise ConfigError(f"{self.overlap} must not be negative; 100 pixels are usual", field="overlap")


def predict_tiled(
    predictor: Predictor, image: Any, tiling: Tiling, score_threshold: float = 0.05, batch_size: int | None = None
) -> Instances:
    """The objects of one image of any size; see `Predictor.predict_tiled`."""
    tiling.check()
    check_one(image)
    batch_size = batch_size or (1 if predictor.device.type == "cpu" else 8)
    model = predictor.model
    with open_windows(image, model.data.pixels, len(model.config.image_mean)) as windows:
        look = _Look(predictor, windows, score_threshold, batch_size)
        found = look.all(tiling)
    path = image.path if isinstance(image, Record) else windows.path
    return replace(found, path=None if path is None else str(path))


def stream_tiled(
    predictor: Predictor,
    items: Iterable[Item],
    tiling: Tiling,
    score_threshold: float = 0.05,
    batch_size: int | None = None,
) -> Iterator[tuple[Instances, Any]]:
    """As `Predictor.stream_items`, one image after the other; what cannot be read is noted in `predictor.skipped`.

    Raises:
        ConfigError: sizes that cannot be.
    """
    tiling.check()
    predictor.skipped = []
    return _stream(predictor, items, tiling, score_threshold, batch_size)


def _stream(
    predictor: Predictor, items: Iterable[Item], tiling: Tiling, threshold: float, batch_size: int | None
) -> Iterator[tuple[Instances, Any]]:
    for item in items:
        try:
            image = item.read()
            with item.named():
                found = predict_tiled(predictor, image, tiling, threshold, batch_size)
        except DataError as error:
            predictor.skipped.append(str(error))
            warnings.warn(f"{error}; skipped, {len(predictor.skipped)} so far", stacklevel=3)
            continue
        path = item.path or found.path
        yield replace(found, path=path, place=item.place), image if path is None else None


def tile_size(predictor: Predictor, size: tuple[int, int], tile: int | None = None) -> tuple[int, int]:
    """(height, width) of the tiles of an image of `size`: `tile`, or what the network makes as much larger or smaller
    as the images of its training, but no larger than the image. Where nothing tells that: what it does not resize."""
    sides = (tile, tile) if tile is not None else _own_size(predictor)
    return min(sides[0], size[0]), min(sides[1], size[1])


def _own_size(predictor: Predictor) -> tuple[int, int]:
    model, data = predictor.model, predictor.model.data
    if isinstance(model, ExportedModel) and model.info.size is not None:
        return model.info.size
    trained = _trained(predictor)
    scale = trained.scale if trained else 1.0
    if data.resize == "fixed":
        sides = (data.min_size, data.max_size)
    else:
        by_short = data.resize == "short" or (data.resize == "grow" and scale > 1)
        sides = (data.min_size if by_short else data.max_size,) * 2
    return max(round(sides[0] / scale), LEAST_TILE), max(round(sides[1] / scale), LEAST_TILE)


def _trained(predictor: Predictor) -> ObjectSizes | None:
    """Of the training objects; an exported file does not tell them."""
    model = predictor.model
    return None if isinstance(model, ExportedModel) else model.object_sizes


def tiling_line(predictor: Predictor, tiling: Tiling) -> str:
    """What is chosen for images larger than a tile, in one line for people."""
    tile = (tiling.tile, tiling.tile) if tiling.tile is not None else _own_size(predictor)
    trained = _trained(predictor)
    if tiling.overlap is not None:
        overlap = f"an overlap of {tiling.overlap} pixels"
    elif trained is None:
        overlap = "an overlap by a first look, because the weights do not tell the sizes of their training objects"
    else:
        overlap = (
            f"an overlap of {trained_overlap(predictor, trained, tile)} pixels, by the training objects: 95 of 100 are "
            f"up to {trained.common:.0f} pixels at the network's input"
        )
    return f"tiles of {tile[1]} x {tile[0]} pixels with {overlap}"


def trained_overlap(predictor: Predictor, trained: ObjectSizes, tile: tuple[int, int]) -> int:
    """Pixels of the image in which 95 of 100 training objects lie whole, where a tile shows them as large as in
    training; limits as of `choose_overlap`."""
    return _limited(trained.common / _enlarged(predictor, tile) + 2 * margin_of(tile), tile)


def _enlarged(predictor: Predictor, tile: tuple[int, int]) -> float:
    """Pixels of the network's input that a pixel of a tile becomes along each side."""
    content = predictor.fit(tile)[0]
    return (content[0] * content[1] / (tile[0] * tile[1])) ** 0.5


def margin_of(tile: tuple[int, int]) -> float:
    """Pixels from an inner border of a tile within which an object is cut by it."""
    return max(2.0, _MARGIN * min(tile))


def layout(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> list[Window]:
    """Windows of one size that cover an image, neighbours sharing at least `overlap` pixels, evenly spread, by rows.

    Args:
        size: (height, width) of the image.
        tile: (height, width), no larger than that.
        overlap: pixels, below both sides of a tile that is smaller than the image.
    """
    tops, lefts = (_starts(*sides, overlap) for sides in zip(size, tile, strict=True))
    return [(top, left, top + tile[0], left + tile[1]) for top in tops for left in lefts]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if side >= length:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def choose_overlap(found: Sequence[Instances], tile: tuple[int, int], margin: float) -> int:
    """Pixels in which 95 of 100 objects lie whole, with a margin on both sides; a sixteenth to a half of a tile.

    A quarter of a tile where nothing was found.
    """
    side = min(tile)
    longest = [
        (one.boxes[:, 2:] - one.boxes[:, :2]).max(axis=1)[one.scores >= min(_SURE, one.scores.max())]
        for one in found
        if len(one)
    ]
    if not longest:
        return side // 4
    return _limited(float(np.quantile(np.concatenate(longest), _LARGEST)) + 2 * margin, tile)


def _limited(wanted: float, tile: tuple[int, int]) -> int:
    side = min(tile)
    return int(np.clip(np.ceil(wanted), side // 16, side // 2))


@dataclass(eq=False)
class _Look:
    """One image, and who looks at it."""

    predictor: Predictor
    windows: Windows
    threshold: float
    batch_size: int

    def all(self, tiling: Tiling) -> Instances:
        """Everything in the image."""
        size = self.windows.size
        if size[0] * size[1] > MOST_PIXELS:
            raise DataError(
                f"image is {size[1]} x {size[0]} pixels, COCO's masks count to {MOST_PIXELS}; cut it into parts",
                path=self.windows.path,
            )
        whole = (0, 0, *size)
        tile = tile_size(self.predictor, size, tiling.tile)
        if tile == size:
            return next(self.views([whole]))[1]
        margin = margin_of(tile)
        coarse, factor = self.coarse() if tiling.full_image else (None, 1)
        overlap = self.overlap(tile) if tiling.overlap is None else tiling.overlap
        limit = min(side for side, most in zip(tile, size, strict=True) if side < most)
        if overlap > limit // 2:
            raise ConfigError(f"{overlap} is more than half of a tile of {limit} pixels", field="overlap")
        merger = Merger(size, margin=margin)
        for window, found in self.views(layout(size, tile, overlap)):
            merger.add(found, window)
        if coarse is not None:
            merger.add(self.credible(coarse, factor, tile), whole, factor)
        return merger.instances()

    def overlap(self, tile: tuple[int, int]) -> int:
        """By the training objects, or by those of a first look."""
        if trained := _trained(self.predictor):
            return trained_overlap(self.predictor, trained, tile)
        return choose_overlap(self.first(tile), tile, margin_of(tile))

    def views(self, windows: Sequence[Window]) -> Iterator[tuple[Window, Instances]]:
        """Each window with what is found in it, in its own pixels; read ahead while the network works."""

        def prepare(window: Window) -> Any:
            return self.predictor.prepare(self.windows.read(window))

        ahead = prepare_ahead(prepare, windows, workers=2, ahead=2 * self.batch_size)
        with contextlib.closing(ahead) as coming:
            for start in range(0, len(windows), self.batch_size):
                chunk = windows[start : start + self.batch_size]
                prepared = [future.result() for future in itertools.islice(coming, len(chunk))]
                answers = self.predictor.predict_prepared(prepared, self.threshold, self.batch_size)
                yield from zip(chunk, answers, strict=True)

    def first(self, tile: tuple[int, int]) -> list[Instances]:
        """What a few tiles show, evenly spread over the image, to measure the objects."""
        windows = layout(self.windows.size, tile, 0)
        count = min(_FIRST_TILES, max(len(windows) // 4, 1))
        middle = (np.arange(count) + 0.5) * len(windows) / count
        return [found for _, found in self.views([windows[int(place)] for place in middle])]

    def coarse(self) -> tuple[Instances, int]:
        """What the whole image shows, in its own smaller pixels, and how many of the image's are one of these."""
        factor = self.factor()
        pixels = shrink(self.windows, factor)
        return self.predictor.predict_prepared([self.predictor.prepare(pixels)], self.threshold)[0], factor

    def credible(self, coarse: Instances, factor: int, tile: tuple[int, int]) -> Instances:
        """Those that the whole image shows, without what is much larger than any training object: made so small, many
        objects together look like one."""
        trained = _trained(self.predictor)
        if trained is None:
            return coarse
        most = _LARGER * trained.largest / _enlarged(self.predictor, tile)
        return coarse[(coarse.boxes[:, 2:] - coarse.boxes[:, :2]).max(axis=1, initial=0) * factor <= most]

    def factor(self) -> int:
        """Whole pixels to take the mean of before the image is resized: half of what it is made smaller by."""
        size, model = self.windows.size, self.predictor.model
        exported = isinstance(model, ExportedModel) and model.info.size
        content = exported or self.predictor.fit(size)[0]
        return max(1, int(min(size[0] / content[0], size[1] / content[1]) / 2))


def shrink(windows: Windows, factor: int) -> np.ndarray | Tensor:
    """The whole image, each `factor` x `factor` block its mean, the last ones smaller; read strip by strip.

    Returns:
        (h, w, C) of the image's own type, whole numbers rounded; the image as it is for 1.
    """
    height, width = windows.size
    if factor == 1:
        return windows.read((0, 0, height, width))
    rows = factor * max(1, _STRIP_ROWS // factor)
    strips = [_means(windows.read((top, 0, min(top + rows, height), width)), factor) for top in range(0, height, rows)]
    return np.concatenate(strips)


def _means(strip: np.ndarray | Tensor, factor: int) -> np.ndarray:
    values = strip.permute(1, 2, 0).numpy() if isinstance(strip, Tensor) else np.asarray(strip)
    values = values[:, :, None] if values.ndim == 2 else values
    means = values
    for axis, shape in enumerate([(-1, 1, 1), (1, -1, 1)]):
        length = means.shape[axis]
        starts = np.arange(0, length, factor)
        sums = np.add.reduceat(means, starts, axis=axis, dtype=np.float64)
        means = sums / np.diff(starts, append=length).reshape(shape)
    return (np.rint(means) if values.dtype.kind in "iu" else means).astype(values.dtype)
