"""TensorFlow's CropAndResize: one bilinear sample for each cell of a box, the outer cells on the border of the box, and
of the map read as if the corners of the image were the centres of its outer cells.

As in `ops/roi_align.py` the samples are weighted sums of feature rows, so that no loop runs over boxes or images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.ops.roi_align import assign_levels, gather_levels, gather_rows, of_level


def crop_and_resize(
    features: Tensor, boxes: Tensor, image_index: Tensor, *, sizes: Tensor, cells: Tensor, resolution: int
) -> Tensor:
    """Features inside each box; samples outside the image's part of the map are 0.

    Args:
        features: (B, C, H, W).
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64, the image of each box.
        sizes: (B, 2) int64, (height, width) of each image's content in the input. What lies beside it is no part of the
            image: the result does not depend on the padding.
        cells: (B, 2) int64, (height, width) of the map of the content.
        resolution: cells per side of the result.

    Returns:
        (R, C, resolution, resolution) in the features' dtype.
    """
    scale = (1.0 / sizes.double()).to(boxes.dtype)[image_index].flip(1).repeat(1, 2)  # times the reciprocal, as there
    height, width = features.shape[2:]
    places = _sample_places(boxes * scale, image_index, height, width, cells[image_index], resolution)
    return _pool([features], torch.zeros_like(image_index), *places, resolution)


def multilevel_crop_and_resize(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    *,
    frame: tuple[int, int],
    resolution: int,
    rounded: bool,
    inclusive: bool = False,
) -> Tensor:
    """Features inside each box, read from the map of its level (Matterport's PyramidROIAlign).

    Args:
        features: L maps (B, C, Hl, Wl) of strides 4, 8, ..., finest first.
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64, the image of each box.
        frame: (height, width) of the input, padding included.
        resolution: cells per side of the result.
        rounded: the level is rounded (Matterport), not cut (`assign_levels`).
        inclusive: a box ends at the index of its last pixel, and so does the input.

    Returns:
        (R, C, resolution, resolution) in the features' dtype.
    """
    fractions = fractions_of(boxes, frame, inclusive=inclusive)
    levels = rounded_levels(fractions, frame, len(features)) if rounded else assign_levels(boxes, len(features))
    height = of_level([f.shape[2] for f in features], levels, torch.int64)
    width = of_level([f.shape[3] for f in features], levels, torch.int64)
    cells = torch.stack([height, width], dim=1)
    places = _sample_places(fractions, image_index, height, width, cells, resolution)
    return _pool(features, levels, *places, resolution)


def fractions_of(boxes: Tensor, frame: tuple[int, int], *, inclusive: bool = False) -> Tensor:
    """Boxes (R, 4) in pixels -> in fractions of the frame: divided, so that one that ends at its border ends at 1."""
    height, width = (frame[0] - 1, frame[1] - 1) if inclusive else frame
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack([x0 / width, y0 / height, x1 / width, y1 / height], dim=-1)


def rounded_levels(fractions: Tensor, frame: tuple[int, int], levels: int) -> Tensor:
    """Pyramid level of each box in fractions of the frame: (..., 4) -> (...) int64, 0 = stride 4.

    4 + log2(side / 224), rounded half to even; operation by operation Matterport's, who measures the fractions with
    the last pixel's index and the frame with its number of pixels.
    """
    width, height = fractions[..., 2] - fractions[..., 0], fractions[..., 3] - fractions[..., 1]
    area = width.new_full((), frame[0] * frame[1])  # a tensor: graphs for all sizes take no root of a number
    side = (height.clamp(min=0) * width.clamp(min=0)).sqrt() / (224.0 / area.sqrt())
    level = 4 + (torch.log(side) / math.log(2.0)).round()
    return (level.clamp(2, 1 + levels) - 2).to(torch.int64)  # -inf of an empty box clamps to the finest level


def _sample_places(
    fractions: Tensor,
    image_index: Tensor,
    height: int | Tensor,
    width: int | Tensor,
    cells: Tensor,
    resolution: int,
) -> tuple[Tensor, Tensor]:
    """Which rows of its map (NHWC: image, y, x) each cell sums, and with what weight: (R * n * n, 4) each.

    Args:
        fractions: (R, 4) boxes.
        image_index: (R,) int64.
        height, width: of the map, or of the map of each box (R,) int64.
        cells: (R, 2) int64, (height, width) of the image's part of it.
        resolution: n.
    """
    x0, y0, x1, y1 = fractions.unbind(-1)
    cells_y, cells_x = cells.unbind(-1)
    y, fraction_y, inside_y = sample_axis(y0, y1, cells_y, resolution)
    x, fraction_x, inside_x = sample_axis(x0, x1, cells_x, resolution)
    both_y = torch.stack([y, torch.minimum(y + 1, cells_y[:, None] - 1)], -1)  # (R, n, 2)
    both_x = torch.stack([x, torch.minimum(x + 1, cells_x[:, None] - 1)], -1)
    weight_y = torch.stack([1 - fraction_y, fraction_y], -1) * inside_y[..., None]
    weight_x = torch.stack([1 - fraction_x, fraction_x], -1) * inside_x[..., None]
    first = (image_index * (height * width))[:, None, None, None, None]
    stride = width[:, None, None, None, None] if isinstance(width, Tensor) else width
    indices = first + both_y[:, :, None, :, None] * stride + both_x[:, None, :, None, :]  # (R, n, n, 2, 2)
    weights = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    return indices.reshape(-1, 4), weights.reshape(-1, 4)


def sample_axis(start: Tensor, end: Tensor, length: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the samples of one axis lie.

    The operations and their order are TensorFlow's (core/kernels/image/crop_and_resize_op.cc): for a box that ends at
    the image's border one unit in the last place decides between the outer cell and 0.

    Args:
        start, end: (R,) float32, the box as fractions of the image.
        length: (R,) int64, cells of the map.
        count: samples.

    Returns:
        (R, count) each: the cell before the sample (int64), the fraction of the way to the next, and whether the sample
        lies in the map; where not, the others are 0.
    """
    last = (length - 1).to(start.dtype)
    if count > 1:
        step = (end - start) * last / (count - 1)
        position = (start * last)[:, None] + torch.arange(count, device=start.device, dtype=start.dtype) * step[:, None]
    else:
        position = (0.5 * (start + end) * last)[:, None]
    inside = (position >= 0) & (position <= last[:, None])
    position = torch.where(inside, position, 0.0)  # also those that are not finite
    low = position.floor()
    return low.to(torch.int64), position - low, inside


def crops_of_full_masks(
    masks: Tensor, boxes: Tensor, matched: Tensor, *, frame: tuple[int, int], resolution: int
) -> Tensor:
    """Mask targets by the TensorFlow Object Detection API's own rule, from masks of the whole image.

    Training resamples box-local crops instead (`MaskHead.targets`), whose memory does not grow with the image; this is
    what those are compared with.

    Args:
        masks: (G, H, W), 0 or 1, original frame.
        boxes: (R, 4) float32, input frame.
        matched: (R,) int64, which mask.
        frame: (height, width) of the input, all content.
        resolution: M.

    Returns:
        (R, M, M) float32 in 0..1: the mask, resized to the input by nearest neighbour, read by CropAndResize.
    """
    rows, columns = (
        # The place in float32: in float64 whole multiples fall a pixel short.
        (torch.arange(after, dtype=torch.float32) * (torch.tensor(float(before)) / after)).long().clamp(max=before - 1)
        for before, after in zip(masks.shape[1:], frame, strict=True)
    )
    resized = masks.float()[:, rows][:, :, columns]
    whole = torch.tensor([frame]).expand(len(masks), -1)
    return crop_and_resize(resized[:, None], boxes, matched, sizes=whole, cells=whole, resolution=resolution)[:, 0]


def _pool(features: Sequence[Tensor], levels: Tensor, indices: Tensor, weights: Tensor, resolution: int) -> Tensor:
    """Weighted sums of the cells of each box's map.

    Args:
        features: L maps (B, C, Hl, Wl).
        levels: (R,) int64, the map of each box.
        indices, weights: (R * n * n, 4), see `_sample_places`.
        resolution: n.

    Returns:
        (R, C, n, n).
    """
    channels, cells = features[0].shape[1], resolution**2
    tables = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]  # NHWC: image, y, x
    weights = weights.to(tables[0].dtype)
    exporting = torch.compiler.is_exporting()
    if not exporting and levels.device.type == "cpu":
        order = levels.argsort(stable=True)
        indices, weights = (_boxes_in_order(values, order, cells) for values in (indices.to(torch.int32), weights))
        pooled = gather_levels(tables, indices, weights, levels[order], order)
    else:
        rows = (table.shape[0] for table in tables)  # `len` would make a graph for all sizes one for a single size
        starts = list(accumulate(rows, initial=0))[:-1]
        indices = indices + of_level(starts, levels, torch.int64)[:, None].expand(-1, cells).reshape(-1, 1)
        table = torch.cat(tables)
        pooled = _sum_of_four(table, indices, weights) if exporting else gather_rows(table, indices, weights)
    return pooled.view(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


def _boxes_in_order(values: Tensor, order: Tensor, cells: int) -> Tensor:
    """(R * cells, 4) with the boxes in another order."""
    return values.view(-1, cells, 4)[order].view(-1, 4)


def _sum_of_four(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """`gather_rows` of operators that every runtime has."""
    total = F.embedding(indices[:, 0], table) * weights[:, :1]
    for tap in range(1, 4):
        total = total + F.embedding(indices[:, tap], table) * weights[:, tap : tap + 1]
    return total
