"""Pictures whose objects have a colour of their own, so that what an image shows can be held against its masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskrcnn.ops.masks import encode_mask
from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record


def ellipse(centre: tuple[float, float], radii: tuple[float, float], corners: int = 60) -> np.ndarray:
    """Ring (P, 2) around (x, y)."""
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn)], -1)


def filled(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: pixels whose centre is inside the ring (even-odd), written out in full."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    inside = np.zeros(size, bool)
    for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crosses = (ya > y) != (yb > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
    return inside


def picture(rings: list[np.ndarray], size: tuple[int, int], channel: int = 0) -> torch.Tensor:
    """(3, H, W) uint8, black; 255 in this channel where any ring is."""
    image = np.zeros((*size, 3), np.uint8)
    for ring in rings:
        image[filled(ring, size), channel] = 255
    return torch.from_numpy(image).permute(2, 0, 1)


def mask_of(ring: np.ndarray, size: tuple[int, int], kind: str, path: Path) -> Mask:
    """The ring as "polygon", "rle" or "file"."""
    if kind == "polygon":
        return Polygons((ring,))
    if kind == "rle":
        return RLE(size, encode_mask(filled(ring, size))["counts"])
    Image.fromarray(filled(ring, size)).save(path)
    return MaskFile(path)


def record_of(
    rings: list[np.ndarray], size: tuple[int, int], kind: str = "polygon", folder: Path = Path(), **changes
) -> Record:
    """One object a ring, boxes tight."""
    n = len(rings)
    values = {
        "path": Path("a.png"),
        "image_id": 1,
        "height": size[0],
        "width": size[1],
        "boxes": np.array([[*ring.min(0), *ring.max(0)] for ring in rings], np.float32).reshape(-1, 4),
        "labels": np.arange(n, dtype=np.int64),
        "masks": tuple(mask_of(ring, size, kind, folder / f"mask-{i}.png") for i, ring in enumerate(rings)),
        "crowd": np.zeros(n, bool),
        "areas": np.ones(n, np.float32),
        "annotation_ids": np.arange(n, dtype=np.int64),
    }
    return Record(**(values | changes))


def pasted(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Box-local (S, S) uint8 -> (H, W) bool, nearest cell."""
    cells = len(mask)
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    row = np.floor((y - box[1]) / (box[3] - box[1]) * cells).astype(int)
    column = np.floor((x - box[0]) / (box[2] - box[0]) * cells).astype(int)
    inside = (row >= 0) & (row < cells) & (column >= 0) & (column < cells)
    return inside & (mask[row.clip(0, cells - 1), column.clip(0, cells - 1)] >= 128)


def box_around(shown: np.ndarray) -> np.ndarray:
    """(4,) of the pixels that are set."""
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool."""
    return (a & b).sum() / max((a | b).sum(), 1)
