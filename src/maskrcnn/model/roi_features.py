"""What the heads see of a box: from the pyramid level of its size, or, without a pyramid, from the trunk's one map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from maskrcnn.config import PoolerConfig
from maskrcnn.ops.crop_and_resize import (
    crop_and_resize,
    fractions_of,
    multilevel_crop_and_resize,
    rounded_levels,
)
from maskrcnn.ops.roi_align import assign_levels, multilevel_roi_align


def from_pyramid(
    features: Sequence[Tensor],
    boxes: Tensor,
    image_index: Tensor,
    pooler: PoolerConfig,
    *,
    strides: Sequence[int] = (4, 8, 16, 32),
    frame: tuple[int, int],
    inclusive: bool = False,
) -> Tensor:
    """The cells of boxes.

    Args:
        features: maps (B, C, Hl, Wl).
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64.
        pooler: how to read.
        strides: of the maps; for crop_and_resize 4, 8, ...
        frame: (height, width) of the input, padding included.
        inclusive: a box ends at the index of its last pixel; for crop_and_resize.

    Returns:
        (R, C, n, n).
    """
    if pooler.kind == "crop_and_resize":
        return multilevel_crop_and_resize(
            features,
            boxes,
            image_index,
            frame=frame,
            resolution=pooler.resolution,
            rounded=pooler.levels == "round",
            inclusive=inclusive,
        )
    return _roi_align(features[: levels_read(strides)], boxes, image_index, pooler, strides[0])


def levels_read(strides: Sequence[int]) -> int:
    """From how many of the maps, finest first, boxes are read: the first four, of two of one stride only the first, as
    torchvision has it. The others serve the RPN."""
    read = strides[:4]
    return (read[-1] // read[0]).bit_length()


def from_map(
    feature: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    pooler: PoolerConfig,
    *,
    stride: int,
    sizes: Tensor,
) -> Tensor:
    """The same without a pyramid: the crops that the trunk's last stage takes, or the heads.

    Args:
        feature: (B, C, H, W).
        boxes: (R, 4) float32, input frame.
        image_index: (R,) int64.
        pooler: how to read.
        stride: pixels per cell of the map.
        sizes: (B, 2) int64, (height, width) of each image's content, over which crop_and_resize spreads its cells.

    Returns:
        (R, C, n, n) with n = (resolution - kernel) // stride + 1 of `max_pool`.
    """
    if pooler.kind == "crop_and_resize":
        cells = (sizes + stride - 1) // stride
        crops = crop_and_resize(feature, boxes, image_index, sizes=sizes, cells=cells, resolution=pooler.resolution)
    else:
        crops = _roi_align([feature], boxes, image_index, pooler, stride)
    kernel, step = pooler.max_pool
    return crops if kernel == step == 1 else F.max_pool2d(crops, kernel, step)


def _roi_align(
    features: Sequence[Tensor], boxes: Tensor, image_index: Tensor, pooler: PoolerConfig, stride: int
) -> Tensor:
    """`stride` is that of the first map, which RoIAlign takes for 4: the factor is a power of two, so exact."""
    return multilevel_roi_align(
        features,
        boxes if stride == 4 else boxes * (4 / stride),
        image_index,
        resolution=pooler.resolution,
        sampling_ratio=pooler.sampling_ratio,
        aligned=pooler.aligned,
    )


def levels_of(
    boxes: Tensor, pooler: PoolerConfig, levels: int, *, frame: tuple[int, int], inclusive: bool = False
) -> Tensor:
    """Which of `levels` maps `from_pyramid` reads boxes (R, 4) from: (R,) int64, 0 = the finest."""
    if pooler.kind == "crop_and_resize" and pooler.levels == "round":
        return rounded_levels(fractions_of(boxes, frame, inclusive=inclusive), frame, levels)
    return assign_levels(boxes, levels)


def crop_side(pooler: PoolerConfig) -> int:
    """Cells per side of what `from_map` gives."""
    kernel, step = pooler.max_pool
    return (pooler.resolution - kernel) // step + 1
