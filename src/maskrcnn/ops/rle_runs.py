"""RLE as runs: areas of overlap, unions and enlargement by arithmetic on the ends of runs, never on pixels.

Runs are (R, 2) int64 starts and ends of the object's pixels, ends excluded, ascending and apart from each other; a
pixel counts as `column * height + row` of its frame, as in COCO's RLE. Memory follows the runs, whatever the frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskrcnn.ops.rle import counts_of, parse_counts

MOST_PIXELS = 2**32 - 1
"""Of a frame: COCO's RLE counts pixels in 32 bits."""


def rle_runs(rle: dict) -> np.ndarray:
    """RLE -> runs (R, 2) int64."""
    ends = np.cumsum(parse_counts(rle["counts"]))
    ends = ends[: len(ends) // 2 * 2].reshape(-1, 2)  # where zeros end, where ones end
    return _joined(ends[ends[:, 1] > ends[:, 0]])


def runs_to_rle(runs: np.ndarray, size: tuple[int, int]) -> dict:
    """Runs (R, 2) -> RLE of the frame `size` (height, width)."""
    total = size[0] * size[1]
    counts = np.diff(np.concatenate([[0], runs.ravel(), [total]]))
    return counts_of(counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts, size)


def runs_area(runs: np.ndarray) -> int:
    """Pixels of the object."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def overlap_area(a: np.ndarray, b: np.ndarray) -> int:
    """Pixels that two objects of one frame share."""
    if len(a) > len(b):
        a, b = b, a
    return int((_before(b, a[:, 1]) - _before(b, a[:, 0])).sum())


def area_within(runs: np.ndarray, window: tuple[int, int, int, int], height: int) -> int:
    """Pixels of the object inside `window` (top, left, bottom, right) of a frame of this height."""
    top, left, bottom, right = window
    columns = np.arange(left, right, dtype=np.int64) * height
    return int((_before(runs, columns + bottom) - _before(runs, columns + top)).sum())


def union_runs(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The pixels that belong to any of several objects of one frame."""
    runs = np.concatenate([np.zeros((0, 2), np.int64), *parts])
    return _joined(runs[np.argsort(runs[:, 0], kind="stable")])


def box_runs(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels that a box x0 y0 x1 y1 of a frame `size` touches: whole columns of it, at least one pixel."""
    height, width = size
    left, top = min(max(int(box[0]), 0), width - 1), min(max(int(box[1]), 0), height - 1)
    right = max(min(int(np.ceil(box[2])), width), left + 1)
    bottom = max(min(int(np.ceil(box[3])), height), top + 1)
    columns = np.arange(left, right, dtype=np.int64) * height
    return _joined(np.stack([columns + top, columns + bottom], axis=1))


def place_runs(
    runs: np.ndarray, height: int, size: tuple[int, int], *, factor: int = 1, corner: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Runs of a frame of this height -> of a larger one: each pixel becomes `factor` x `factor`.

    What lies beyond the end of the larger frame is cut off, so that a frame shrunk to whole blocks, the last of them
    smaller, goes back to its own size.

    Args:
        runs: (R, 2).
        height: of their frame.
        size: (height, width) of the larger one.
        factor: enlarge by this.
        corner: (top, left) where the first pixel comes to lie.
    """
    if not len(runs):
        return runs
    pieces = _by_column(runs, height)
    columns = pieces[:, 0] // height
    wide = (columns[:, None] * factor + np.arange(factor)).ravel() + corner[1]  # each column `factor` times
    keep = wide < size[1]
    tall = []
    for ends in pieces.T:
        rows = np.minimum((ends - columns * height) * factor + corner[0], size[0])
        tall.append(wide[keep] * size[0] + np.repeat(rows, factor)[keep])
    placed = np.stack(tall, axis=1)
    return _joined(placed[np.argsort(placed[:, 0], kind="stable")])


def sample_runs(runs: np.ndarray, height: int, size: tuple[int, int], factor: int) -> np.ndarray:
    """Runs of a frame of this height -> of one made smaller: of each `factor` x `factor` block the pixel in its middle.

    Args:
        runs: (R, 2).
        height: of their frame.
        size: (height, width) of the smaller one; a last block without a middle is left out.
        factor: pixels that become one, along each side.
    """
    if not len(runs):
        return runs
    pieces = _by_column(runs, height)
    columns = pieces[:, 0] // height
    middle = factor // 2
    keep = (columns % factor == middle) & (columns // factor < size[1])
    pieces, columns = pieces[keep], columns[keep]
    # Row r of the smaller frame is there where its middle, r * factor + middle, lies in the run.
    ends = -((middle - (pieces - columns[:, None] * height)) // factor)
    placed = (columns // factor * size[0])[:, None] + np.clip(ends, 0, size[0])
    return _joined(placed[placed[:, 1] > placed[:, 0]])


def _by_column(runs: np.ndarray, height: int) -> np.ndarray:
    """The same pixels, runs cut where a column ends."""
    first, last = runs[:, 0] // height, (runs[:, 1] - 1) // height
    count = last - first + 1
    number = np.repeat(np.arange(len(runs)), count)
    column = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[number]
    start = np.maximum(runs[number, 0], column * height)
    return np.stack([start, np.minimum(runs[number, 1], (column + 1) * height)], axis=1)


def _before(runs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(P,) how many pixels of the object come before each of these places."""
    if not len(runs):
        return np.zeros(len(places), np.int64)
    filled = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])
    index = np.searchsorted(runs[:, 0], places, side="right") - 1  # the last run that starts there or earlier
    safe = np.maximum(index, 0)
    inside = np.minimum(places, runs[safe, 1]) - runs[safe, 0]
    return np.where(index < 0, 0, filled[safe] + inside)


def _joined(runs: np.ndarray) -> np.ndarray:
    """Runs in the order of their starts, those that touch or overlap made one."""
    if not len(runs):
        return np.zeros((0, 2), np.int64)
    ends = np.maximum.accumulate(runs[:, 1])
    starts = np.flatnonzero(np.concatenate([[True], runs[1:, 0] > ends[:-1]]))
    return np.stack([runs[starts, 0], ends[np.concatenate([starts[1:] - 1, [len(runs) - 1]])]], axis=1)
