"""Run-length encoded masks as COCO has them: column-major runs of zeros and ones, `{"size": [h, w], "counts": bytes}`.

Nothing here makes a full-size mask unless it is asked for one.
"""

from __future__ import annotations

import hotcoco.mask as coco_mask
import numpy as np


def encode_mask(mask: np.ndarray) -> dict:
    """(H, W) bool or uint8 -> RLE."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode_rle(rle: dict) -> np.ndarray:
    """RLE -> (H, W) bool, the full frame."""
    return coco_mask.decode(rle).astype(bool)


def rle_area(rle: dict) -> int:
    """Pixels of the object."""
    return int(coco_mask.area(rle))


def polygons_to_rle(rings: tuple[np.ndarray, ...] | list[np.ndarray], size: tuple[int, int]) -> dict:
    """Union of rings (P, 2), by COCO's rule for pixels on the border -> RLE."""
    height, width = size
    parts = coco_mask.fr_py_objects([np.asarray(ring, np.float64).ravel().tolist() for ring in rings], height, width)
    return parts[0] if len(parts) == 1 else coco_mask.merge(parts)


def parse_counts(counts: bytes | str) -> np.ndarray:
    """Compressed counts -> (R,) int64 run lengths, zeros first.

    Each number is split into 5-bit groups, lowest first, bit 6 says that more follow; from the fourth run on it is the
    difference to the run two before (pycocotools, maskApi.c).
    """
    code = np.frombuffer(counts.encode() if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    if not len(code):
        return np.zeros(0, np.int64)
    last = (code & 0x20) == 0
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    number = np.cumsum(np.concatenate([[0], last[:-1]]))
    place = np.arange(len(code)) - starts[number]
    values = np.add.reduceat((code & 0x1F) << (5 * place), starts)
    ends = np.flatnonzero(last)
    negative = (code[ends] & 0x10) != 0
    values = values[: len(ends)] - np.where(negative, 1 << (5 * (place[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def counts_of(runs: np.ndarray, size: tuple[int, int]) -> dict:
    """Run lengths (R,), zeros first -> RLE."""
    return coco_mask.fr_py_objects({"size": list(size), "counts": runs.tolist()}, *size)


def decode_window(rle: dict, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """The part [top:bottom, left:right] of the mask, bool: memory of its columns, not of the frame."""
    height = rle["size"][0]
    ends = np.cumsum(parse_counts(rle["counts"]))
    first, stop = left * height, right * height
    low, high = np.searchsorted(ends, [first, stop], side="right")
    edges = np.concatenate([[first], ends[low:high], [stop]])
    values = (np.arange(low, low + len(edges) - 1) % 2).astype(bool)
    column_major = np.repeat(values, np.diff(edges)).reshape(right - left, height)
    return column_major[:, top:bottom].T


def window_to_rle(window: np.ndarray, top: int, left: int, size: tuple[int, int]) -> dict:
    """A small mask (h, w) that lies at (top, left) of a frame -> RLE of the frame, by arithmetic on its runs."""
    height, width = size
    columns = np.zeros((window.shape[1], window.shape[0] + 2), np.int8)
    columns[:, 1:-1] = window.T
    column, row = np.nonzero(np.diff(columns, axis=1))  # each column: start, end, start, end, ...
    edges = (left + column) * height + top + row
    if len(edges):
        # A run that touches the bottom goes on at the top of the next column: its end and that start cancel.
        meets = np.flatnonzero(edges[1:-1:2] == edges[2::2])
        edges = np.delete(edges, np.concatenate([2 * meets + 1, 2 * meets + 2]))
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    if len(runs) > 1 and runs[-1] == 0:
        runs = runs[:-1]
    return counts_of(runs, size)


def rle_to_polygons(rle: dict) -> list[np.ndarray]:
    """Outlines along pixel edges: closed rings (P, 2) float32, holes as rings of their own (even-odd).

    Exact: filling the rings gives the mask back.
    """
    if not rle_area(rle):
        return []
    x, y, width, height = (int(v) for v in coco_mask.to_bbox(rle))
    mask = np.zeros((height + 2, width + 2), np.int8)
    mask[1:-1, 1:-1] = decode_window(rle, y, x, y + height, x + width)
    # Edges of the border as (x0, y0, x1, y1), the object on the right hand side. The window lies at (1, 1) of `mask`.
    row, col = np.nonzero(np.diff(mask, axis=0))
    enter = mask[row + 1, col] > 0
    across = np.stack([np.where(enter, col - 1, col), row, np.where(enter, col, col - 1), row], axis=1)
    row, col = np.nonzero(np.diff(mask, axis=1))
    enter = mask[row, col + 1] > 0
    down = np.stack([col, np.where(enter, row, row - 1), col, np.where(enter, row - 1, row)], axis=1)
    return [ring + np.array([x, y], np.float32) for ring in _chain(np.concatenate([across, down]))]


def _chain(edges: np.ndarray) -> list[np.ndarray]:
    """Directed edges (E, 4) x0 y0 x1 y1 -> rings; at a corner where two meet, the ring turns right."""
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for x0, y0, x1, y1 in edges.tolist():
        following.setdefault((x0, y0), []).append((x1, y1))
    rings = []
    while following:
        start = next(iter(following))
        point, ring, step = start, [], (0, 0)
        while True:
            choices = following[point]
            right = (point[0] - step[1], point[1] + step[0])
            target = right if right in choices else choices[-1]
            choices.remove(target)
            if not choices:
                del following[point]
            direction = (target[0] - point[0], target[1] - point[1])
            if direction != step:
                ring.append(point)
            point, step = target, direction
            if point == start and (point[0] - step[1], point[1] + step[0]) not in following.get(point, ()):
                break
        rings.append(np.array(ring, np.float32))
    return rings
