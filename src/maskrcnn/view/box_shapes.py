"""How well anchors fit the boxes of a data set, by shape: arithmetic on columns."""

from __future__ import annotations

import numpy as np

from maskrcnn.config import AnchorConfig, DataConfig
from maskrcnn.model.anchors import cell_anchors
from maskrcnn.table import Table

PIECE = 1 << 18  # boxes compared with all anchors in one go


def input_sides(table: Table, data: DataConfig) -> np.ndarray:
    """(N, 2) float64 height, width in input pixels of all boxes that have an area, crowds left out."""
    boxes = table.boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        sides = np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
    sizes = np.maximum(table.sizes, 1)
    scale = data.max_size / sizes.max(axis=1)
    if data.resize != "square":
        wanted = data.min_size / sizes.min(axis=1)
        scale = np.minimum(np.maximum(wanted, 1.0) if data.resize == "grow" else wanted, scale)
    keep = ~table.crowd & (sides > 0).all(axis=1) & np.isfinite(sides).all(axis=1)
    return sides[keep] * scale[table.image_of[keep]][:, None]


def anchor_shapes(anchors: AnchorConfig) -> np.ndarray:
    """(A, 2) float64 height, width of the anchors of all levels."""
    cells = [cell_anchors(sizes, anchors.ratios, anchors.rounded).numpy() for sizes in anchors.sizes]
    boxes = np.concatenate(cells).astype(np.float64)
    return np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)


def best_anchor_iou(sides: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """(N,) IoU of each box (N, 2) with the anchor (A, 2) that fits it best, both around the same centre."""
    best = np.zeros(len(sides))
    for start in range(0, len(sides), PIECE):
        some = sides[start : start + PIECE, None]
        both = np.minimum(some, shapes).prod(axis=2)  # (n, A)
        best[start : start + PIECE] = (both / (some.prod(axis=2) + shapes.prod(axis=1) - both)).max(axis=1)
    return best
