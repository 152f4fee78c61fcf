"""RoIAlign over a feature pyramid (Mask R-CNN paper, section 3), each RoI read from its own level.

With a fixed number of samples a cell, RoIAlign is a weighted sum of feature rows, and `embedding_bag` computes that
15 times faster on a CPU than torchvision's kernel (docs/log.md). It stands behind a custom operator, so that a graph
sees one node. The adaptive form (`sampling_ratio` 0) sums torchvision's kernel over levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def assign_levels(boxes: Tensor, levels: int) -> Tensor:
    """Pyramid level of each box: (..., 4) -> (...) int64, 0 = stride 4 (FPN paper, equation 1).

    A box of 224 px reads stride 16; the epsilon inside keeps exact powers of two on torchvision's side.
    """
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    side = (width.clamp(min=0) * height.clamp(min=0)).sqrt()
    level = torch.floor(4.0 + torch.log2(side / 224.0) + 1e-6)
    return (level.clamp(2, 1 + levels) - 2).to(torch.int64)  # -inf of an empty box clamps to the finest level


def multilevel_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    *,
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Features inside each box.

    Args:
        features: L maps (B, C, Hl, Wl) with strides 4, 8, ..., finest first.
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64, the image of each box.
        resolution: cells per side of the result.
        sampling_ratio: samples per cell and axis; 0 adapts to the box size.
        aligned: shift by half a pixel, which is exact (True), or not (torchvision's default).

    Returns:
        (R, C, resolution, resolution) in the features' dtype.
    """
    levels = assign_levels(boxes, len(features))
    if sampling_ratio <= 0:
        return _adaptive(features, boxes, image_index, levels, resolution, aligned)
    batch, channels = features[0].shape[:2]
    # NHWC rows of all levels and images, one under the other: level, image, y, x.
    rows = torch.cat([f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features])
    heights = [f.shape[2] for f in features]
    widths = [f.shape[3] for f in features]
    indices, weights = _samples(boxes, image_index, levels, heights, widths, batch, resolution, sampling_ratio, aligned)
    pooled = gather_rows(rows, indices, weights.to(rows.dtype))  # (R * n * n, C)
    return pooled.view(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


def _samples(
    boxes: Tensor,
    image_index: Tensor,
    levels: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    batch: int,
    resolution: int,
    ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Which rows each cell sums, and with what weight: (R * n * n, ratio * ratio * 4) int64 and float32."""
    device = boxes.device
    height = torch.tensor(heights, device=device)[levels]  # (R,)
    width = torch.tensor(widths, device=device)[levels]
    starts = [0]
    for h, w in zip(heights, widths, strict=True):
        starts.append(starts[-1] + batch * h * w)
    first_row = torch.tensor(starts[:-1], device=device)[levels] + image_index * height * width  # (R,)

    scale = torch.exp2(-(levels + 2).to(boxes.dtype))  # 1 / stride
    shift = 0.5 if aligned else 0.0
    x0, y0, x1, y1 = (boxes * scale[:, None] - shift).unbind(-1)
    box_width, box_height = x1 - x0, y1 - y0
    if not aligned:  # the old form never reads less than one feature cell
        box_width, box_height = box_width.clamp(min=1.0), box_height.clamp(min=1.0)

    def axis(start: Tensor, length: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lower and upper neighbour and their weights at n * ratio positions: each (R, n * ratio)."""
        steps = (torch.arange(resolution * ratio, device=device, dtype=boxes.dtype) + 0.5) / ratio
        position = start[:, None] + steps * (length[:, None] / resolution)
        size = limit[:, None].to(boxes.dtype)
        inside = (position >= -1.0) & (position <= size)  # further out reads 0
        position = torch.minimum(position.clamp(min=0.0), size - 1)
        low = position.floor()
        upper = position - low
        low_index = low.to(torch.int64)
        high_index = torch.minimum(low_index + 1, limit[:, None] - 1)
        return low_index, high_index, (1 - upper) * inside, upper * inside

    y_low, y_high, wy_low, wy_high = axis(y0, box_height, height)
    x_low, x_high, wx_low, wx_high = axis(x0, box_width, width)
    n, s = resolution, ratio
    ys = torch.stack([y_low, y_high], -1).view(-1, n, 1, s, 1, 2, 1)  # (R, n, 1, s, 1, 2, 1)
    xs = torch.stack([x_low, x_high], -1).view(-1, 1, n, 1, s, 1, 2)  # (R, 1, n, 1, s, 1, 2)
    wy = torch.stack([wy_low, wy_high], -1).view(-1, n, 1, s, 1, 2, 1) / (s * s)
    wx = torch.stack([wx_low, wx_high], -1).view(-1, 1, n, 1, s, 1, 2)
    row = first_row.view(-1, 1, 1, 1, 1, 1, 1)
    indices = row + ys * width.view(-1, 1, 1, 1, 1, 1, 1) + xs  # (R, n, n, s, s, 2, 2)
    return indices.reshape(-1, s * s * 4), (wy * wx).reshape(-1, s * s * 4)


@torch.library.custom_op("maskrcnn::gather_rows", mutates_args=())
def gather_rows(rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows: `out[i] = sum_k weights[i, k] * rows[indices[i, k]]`.

    Args:
        rows: (V, C).
        indices: (N, K) int64.
        weights: (N, K), same dtype as rows.

    Returns:
        (N, C).
    """
    return F.embedding_bag(indices, rows, per_sample_weights=weights, mode="sum")


@gather_rows.register_fake
def _(rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    return rows.new_empty(indices.shape[0], rows.shape[1])


@torch.library.custom_op("maskrcnn::scatter_rows", mutates_args=())
def scatter_rows(grad: Tensor, indices: Tensor, weights: Tensor, count: int) -> Tensor:
    """The transpose of `gather_rows`: grad (N, C) -> (count, C)."""
    bags, per_bag = indices.shape
    bag = torch.arange(bags, device=grad.device)
    sizes = torch.full((bags,), per_bag, device=grad.device)
    # The kernel behind embedding_bag's own gradient: neither autograd nor the rows are needed to call it.
    return torch.ops.aten._embedding_bag_dense_backward(
        grad.contiguous(),
        indices.reshape(-1),
        bag.repeat_interleave(per_bag),
        sizes,
        torch.empty(0, dtype=torch.int64, device=grad.device),  # only for mode "max"
        count,
        False,  # scale_grad_by_freq
        0,  # mode "sum"
        weights.reshape(-1),
    )


@scatter_rows.register_fake
def _(grad: Tensor, indices: Tensor, weights: Tensor, count: int) -> Tensor:
    return grad.new_empty(count, grad.shape[1])


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    rows, indices, weights = inputs
    ctx.save_for_backward(indices, weights)
    ctx.count = rows.shape[0]


def _backward(ctx, grad):  # type: ignore[no-untyped-def]
    indices, weights = ctx.saved_tensors
    return scatter_rows(grad, indices, weights, ctx.count), None, None


gather_rows.register_autograd(_backward, setup_context=_setup_context)


def _adaptive(
    features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, levels: Tensor, resolution: int, aligned: bool
) -> Tensor:
    """torchvision's adaptive kernel on every level, with the other levels' RoIs zeroed: exact, and of fixed shape."""
    total = None
    for level, feature in enumerate(features):
        rois = torch.cat([image_index[:, None].to(boxes.dtype), boxes], dim=1)
        mine = levels == level
        # A RoI of another level shrinks to a point, so that it costs one sample a cell.
        rois = torch.where(mine[:, None], rois, rois * rois.new_tensor([1.0, 0.0, 0.0, 0.0, 0.0]))
        pooled = roi_align(feature, rois.to(feature.dtype), resolution, 1.0 / 2 ** (level + 2), 0, aligned)
        pooled = pooled * mine[:, None, None, None].to(pooled.dtype)
        total = pooled if total is None else total + pooled
    assert total is not None
    return total
