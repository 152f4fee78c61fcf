"""Outlines with fewer corners, for people who correct them by hand."""

from __future__ import annotations

import numpy as np


def simplify_ring(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """A closed ring (P, 2) -> the same dtype, (Q, 2), Q <= P: no corner left out is further than `tolerance` pixels
    from the new outline (Ramer, Douglas and Peucker). At least three corners stay, or the ring as it was."""
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    points = ring.astype(np.float64)
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    if not far:
        return ring
    closed = np.concatenate([points, points[:1]])
    kept = np.zeros(len(closed), bool)
    kept[[0, far, len(points)]] = True
    waiting = [(0, far), (far, len(points))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        distances = _to_segment(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            waiting += [(first, middle), (middle, last)]
    corners = np.flatnonzero(kept[:-1])
    return ring[corners] if len(corners) >= 3 else ring


def _to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distances (P,) of points (P, 2) to the segment between two of (2,)."""
    way = end - start
    length = float(way @ way)
    along = np.clip((points - start) @ way / length, 0, 1) if length else np.zeros(len(points))
    return np.linalg.norm(points - (start + along[:, None] * way), axis=1)
