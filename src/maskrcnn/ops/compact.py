"""Drop padded rows where that is free: in eager mode on a CPU and in exported graphs. Elsewhere shapes are fixed, so
all rows stay."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_to_keep(valid: Tensor) -> Tensor:
    """(B, N) bool -> (R,) int64 flat indices: the valid rows (at least one) on an eager CPU and in an exported graph,
    all rows elsewhere.

    The results are the same either way: invalid rows are masked out of losses and detections.
    """
    if torch.compiler.is_exporting():
        return _rows_of_graph(valid.reshape(-1))
    if valid.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.arange(valid.numel(), device=valid.device)
    rows = valid.reshape(-1).nonzero()[:, 0]
    # One row, even if invalid, keeps batch norms working and the loss connected to the graph.
    return rows if len(rows) else torch.zeros(1, dtype=torch.int64)


def _rows_of_graph(valid: Tensor) -> Tensor:
    """The same without a look at the values: row 0 counts as valid where no other is."""
    first = torch.arange(valid.shape[0], device=valid.device) == 0
    rows = (valid | (first & ~valid.any())).nonzero()[:, 0]
    torch._check(rows.shape[0] >= 1)
    torch._check(rows.shape[0] <= valid.shape[0])
    return rows


def take(values: Tensor, rows: Tensor) -> Tensor:
    """values (B, N, ...) at flat `rows` (R,) -> (R, ...)."""
    return values.reshape(-1, *values.shape[2:])[rows]


def put(values: Tensor, rows: Tensor, batch: int, count: int) -> Tensor:
    """The inverse of `take`: (R, ...) -> (batch, count, ...), zeros elsewhere."""
    full = values.new_zeros(batch * count, *values.shape[1:])
    if torch.compiler.is_exporting():  # older exporters to ONNX do not know `index_copy` on rows of unknown number
        index = rows.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
        return full.scatter(0, index, values).view(batch, count, *values.shape[1:])
    return full.index_copy(0, rows, values).view(batch, count, *values.shape[1:])
