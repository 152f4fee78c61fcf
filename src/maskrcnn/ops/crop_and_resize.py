"""TensorFlow's CropAndResize: one bilinear sample for each cell of a box, the outer cells on the border of the box, and
of the map read as if the corners of the image were the centres of its outer cells.

As in `ops/roi_align.py` the samples are weighted sums of feature rows, so that no loop runs over boxes or images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.ops.roi_align import gather_levels, gather_rows


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
    channels, height, width = features.shape[1:]
    x0, y0, x1, y1 = boxes.unbind(-1)
    scale_y, scale_x = (1.0 / sizes.double()).to(boxes.dtype)[image_index].unbind(-1)
    cells_y, cells_x = cells[image_index].unbind(-1)
    y, fraction_y, inside_y = sample_axis(y0 * scale_y, y1 * scale_y, cells_y, resolution)
    x, fraction_x, inside_x = sample_axis(x0 * scale_x, x1 * scale_x, cells_x, resolution)
    both_y = torch.stack([y, (y + 1).clamp(max=height - 1)], -1)  # (R, n, 2)
    both_x = torch.stack([x, (x + 1).clamp(max=width - 1)], -1)
    weight_y = torch.stack([1 - fraction_y, fraction_y], -1) * inside_y[..., None]
    weight_x = torch.stack([1 - fraction_x, fraction_x], -1) * inside_x[..., None]
    first = (image_index * (height * width))[:, None, None, None, None]
    indices = first + both_y[:, :, None, :, None] * width + both_x[:, None, :, None, :]  # (R, n, n, 2, 2)
    weights = (weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]).to(features.dtype)
    rows = features.permute(0, 2, 3, 1).reshape(-1, channels)  # NHWC: image, y, x
    pooled = _gather(rows, indices.reshape(-1, 4), weights.reshape(-1, 4), boxes.shape[0])
    return pooled.view(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


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


def _gather(rows: Tensor, indices: Tensor, weights: Tensor, boxes: int) -> Tensor:
    """Weighted sums of rows (V, C) at (N, 4) -> (N, C); N is a multiple of `boxes`."""
    if torch.compiler.is_exporting():  # operators that every runtime has
        total = F.embedding(indices[:, 0], rows) * weights[:, :1]
        for tap in range(1, 4):
            total = total + F.embedding(indices[:, tap], rows) * weights[:, tap : tap + 1]
        return total
    if rows.device.type != "cpu":
        return gather_rows(rows, indices, weights)
    places = torch.arange(boxes)
    return gather_levels([rows], indices.to(torch.int32), weights, torch.zeros_like(places), places)
