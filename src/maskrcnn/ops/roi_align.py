"""RoIAlign over a feature pyramid (Mask R-CNN paper, section 3), each RoI read from its own level.

With a fixed number of samples a cell, RoIAlign is a weighted sum of feature rows, and `embedding_bag` computes that
15 times faster on a CPU than torchvision's kernel (docs/log.md). It stands behind a custom operator, so that a graph
sees one node. The adaptive form (`sampling_ratio` 0) sums torchvision's kernel over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

_BAGS_AT_ONCE = 16384  # cells; of 256 channels 16 MB, in the cache until they are in their place


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
    if torch.compiler.is_exporting():  # one node, which each export translates as it likes
        return roi_align_node(list(features), boxes, image_index, resolution, sampling_ratio, aligned)
    levels = assign_levels(boxes, len(features))
    if sampling_ratio <= 0:
        return _adaptive(features, boxes, image_index, levels, resolution, aligned)
    channels = features[0].shape[1]
    rows = [f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features]  # NHWC: image, y, x
    by_level = boxes.device.type == "cpu"
    if by_level:
        levels, places = levels.sort(stable=True)
        boxes, image_index = boxes[places], image_index[places]
    indices, weights = _samples(features, boxes, image_index, levels, resolution, sampling_ratio, aligned)
    if by_level:
        pooled = gather_levels(rows, indices, weights.to(rows[0].dtype), levels, places)
    else:  # on a GPU a copy is cheap, and telling the levels apart would have to wait for their numbers
        starts = list(accumulate((len(r) for r in rows), initial=0))[:-1]
        first = of_level(starts, levels, torch.int64).repeat_interleave(resolution**2)
        pooled = gather_rows(torch.cat(rows), indices + first[:, None], weights.to(rows[0].dtype))
    return pooled.view(-1, resolution, resolution, channels).permute(0, 3, 1, 2)


def _samples(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    levels: Tensor,
    resolution: int,
    ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Which rows of its level each cell sums, and with what weight: (R * n * n, 4 * ratio**2), integers and float32."""
    device = boxes.device
    # Half the memory on a CPU, where making the indices costs as much time as reading the rows.
    integer = torch.int32 if device.type == "cpu" else torch.int64
    height = of_level([f.shape[2] for f in features], levels, integer)  # (R,)
    width = of_level([f.shape[3] for f in features], levels, integer)
    first_row = image_index.to(integer) * height * width  # (R,)

    scale = torch.exp2(-(levels + 2).to(boxes.dtype))  # 1 / stride
    shift = 0.5 if aligned else 0.0
    x0, y0, x1, y1 = (boxes * scale[:, None] - shift).unbind(-1)
    box_width, box_height = x1 - x0, y1 - y0
    if not aligned:  # the old form never reads less than one feature cell
        box_width, box_height = box_width.clamp(min=1.0), box_height.clamp(min=1.0)

    n, taps = resolution, 2 * ratio

    def axis(start: Tensor, length: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Both neighbours of n * ratio positions and their weights: each (R, n, taps)."""
        steps = (torch.arange(n * ratio, device=device, dtype=boxes.dtype) + 0.5) / ratio
        position = start[:, None] + steps * (length[:, None] / n)
        size = limit[:, None].to(boxes.dtype)
        inside = (position >= -1.0) & (position <= size)  # further out reads 0
        position = torch.minimum(position.clamp(min=0.0), size - 1)
        low = position.floor()
        upper = position - low
        low_index = low.to(integer)
        high_index = torch.minimum(low_index + 1, limit[:, None] - 1)
        weights = torch.stack([(1 - upper) * inside, upper * inside], -1)
        return torch.stack([low_index, high_index], -1).view(-1, n, taps), weights.view(-1, n, taps)

    def each_y_with_each_x(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, n, taps) of an axis -> (R, n, 1, taps * taps) and (R, 1, n, taps * taps).

        Written out, for a broadcast whose innermost loop is `taps` long takes five times as long.
        """
        y = y[..., None].expand(-1, -1, -1, taps).reshape(-1, n, 1, taps * taps)
        return y, x[:, :, None].expand(-1, -1, taps, -1).reshape(-1, 1, n, taps * taps)

    y, y_weight = axis(y0, box_height, height)
    x, x_weight = axis(x0, box_width, width)
    row, column = each_y_with_each_x(first_row[:, None, None] + y * width[:, None, None], x)
    row_weight, column_weight = each_y_with_each_x(y_weight / (ratio * ratio), x_weight)
    shape = -1, taps * taps
    return (row + column).view(shape), (row_weight * column_weight).view(shape)


def of_level(values: Sequence[int], levels: Tensor, dtype: torch.dtype) -> Tensor:
    """The value of each RoI's level: (R,). A table on a GPU would be a copy from the host, which waits for the device
    and cannot stand in a CUDA graph."""
    if levels.device.type == "cpu" and not torch.compiler.is_exporting():
        return torch.tensor(values, dtype=dtype)[levels]
    found = torch.full_like(levels, values[0], dtype=dtype)
    for level, value in enumerate(values[1:], start=1):
        found = torch.where(levels == level, value, found)
    return found


# ---------------------------------------------------------------- CPU: each level where it lies


@torch.library.custom_op("maskrcnn::gather_levels", mutates_args=())
def gather_levels(rows: Sequence[Tensor], indices: Tensor, weights: Tensor, levels: Tensor, places: Tensor) -> Tensor:
    """`gather_rows` from the table of each RoI's own level; for the CPU.

    Args:
        rows: L tables (Vl, C), left where they are: one table of all would have to be copied at every call.
        indices: (N, K) int32, into the table of the level. N is a multiple of R, RoI after RoI.
        weights: (N, K), same dtype as rows.
        levels: (R,) int64, ascending.
        places: (R,) int64, which RoI of the result each one is; ascending inside a level.

    Returns:
        (N, C).
    """
    rois, (bags, _) = len(levels), indices.shape
    cells = bags // max(rois, 1)
    out = rows[0].new_empty(rois, cells, rows[0].shape[1])
    together = max(_BAGS_AT_ONCE // max(cells, 1), 1)
    for table, (start, end) in zip(rows, _spans(levels, len(rows)), strict=True):
        if 0 < rois == end - start:  # all are in their place
            return F.embedding_bag(indices, table, per_sample_weights=weights, mode="sum")
        for first in range(start, end, together):
            some = slice(first * cells, min(first + together, end) * cells)
            sums = F.embedding_bag(indices[some], table, per_sample_weights=weights[some], mode="sum")
            out.index_copy_(0, places[first : first + together][: end - first], sums.view(-1, *out.shape[1:]))
    return out.flatten(0, 1)


@gather_levels.register_fake
def _(rows: Sequence[Tensor], indices: Tensor, weights: Tensor, levels: Tensor, places: Tensor) -> Tensor:
    return rows[0].new_empty(indices.shape[0], rows[0].shape[1])


@torch.library.custom_op("maskrcnn::scatter_levels", mutates_args=())
def scatter_levels(
    grad: Tensor, indices: Tensor, weights: Tensor, levels: Tensor, places: Tensor, counts: Sequence[int]
) -> list[Tensor]:
    """The transpose of `gather_levels`: grad (N, C) -> for each level (counts[level], C).

    Sorted by table row this is a gather as well, which writes every row once: 3 times faster than
    `_embedding_bag_dense_backward`, with the same sums in the same order.
    """
    grad = grad.contiguous()
    bags, per_bag = indices.shape
    cells = bags // max(len(levels), 1)
    # Where the gradient of each bag lies: places of RoIs, times cells.
    bag = (places.to(torch.int32)[:, None] * cells + torch.arange(cells, dtype=torch.int32)).view(-1)
    tables = []
    for count, (start, end) in zip(counts, _spans(levels, len(counts)), strict=True):
        if start == end:
            tables.append(grad.new_zeros(count, grad.shape[1]))
            continue
        mine = slice(start * cells, end * cells)
        row, order = indices[mine].reshape(-1).sort(stable=True)
        source = bag[mine][order.div(per_bag, rounding_mode="floor")]
        ends = torch.searchsorted(row, torch.arange(count + 1, dtype=row.dtype), out_int32=True)
        weight = weights[mine].reshape(-1)[order]
        tables.append(
            F.embedding_bag(source, grad, ends, per_sample_weights=weight, mode="sum", include_last_offset=True)
        )
    return tables


@scatter_levels.register_fake
def _(
    grad: Tensor, indices: Tensor, weights: Tensor, levels: Tensor, places: Tensor, counts: Sequence[int]
) -> list[Tensor]:
    return [grad.new_empty(count, grad.shape[1]) for count in counts]


def _spans(levels: Tensor, count: int) -> list[tuple[int, int]]:
    """First RoI of each level and the one after its last."""
    ends = torch.searchsorted(levels, torch.arange(count), right=True).tolist()
    return list(pairwise([0, *ends]))


def _setup_levels(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    rows, *rest = inputs
    ctx.save_for_backward(*rest)
    ctx.counts = [len(table) for table in rows]


def _backward_levels(ctx, grad):  # type: ignore[no-untyped-def]
    return scatter_levels(grad, *ctx.saved_tensors, ctx.counts), None, None, None, None


gather_levels.register_autograd(_backward_levels, setup_context=_setup_levels)


# ---------------------------------------------------------------- GPU: one table of all levels


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


@torch.library.custom_op("maskrcnn::roi_align", mutates_args=())
def roi_align_node(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """`multilevel_roi_align` as a single node of an exported graph."""
    return multilevel_roi_align(
        features, boxes, image_index, resolution=resolution, sampling_ratio=sampling_ratio, aligned=aligned
    ).contiguous()


@roi_align_node.register_fake
def _(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    resolution: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return features[0].new_empty(boxes.shape[0], features[0].shape[1], resolution, resolution)


def _adaptive(
    features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, levels: Tensor, resolution: int, aligned: bool
) -> Tensor:
    """torchvision's adaptive kernel on every level, with the other levels' RoIs zeroed: exact, and of fixed shape."""
    total = None
    for level, feature in enumerate(features):
        mine = levels == level
        # A RoI of another level shrinks to a point, so that it costs one sample a cell.
        inside = torch.where(mine[:, None], boxes, 0.0)
        rois = torch.cat([image_index[:, None].to(boxes.dtype), inside], dim=1)
        pooled = roi_align(feature, rois.to(feature.dtype), resolution, 1.0 / 2 ** (level + 2), 0, aligned)
        pooled = pooled * mine[:, None, None, None].to(pooled.dtype)
        total = pooled if total is None else total + pooled
    assert total is not None
    return total
