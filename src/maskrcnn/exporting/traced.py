"""A model as a graph of PyTorch operators: the common start of every export."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from maskrcnn.config import ModelConfig
from maskrcnn.errors import ExportError
from maskrcnn.exporting.graph import PhotoGraph, TensorGraph
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.exported.info import LARGEST, MOST_IMAGES, SMALLEST, ExportInfo, side_unit


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph, its eager original and its description.

    Attributes:
        program: of PyTorch operators, ours among them.
        module: what was traced.
        info: the description that goes into the file.
        inputs, outputs: names, in order.
    """

    program: ExportedProgram
    module: nn.Module
    info: ExportInfo
    inputs: list[str]
    outputs: list[str]


def trace(model: MaskRCNN, *, size: tuple[int, int] | None = None, batch: int | None = 1) -> Traced:
    """Record what the model computes.

    Args:
        model: left as it is.
        size: (height, width) of the network's input, for photos of any size; None: resized tensors of all sizes.
        batch: images at a time; None: any number.

    Raises:
        ExportError: a size that is no multiple of 32 where there is a pyramid, or too small; a batch below 1.
    """
    check_size(size, model.config)
    if batch is not None and batch < 1:
        raise ExportError(f"batch {batch} must be at least 1")
    info = ExportInfo(
        classes=model.classes,
        category_ids=model.category_ids,
        model=model.config,
        data=model.data,
        size=size,
        batch=batch,
        keypoints=None if model.keypoint_head is None else model.keypoints,
    )
    module = (TensorGraph(model) if size is None else PhotoGraph(model, size)).eval()
    example = example_inputs(info, len(model.config.image_mean))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (), dict(example), dynamic_shapes=_dynamic_shapes(info))
    return Traced(program, module, info, list(example), info.outputs)


def check_size(size: tuple[int, int] | None, config: ModelConfig) -> None:
    """Raises `ExportError` for a network input that a pyramid does not fit on, or that is too small."""
    unit = side_unit(config)
    if size is not None and (min(size) < SMALLEST or size[0] % unit or size[1] % unit):
        raise ExportError(f"size {size[0]}x{size[1]}: both sides must be multiples of {unit}, {SMALLEST} at least")


def example_inputs(info: ExportInfo, channels: int) -> dict[str, Tensor]:
    """Black images with which the graph is recorded, by name and in order."""
    count = info.batch or 2  # a dimension of 1 would be taken for a constant
    height, width = info.size or (256, 320)
    if info.takes == "photo":
        height, width = height // 2 + 1, width // 2 + 3
    images = torch.zeros(count, channels, height, width, dtype=getattr(torch, info.image_dtype))
    inputs = {"images": images}
    if info.takes == "tensor":
        inputs["sizes"] = torch.tensor([[height, width]] * count)
    return inputs | {"score_threshold": torch.tensor(info.model.box.score_threshold)}


def _dynamic_shapes(info: ExportInfo) -> Mapping[str, Any]:
    batch = {} if info.batch else {0: Dim("batch", min=1, max=MOST_IMAGES)}
    if info.takes == "photo":
        images = {**batch, 2: Dim("height", min=2, max=2**15), 3: Dim("width", min=2, max=2**15)}
        return {"images": images, "score_threshold": None}
    unit = info.unit
    height, width = (Dim(name, min=SMALLEST // unit, max=LARGEST // unit) for name in ("rows", "columns"))
    sides = {2: height if unit == 1 else unit * height, 3: width if unit == 1 else unit * width}
    return {"images": {**batch, **sides}, "sizes": batch or None, "score_threshold": None}
