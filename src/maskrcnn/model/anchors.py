"""Anchors: every size and ratio centred on the cells of each pyramid level, input frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """Feature shapes in, anchors out. No parameters; the shapes of each level are buffers.

    Args:
        sizes: one tuple a level, side of a square anchor in pixels.
        ratios: height / width.
        rounded: round corners to whole pixels (torchvision).
        grid_stride: stride = padded side // feature side (torchvision) instead of `strides`.
        strides: pixels per cell of each level.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        *,
        rounded: bool,
        grid_stride: bool,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
    ) -> None:
        super().__init__()
        self.grid_stride, self.strides = grid_stride, tuple(strides)
        self.per_cell = len(sizes[0]) * len(ratios)
        for level, level_sizes in enumerate(sizes):
            self.register_buffer(f"cell{level}", cell_anchors(level_sizes, ratios, rounded), persistent=False)

    def forward(self, features: Sequence[Tensor], padded: tuple[int, int]) -> list[Tensor]:
        """Maps (B, C, Hl, Wl) of an input of `padded` (H, W) -> per level (Hl * Wl * A, 4), order y, x, anchor."""
        anchors = []
        for level, feature in enumerate(features):
            height, width = feature.shape[-2:]
            stride = self.strides[level]
            stride_y, stride_x = (padded[0] // height, padded[1] // width) if self.grid_stride else (stride, stride)
            cell: Tensor = getattr(self, f"cell{level}")
            x = torch.arange(width, device=cell.device, dtype=cell.dtype) * stride_x
            y = torch.arange(height, device=cell.device, dtype=cell.dtype) * stride_y
            centre = torch.stack([x.expand(height, width), y[:, None].expand(height, width)] * 2, dim=-1)  # (Hl, Wl, 4)
            anchors.append((centre[:, :, None] + cell).view(-1, 4))
        return anchors


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float], rounded: bool) -> Tensor:
    """(len(ratios) * len(sizes), 4) around the origin, ratio-major, in pixels."""
    roots = torch.tensor(ratios, dtype=torch.float32).sqrt()
    side = torch.tensor(sizes, dtype=torch.float32)
    width = (1 / roots[:, None] * side).view(-1)
    height = (roots[:, None] * side).view(-1)
    cell = torch.stack([-width, -height, width, height], dim=1) / 2
    return cell.round() if rounded else cell
