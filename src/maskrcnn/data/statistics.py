"""Mean and deviation of every channel, from the images themselves: what the network subtracts and divides by."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maskrcnn.data.sample import record_values
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Record

_STRIP_VALUES = 1 << 22  # looked at in one go: what a thread holds besides its image
_LEAST_DEVIATION = 1e-6  # a channel that is the same everywhere is divided by 1


class ChannelStatistics(NamedTuple):
    """What `channel_statistics` found, in the numbers of the files.

    Attributes:
        mean, std: of each channel.
        channels: how many.
        kind: NumPy's name of the numbers of the first image: "uint16", "float32", ...
        images: how many were read.
        not_finite: values that are NaN or infinite, and counted as 0.
        skipped: what is wrong with the images that could not be read.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    kind: str
    images: int
    not_finite: int
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Of one image: values a channel, and float64 mean and sum of squared distances from it, each (C,)."""

    count: int
    mean: np.ndarray
    squares: np.ndarray
    not_finite: int
    kind: str


def channel_statistics(dataset: Dataset, images: int = 200, seed: int = 0) -> ChannelStatistics:
    """Mean and standard deviation of each channel over all pixels of some images, channels and depth as in the files.

    Args:
        dataset: the training images.
        images: look at this many, drawn with `seed`; at all where there are no more.
        seed: of the draw.

    Raises:
        DataError: none can be read, or two differ in their number of channels.
    """
    chosen = np.arange(len(dataset))
    if images < len(dataset):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:images])
    records = [dataset[int(index)] for index in chosen]
    total: _Sums | None = None
    skipped: list[str] = []
    read = 0
    # Few threads: each holds one decoded image.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for record, found in zip(records, pool.map(_sums_or_error, records), strict=True):
            if isinstance(found, DataError):
                skipped.append(str(found))
                continue
            total = found if total is None else _joined(total, found, record)
            read += 1
    if total is None:
        reason = skipped[0] if skipped else "there are none"
        raise DataError(f"none of the images can be read: {reason}", path=dataset.name or None)
    deviation = np.sqrt(total.squares / total.count)
    return ChannelStatistics(
        mean=tuple(float(value) for value in total.mean),
        std=tuple(float(value) if value > _LEAST_DEVIATION else 1.0 for value in deviation),
        channels=len(total.mean),
        kind=total.kind,
        images=read,
        not_finite=total.not_finite,
        skipped=tuple(skipped),
    )


def _sums_or_error(record: Record) -> _Sums | DataError:
    try:
        return _sums(record_values(record))
    except DataError as error:
        return error


def _sums(values: np.ndarray) -> _Sums:
    """Of (H, W, C), strip by strip; means are taken first, because squares of large numbers cancel badly."""
    height, width, channels = values.shape
    rows = max(1, _STRIP_VALUES // (width * channels))
    strips = [values[top : top + rows] for top in range(0, height, rows)]
    count = height * width
    mean, not_finite = np.zeros(channels), 0
    for strip in strips:
        clean, bad = _finite(strip)
        mean += clean.sum(axis=(0, 1))
        not_finite += bad
    mean /= count
    squares = sum((np.square(_finite(strip)[0] - mean).sum(axis=(0, 1)) for strip in strips), np.zeros(channels))
    return _Sums(count, mean, squares, not_finite, values.dtype.newbyteorder("=").name)


def _finite(strip: np.ndarray) -> tuple[np.ndarray, int]:
    """float64 with 0 for NaN and infinity, as the network gets it, and how many there were."""
    if strip.dtype.kind != "f":
        return strip.astype(np.float64), 0
    with np.errstate(over="ignore"):
        clean = strip.astype(np.float32).astype(np.float64)
    bad = ~np.isfinite(clean)
    clean[bad] = 0
    return clean, int(bad.sum())


def _joined(a: _Sums, b: _Sums, record: Record) -> _Sums:
    """Both together (Chan, Golub, LeVeque 1979). Raises `DataError` where `record`, of `b`, has other channels."""
    if len(a.mean) != len(b.mean):
        raise DataError(
            f"image has {len(b.mean)} channels, those before it have {len(a.mean)}; leave it out, save it with "
            f"{len(a.mean)} channels, or train with data.pixels rgb8",
            path=record.path,
            image=record.image_id,
        )
    count, apart = a.count + b.count, b.mean - a.mean
    return _Sums(
        count=count,
        mean=a.mean + apart * (b.count / count),
        squares=a.squares + b.squares + np.square(apart) * (a.count * b.count / count),
        not_finite=a.not_finite + b.not_finite,
        kind=a.kind,
    )
