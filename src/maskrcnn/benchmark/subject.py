"""The model that is timed, and the pictures and objects that it gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import Config, DataConfig, ModelConfig
from maskrcnn.data.synthetic import draw_shapes
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets import preset
from maskrcnn.structures import Targets
from maskrcnn.weights.classes import keypoint_schema
from maskrcnn.weights.load import open_weights

CLASSES = 80  # COCO's
KEYPOINTS = 17  # a person's, as in COCO
PHOTO_SIDE = 640  # pixels of the photo's longer side, as COCO's photos have
DEFAULT_PHOTO = (480, 640)
OBJECTS = 8  # of a training image; COCO has 7 on average
ALL_DETECTIONS: dict[str, Any] = {"box.score_threshold": 0.0}
"""Overrides with which every slot of the detections is filled: random weights find nothing, drawn pictures little."""


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        name: the preset or the file.
        model: in evaluation mode, on the CPU; gives as many detections as it has slots.
        config: of the model and its training.
        random: whether the weights are random.
    """

    name: str
    model: MaskRCNN
    config: Config
    random: bool


def random_subject(name: str, config: Config, classes: int | tuple[str, ...] = CLASSES) -> Subject:
    """A network of `config` with random weights and so many classes, or classes of these names."""
    names = tuple(f"class {number}" for number in range(1, classes + 1)) if isinstance(classes, int) else classes
    network = config.replace(**{f"model.{field}": value for field, value in ALL_DETECTIONS.items()})
    keypoints = keypoint_schema(KEYPOINTS) if network.model.keypoint else None
    model = build_model(network.model, classes=names, data=config.data, keypoints=keypoints).eval()
    if model.mask_head is not None:  # whole boxes: one run a column, as objects have; noise would have a hundred
        bias = model.mask_head.logits.bias
        assert bias is not None
        torch.nn.init.zeros_(model.mask_head.logits.weight)
        torch.nn.init.ones_(bias)
    return Subject(name, model, network, random=True)


def make_subject(models: tuple[str, ...], preset_name: str) -> Subject:
    """The only model, or the preset with random weights. Raises `WeightsError` where it cannot be read."""
    if not models:
        return random_subject(preset_name, preset(preset_name))
    model, config = open_weights(models[0], **ALL_DETECTIONS)
    return Subject(models[0], model, Config(model.config, model.data, config.train), random=False)


def sized(data: DataConfig, size: tuple[int, int]) -> DataConfig:
    """The same preprocessing, which resizes a photo of these proportions to this size (height, width)."""
    return replace(data, min_size=min(size), max_size=max(size))


def photo_size(size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the photo for an input of this size: of its proportions, 640 pixels long."""
    if size is None:
        return DEFAULT_PHOTO
    scale = PHOTO_SIDE / max(size)
    return max(16, round(size[0] * scale)), max(16, round(size[1] * scale))


def photo(size: tuple[int, int], model: ModelConfig, data: DataConfig, seed: int = 0) -> Tensor:
    """(C, H, W) shapes on a background, uint8; of as many channels as the model takes, raw ones float32."""
    drawn = torch.from_numpy(draw_shapes(size, np.random.default_rng(seed))[0]).permute(2, 0, 1)
    image = drawn[torch.arange(len(model.image_mean)) % 3].contiguous()
    return image.float() if data.pixels == "raw" else image


def targets(batch: int, size: tuple[int, int], classes: int, cells: int, points: int | None = None) -> Targets:
    """`OBJECTS` boxes with masks of their left half, in each of `batch` images of (height, width).

    Args:
        cells: S of `Targets.masks`; 0 without masks.
        points: keypoints of each object, anywhere in its box; None: none.
    """
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([size[1], size[0]], dtype=torch.float32)
    start = torch.rand(batch, OBJECTS, 2, generator=generator) * 0.6 * sides
    extent = (torch.rand(batch, OBJECTS, 2, generator=generator) * 0.3 + 0.08) * sides
    masks = torch.zeros(batch, OBJECTS, cells, cells, dtype=torch.uint8)
    masks[..., : cells // 2] = 255
    keypoints = None
    if points is not None:
        place = torch.rand(batch, OBJECTS, points, 2, generator=generator)
        place = start[:, :, None] + place * extent[:, :, None]
        keypoints = torch.cat([place, torch.full_like(place[..., :1], 2.0)], dim=-1)
    return Targets(
        boxes=torch.cat([start, start + extent], dim=-1),
        labels=torch.randint(0, classes, (batch, OBJECTS), generator=generator),
        masks=masks,
        valid=torch.ones(batch, OBJECTS, dtype=torch.bool),
        crowd=torch.zeros(batch, OBJECTS, dtype=torch.bool),
        keys=torch.arange(batch),
        keypoints=keypoints,
    )
