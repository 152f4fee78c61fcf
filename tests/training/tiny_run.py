"""A data set of coloured squares in real files, and a network of a few thousand weights, for fast training tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from maskrcnn.config import Config
from maskrcnn.dataset import Dataset
from maskrcnn.presets import preset
from maskrcnn.structures import Polygons, Record

SIDE = 64


class TinyBackbone(nn.Module):
    """Four strided convolutions, the first with a BatchNorm where asked."""

    channels = (8, 8, 16, 16)
    strides = (4, 8, 16, 32)

    def __init__(self, norm: str) -> None:
        super().__init__()
        first = nn.Conv2d(3, 8, 4, stride=4)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.BatchNorm2d(8)) if norm == "bn" else first])
        self.stages.extend(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in [(8, 8), (8, 16), (16, 16)])

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return maps


def tiny_backbone(config) -> TinyBackbone:
    return TinyBackbone(config.norm)


def tiny_config(**changes) -> Config:
    base = {
        "model.backbone.norm": "frozen_bn",
        "model.fpn.norm": "none",
        "model.mask.norm": "none",
        "model.fpn.channels": 8,
        "model.box.fully_connected_channels": 16,
        "model.box.samples_per_image": 16,
        "model.mask.channels": 8,
        "model.mask.convolutions": 1,
        "model.rpn.samples_per_image": 32,
        "model.rpn.pre_nms_train": 50,
        "model.rpn.post_nms_train": 30,
        "model.rpn.pre_nms_test": 50,
        "model.rpn.post_nms_test": 30,
        "data.min_size": SIDE,
        "data.max_size": SIDE,
        "data.workers": 0,
        "train.batch_size": 4,
        "train.steps": 6,
        "train.ema_decay": 0.9,
        "train.trackers": (),
        "train.log_every": 2,
        "train.evaluate_every": 1.0,
        "train.save_every": 1.0,
    }
    return preset("shapes").replace(**(base | changes))


def write_squares(folder: Path, count: int, classes: tuple[str, ...] = ("red", "green"), seed: int = 0) -> Dataset:
    """`count` images of SIDE x SIDE with one to three squares each; the colour is the class. Files there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    records = []
    for image_id in range(1, count + 1):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        objects = int(rng.integers(1, 4))
        boxes, labels = np.zeros((objects, 4), np.float32), rng.integers(0, len(classes), objects)
        for i in range(objects):
            x, y = rng.integers(2, SIDE - 30, 2)
            side = int(rng.integers(14, 26))
            pixels[y : y + side, x : x + side] = 0
            pixels[y : y + side, x : x + side, labels[i]] = 230
            boxes[i] = x, y, x + side, y + side
        path = folder / f"{image_id:03d}.png"
        if not path.exists():  # two processes share a folder that one of them has filled before
            Image.fromarray(pixels).save(path)
        rings = [np.array([[b[0], b[1]], [b[2], b[1]], [b[2], b[3]], [b[0], b[3]]], np.float64) for b in boxes]
        records.append(
            Record(
                path=path,
                image_id=image_id,
                height=SIDE,
                width=SIDE,
                boxes=boxes,
                labels=labels.astype(np.int64),
                masks=tuple(Polygons((ring,)) for ring in rings),
                crowd=np.zeros(objects, bool),
                areas=((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float32),
                annotation_ids=np.arange(objects, dtype=np.int64) + 100 * image_id,
            )
        )
    return Dataset(records, tuple(classes), tuple(range(1, len(classes) + 1)), name=str(folder))
