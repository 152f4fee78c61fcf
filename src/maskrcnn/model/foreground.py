"""The samples that the losses of masks and keypoints look at: those with an object."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn.ops.compact import rows_to_keep, take
from maskrcnn.structures import Samples


class Foreground(NamedTuple):
    """R of the B * N samples.

    Attributes:
        places: (R,) int64, which they are.
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64.
        labels: (R,) int64; 0 where not valid.
        matched: (R,) int64, index of the object in `Targets`.
        valid: (R,) bool.
    """

    places: Tensor
    boxes: Tensor
    image_index: Tensor
    labels: Tensor
    matched: Tensor
    valid: Tensor


def foreground_of(samples: Samples) -> Foreground:
    """At least one row, even if there is no foreground."""
    columns = slice(0, samples.max_foreground)  # the foreground comes first
    foreground = samples.foreground[:, columns]
    rows = rows_to_keep(foreground)
    image_index = rows // foreground.shape[1]
    valid = take(foreground, rows)
    return Foreground(
        places=image_index * samples.foreground.shape[1] + rows % foreground.shape[1],
        boxes=take(samples.boxes[:, columns], rows),
        image_index=image_index,
        labels=torch.where(valid, take(samples.labels[:, columns], rows), 0),
        matched=take(samples.matched[:, columns], rows),
        valid=valid,
    )
