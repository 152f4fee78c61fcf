"""Outputs of the original frameworks, and how far ours are from them. They are not part of the repository."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from maskrcnn.instances import Instances


def oracles(data_dir: Path) -> ModuleType:
    """The module that makes the originals' checkpoints and reads their outputs; skips the test where it is missing."""
    file = data_dir.parent / "oracles" / "rebuild.py"
    if not file.is_file():
        pytest.skip(f"the oracles are not at {file.parent}")
    if "maskrcnn_oracles" not in sys.modules:
        spec = importlib.util.spec_from_file_location("maskrcnn_oracles", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["maskrcnn_oracles"] = module
        spec.loader.exec_module(module)
    return sys.modules["maskrcnn_oracles"]


def folder(data_dir: Path, name: str) -> Path:
    """Where an oracle lies; skips the test where it is missing."""
    path = data_dir.parent / "oracles" / name
    if not path.is_dir():
        pytest.skip(f"the oracle is not at {path}")
    return path


def empty_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of the right names and shapes that share one zero, for strict loading without numbers."""
    shapes = json.loads((path / "keys.json").read_text())
    return {
        name: torch.zeros((), dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32).expand(
            shape
        )
        for name, shape in shapes.items()
    }


@dataclass
class Agreement:
    """Over all detections of the original.

    Attributes:
        count: of the original, found: of them ours too, by class and overlap; ours: how many we have.
        boxes, scores, keypoints: largest error of those found, in pixels of the picture and as probability or logit.
        mask: smallest overlap of two masks, of boxes at least two pixels wide and high; one pixel of a mask of less
            than a hundred is rounding.
        pixels: of all masks together, unlike.
    """

    count: int
    found: int
    ours: int
    boxes: float
    scores: float
    mask: float | None
    pixels: int
    keypoints: float | None


def compare(
    ours: Instances, boxes: Any, scores: Any, labels: Any, masks: Any = None, keypoints: Any = None
) -> Agreement:
    """Match each detection of the original with ours of the same class that is nearest; scores may swap places.

    Args:
        ours: of the same picture.
        boxes: (N, 4), scores: (N,), labels: (N,), index into our classes; of the original, in the picture.
        masks: (N, H, W) bool, keypoints: (N, K, 3), or None.
    """
    boxes, scores, labels = np.asarray(boxes), np.asarray(scores), np.asarray(labels)
    distance = np.abs(boxes[:, None] - ours.boxes[None]).max(-1) + 1e6 * (labels[:, None] != ours.labels[None])
    distance += np.abs(scores[:, None] - ours.scores[None])
    match = distance.argmin(1)
    apart = distance[np.arange(len(boxes)), match]
    iou, unlike = None, 0
    if masks is not None:
        mine = ours.masks[match]
        common, union = (mine & masks).sum((1, 2)), (mine | masks).sum((1, 2))
        wide = (apart < 1) & ((boxes[:, 2:] - boxes[:, :2]) >= 2).all(1) & (union > 0)
        common = common + ((union < 100) & (common == union - 1))
        iou, unlike = float((common / np.maximum(union, 1))[wide].min()), int((mine != masks).sum())
    points = None
    if keypoints is not None:
        assert ours.keypoints is not None
        points = float(np.abs(ours.keypoints[match][..., :2] - np.asarray(keypoints)[..., :2]).max())
    return Agreement(
        count=len(boxes),
        found=len(set(match[apart < 1].tolist())),
        ours=len(ours),
        boxes=float(np.abs(ours.boxes[match] - boxes)[apart < 1].max()),
        scores=float(np.abs(ours.scores[match] - scores)[apart < 1].max()),
        mask=iou,
        pixels=unlike,
        keypoints=points,
    )
