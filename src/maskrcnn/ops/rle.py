"""Run-length encoded masks as COCO has them: column-major runs of zeros and ones, `{"size": [h, w], "counts": bytes}`.

Nothing here makes a full-size mask unless it is asked for one.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    (height, width), (rows, columns) = size, window.shape
    padded = np.zeros(1 + columns * (rows + 1), bool)  # column under column, a zero before each and at the end
    padded[1:].reshape(columns, rows + 1)[:, :rows] = window.T
    column, row = np.divmod(np.flatnonzero(padded[1:] != padded[:-1]), rows + 1)  # start, end, start, end, ...
    edges = (left + column) * height + top + row
    if len(edges) and rows == height:
        # A run that touches the bottom goes on at the top of the next column: its end and that start cancel.
        meets = np.flatnonzero(edges[1:-1:2] == edges[2::2])
        edges = np.delete(edges, np.concatenate([2 * meets + 1, 2 * meets + 2]))
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    return counts_of(runs[:-1] if len(runs) > 1 and runs[-1] == 0 else runs, size)


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


def rle_to_union_polygons(rle: dict) -> list[np.ndarray]:
    """Outlines along pixel edges, one closed ring (P, 2) float64 for each connected part (4 neighbours).

    A hole is joined to its outline by a cut that is walked down and up again, as COCO has no rings for holes. Exact:
    `polygons_to_rle` of the rings, and pycocotools, give the mask back, because that rule fills a ring by even and odd
    crossings, and a pixel whose centre lies inside.
    """
    rings = [ring.astype(np.float64) for ring in rle_to_polygons(rle)]
    holes = [number for number, ring in enumerate(rings) if _turn(ring) < 0]
    if not holes:
        return rings
    x, y, width, height = (int(v) for v in coco_mask.to_bbox(rle))
    mask = decode_window(rle, y, x, y + height, x + width)
    tops = _top_edges(rings)
    starts = {hole: _first_corner(rings[hole]) for hole in holes}
    cuts: dict[int, list[tuple[int, float, float, int]]] = {}  # ring -> edge, way along it, its y, hole
    for hole, start in starts.items():
        # Above the hole's first corner the object goes up to another ring of the same part.
        column, row = int(rings[hole][start, 0]), int(rings[hole][start, 1])
        above = np.flatnonzero(~mask[: row - y, column - x])
        top = y + (int(above[-1]) + 1 if len(above) else 0)
        ring, edge = tops[column, top]
        cuts.setdefault(ring, []).append((edge, abs(column - rings[ring][edge, 0]), float(top), hole))
    # From the lowest hole up: whatever hangs on a hole lies below its first corner.
    order = sorted(holes, key=lambda hole: -rings[hole][starts[hole], 1])
    for number in [*order, *(n for n in range(len(rings)) if n not in starts)]:
        start = starts.get(number, 0)
        rings[number] = _with_cuts(rings, number, start, cuts.get(number, []))
    return [ring for number, ring in enumerate(rings) if number not in starts]


def join_rings(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Rings -> one ring (P, 2) float64, joined by lines that are walked forth and back, each to the nearest corner.

    Filled by even and odd crossings it covers what the rings cover, unless two of them overlap.
    """
    joined = np.asarray(rings[0], np.float64)
    for ring in rings[1:]:
        here, there = _nearest(joined, ring)
        walk = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], walk, joined[here:]])
    return joined


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Indices of the closest pair of points of (P, 2) and (Q, 2); memory of P, not of P times Q."""
    best = (np.inf, 0, 0)
    for j, point in enumerate(np.asarray(b)):
        squares = ((a - point) ** 2).sum(axis=1)
        i = int(squares.argmin())
        best = min(best, (float(squares[i]), i, j))
    return best[1], best[2]


def _turn(ring: np.ndarray) -> float:
    """Twice the area: positive for an outline of `rle_to_polygons`, negative for a hole."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _first_corner(ring: np.ndarray) -> int:
    """The left one of the topmost corners."""
    return int(np.lexsort((ring[:, 0], ring[:, 1]))[0])


def _top_edges(rings: list[np.ndarray]) -> dict[tuple[int, int], tuple[int, int]]:
    """(column, y) of each pixel edge with the object below it -> ring and the edge's index in it.

    The object lies on the right hand side of the way, y downwards: below those edges that go to the right.
    """
    found = {}
    for number, ring in enumerate(rings):
        following = np.roll(ring, -1, axis=0)
        for edge in np.flatnonzero(following[:, 0] > ring[:, 0]).tolist():
            for column in range(int(ring[edge, 0]), int(following[edge, 0])):
                found[column, int(ring[edge, 1])] = number, edge
    return found


def _with_cuts(
    rings: list[np.ndarray], number: int, start: int, cuts: list[tuple[int, float, float, int]]
) -> np.ndarray:
    """The ring from its corner `start` on, with the holes that hang on it; those must be whole already."""
    ring = rings[number]
    pieces, done = [], 0
    for edge, way, top, hole in sorted(cuts):
        pieces.append(ring[done : edge + 1])
        done = edge + 1
        corner = np.array([[ring[edge, 0] + way, top]])
        pieces += [corner, rings[hole], rings[hole][:1], corner]
    whole = np.concatenate([*pieces, ring[done:]])
    if not start:
        return whole
    # Corners that were put in before `start` move it.
    start += sum(2 + len(rings[hole]) + 1 for edge, _, _, hole in cuts if edge < start)
    return np.concatenate([whole[start:], whole[:start]])
