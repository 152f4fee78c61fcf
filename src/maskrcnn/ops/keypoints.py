"""Keypoints between the image and the heat maps of a box. Fixed shapes, no sync."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_LOOK = 2  # points per cell of a heat map and axis
PEAKS = 8  # of those that are higher than their neighbours, how many are looked at closely
TAPS = 8  # cells per side that a close look reads: two and those of the cubic on either side
PAD = 4
CUBIC = -0.75  # Keys's factor, as in `F.interpolate`


def cells_of_keypoints(keypoints: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The cell of a heat map in which each keypoint lies.

    Args:
        keypoints: (R, K, 3) x, y, visibility, input frame.
        boxes: (R, 4), input frame.
        side: cells per side of a heat map.

    Returns:
        (R, K) int64 index of the cell, row by row; (R, K) bool, whether the point is labelled and in the box. A point
        on the right or lower border belongs to the last cell.
    """
    start, end = boxes[:, None, :2], boxes[:, None, 2:]
    point = keypoints[..., :2]
    cell = ((point - start) * (side / (end - start).clamp(min=1e-6))).floor()
    cell = torch.where(point == end, float(side - 1), cell)
    inside = ((cell >= 0) & (cell < side)).all(dim=-1) & (keypoints[..., 2] > 0)
    x, y = cell.clamp(0, side - 1).to(torch.int64).unbind(-1)
    return torch.where(inside, y * side + x, 0), inside


def peaks(maps: Tensor, boxes: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """The highest point of each heat map, enlarged to the pixels of its box by cubic interpolation.

    That enlarged map has as many cells as the box has pixels, another number for every box. It is not made. A first
    look at two points per cell of the small map and axis finds its peaks, a close look at all cells around the highest
    `PEAKS` of them the highest of all: the result is that of the whole enlarged map unless that has its top where the
    first look saw eight higher peaks (white noise; the head's maps are smooth).

    Args:
        maps: (R, K, S, S).
        boxes: (R, 4), input frame; sides below a pixel count as one.
        longest: no box has a longer side, in pixels.

    Returns:
        (R, K, 2) x and y in the input frame; (R, K) the enlarged map's value there.
    """
    if torch.compiler.is_exporting():
        return peaks_node(maps, boxes, longest)
    side = maps.shape[2]
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)  # (R, 2) width, height
    counts = sides.ceil()  # cells of the enlarged map
    padded = F.pad(maps, (PAD, PAD, PAD, PAD), mode="replicate")  # (R, K, S + 8, S + 8)
    x, y = _first_look(padded, counts)  # (R, K, T)
    reach = -(-longest // (FIRST_LOOK * side))
    x, weight_x, column, good_x = _close_look(x, counts[:, 0, None, None], side, reach)
    y, weight_y, row, good_y = _close_look(y, counts[:, 1, None, None], side, reach)
    values = weight_y @ _patches(padded, row, column) @ weight_x.transpose(-1, -2)  # (R, K, T, N, N)
    values = torch.where(good_y[..., :, None] & good_x[..., None, :], values, -torch.inf)
    best, index = values.flatten(2).max(dim=-1)  # (R, K)
    length = x.shape[3]
    peak = index // length**2 * length
    x = x.flatten(2).gather(2, (peak + index % length)[..., None])
    y = y.flatten(2).gather(2, (peak + index // length % length)[..., None])
    place = (torch.cat([x, y], dim=-1) + 0.5) * (sides / counts)[:, None] + boxes[:, None, :2]
    return place, best


@torch.library.custom_op("maskrcnn::peaks", mutates_args=())
def peaks_node(maps: Tensor, boxes: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """`peaks` as a single node of an exported graph, where shapes with an unknown R take the exporter minutes."""
    return peaks(maps, boxes, longest)


@peaks_node.register_fake
def _(maps: Tensor, boxes: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    return maps.new_empty(*maps.shape[:2], 2), maps.new_empty(maps.shape[:2])


def _first_look(padded: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Cells of the enlarged map near its highest peaks: x and y, each (R, K, T), whole numbers as floats.

    Args:
        padded: (R, K, S + 8, S + 8).
        counts: (R, 2), width and height of the enlarged map.
    """
    side = padded.shape[2] - 2 * PAD
    points = FIRST_LOOK * side
    count = counts[..., None]  # (R, 2, 1)
    point = torch.arange(points, device=padded.device, dtype=padded.dtype)
    cell = torch.where(count <= points, point, ((point + 0.5) * (count / points)).floor())  # (R, 2, P)
    there = cell < count
    cell = torch.minimum(cell, count - 1)
    taps = torch.arange(side + 2 * PAD, device=padded.device, dtype=padded.dtype) - PAD
    weight = cubic(_position(cell, count, side)[..., None] - taps)[:, :, None]  # (R, 2, 1, P, S + 8)
    values = weight[:, 1] @ padded @ weight[:, 0].transpose(-1, -2)  # (R, K, P, P)
    values = torch.where(there[:, 1, None, :, None] & there[:, 0, None, None, :], values, -torch.inf)
    highest = F.max_pool2d(values, 3, stride=1, padding=1)
    tops = torch.where(values == highest, values, -torch.inf).flatten(2)
    index = tops.topk(min(PEAKS, tops.shape[2]), dim=2).indices  # (R, K, T)
    x, y = (cell[:, axis, None].expand(-1, index.shape[1], -1) for axis in (0, 1))
    return x.gather(2, index % points), y.gather(2, index // points)


def _close_look(cell: Tensor, count: Tensor, side: int, reach: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cells of the enlarged map around some, along one axis.

    Args:
        cell: (R, K, T), whole numbers as floats.
        count: (R, 1, 1) cells of the enlarged map.
        side: cells of the small one.
        reach: cells of the enlarged map on either side.

    Returns:
        (R, K, T, N) the N = 2 * reach + 1 cells; (R, K, T, N, TAPS) weights of cells of the small map; (R, K, T) int64,
        the first of those, in the padded map; (R, K, T, N) bool, whether there is such a cell to look at.
    """
    offset = torch.arange(2 * reach + 1, device=cell.device, dtype=cell.dtype) - reach
    points = FIRST_LOOK * side
    far = torch.where(2 * count < side, 0.0, (count / points).ceil())[..., None]
    cells, count = cell[..., None] + offset, count[..., None]
    good = (cells >= 0) & (cells < count) & (offset.abs() <= far)
    first = _position(cell, count[..., 0], side).floor() - 3
    taps = torch.arange(TAPS, device=cell.device, dtype=cell.dtype)
    distance = (_position(cells, count, side) - first[..., None])[..., None] - taps
    return cells, cubic(distance), first.to(torch.int64) + PAD, good


def _patches(padded: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The cells that a close look reads, from row and column (R, K, T) on: (R, K, T, TAPS, TAPS)."""
    width = padded.shape[-1]
    offset = torch.arange(TAPS, device=padded.device)
    index = (row[..., None, None] + offset[:, None]) * width + column[..., None, None] + offset
    return padded.flatten(2).gather(2, index.flatten(2)).view(index.shape)


def _position(cell: Tensor, count: Tensor, side: int) -> Tensor:
    """Where cells of the enlarged map lie in the small one, in cells from the middle of its first."""
    return side / count * (cell + 0.5) - 0.5


def cubic(distance: Tensor) -> Tensor:
    """The weight of a cell at some distance (Keys 1981)."""
    d = distance.abs()
    near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
    far = ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
