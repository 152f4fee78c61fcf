"""Drop padded rows where that is free: in eager mode on a CPU. Elsewhere shapes are fixed, so all rows stay."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_to_keep(valid: Tensor) -> Tensor:
    """(B, N) bool -> (R,) int64 flat indices: the valid rows on an eager CPU (at least one), all rows elsewhere.

    The results are the same either way: invalid rows are masked out of losses and detections.
    """
    if valid.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.arange(valid.numel(), device=valid.device)
    rows = valid.reshape(-1).nonzero()[:, 0]
    # One row, even if invalid, keeps batch norms working and the loss connected to the graph.
    return rows if len(rows) else torch.zeros(1, dtype=torch.int64)


def take(values: Tensor, rows: Tensor) -> Tensor:
    """values (B, N, ...) at flat `rows` (R,) -> (R, ...)."""
    return values.reshape(-1, *values.shape[2:])[rows]


def put(values: Tensor, rows: Tensor, batch: int, count: int) -> Tensor:
    """The inverse of `take`: (R, ...) -> (batch, count, ...), zeros elsewhere."""
    full = values.new_zeros(batch * count, *values.shape[1:])
    return full.index_copy(0, rows, values).view(batch, count, *values.shape[1:])
