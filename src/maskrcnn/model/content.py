"""Where the content lies in the padded input, and the frame in which the network counts it.

Matterport differs from everybody else twice: its content lies in the middle, and inside its network a box ends at the
index of its last pixel. Both are conversions on entry and exit; nothing in between knows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn.config import DataConfig


class Canvas(NamedTuple):
    """The inputs of a batch.

    Attributes:
        frame: (height, width), padding included.
        sizes: (B, 2) int64, (height, width) of each image's content.
    """

    frame: tuple[int, int]
    sizes: Tensor


def canvas_of(images: Tensor, sizes: Tensor) -> Canvas:
    """Of images (B, C, H, W)."""
    return Canvas((images.shape[-2], images.shape[-1]), sizes)


def content_mask(sizes: Tensor, frame: tuple[int, int], data: DataConfig) -> Tensor:
    """(B, 1, H, W) bool, true on the content of (height, width) `sizes` (B, 2) in inputs of `frame` (H, W)."""
    start, end = _span(sizes, frame, data)
    row, column = (torch.arange(side, device=sizes.device) for side in frame)
    rows = (row >= start[:, :1]) & (row < end[:, :1])  # (B, H)
    columns = (column >= start[:, 1:]) & (column < end[:, 1:])  # (B, W)
    return rows[:, None, :, None] & columns[:, None, None, :]


def proposal_limits(sizes: Tensor, frame: tuple[int, int], data: DataConfig, *, inclusive: bool) -> Tensor:
    """What proposals are cut to, as `ops.boxes.clip` takes it: the content; where it lies in the middle the whole
    input, as Matterport has it."""
    if data.pad_place == "centre":
        sizes = torch.stack([torch.full_like(sizes[:, 0], frame[0]), torch.full_like(sizes[:, 1], frame[1])], dim=1)
    return sizes - 1 if inclusive else sizes


def detection_limits(sizes: Tensor, frame: tuple[int, int], data: DataConfig, *, inclusive: bool) -> Tensor:
    """What detections are cut to, as `ops.boxes.clip` takes it: the content."""
    if data.pad_place == "corner":
        return sizes - 1 if inclusive else sizes
    start, end = _span(sizes, frame, data)
    return torch.cat([start.flip(1), end.flip(1) - 1 if inclusive else end.flip(1)], dim=1)


def enter(boxes: Tensor, *, inclusive: bool) -> Tensor:
    """Boxes (..., 4) of the input frame as the network counts them."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - 1], dim=-1) if inclusive else boxes


def leave(boxes: Tensor, *, inclusive: bool) -> Tensor:
    """The inverse of `enter`."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1) if inclusive else boxes


def _span(sizes: Tensor, frame: tuple[int, int], data: DataConfig) -> tuple[Tensor, Tensor]:
    """First row and column of the content, (B, 2) int64, and those after its last."""
    if data.pad_place == "corner":
        return torch.zeros_like(sizes), sizes
    spare = torch.stack([frame[0] - sizes[:, 0], frame[1] - sizes[:, 1]], dim=1)
    start = spare // 2
    return start, start + sizes
