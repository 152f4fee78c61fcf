"""Where the files lie that the original TensorFlow code wrote. None of them is part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrcnn.config import BackboneConfig

SHARED = Path(os.environ.get("MASKRCNN_TEST_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")).parent
FULL_SIZE = "MASKRCNN_TEST_TENSORFLOW_GOLDEN"
TF2 = "mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8"
# The trunk of each full-size model of TF1.
TRUNKS = {
    "mask_rcnn_inception_v2_coco": BackboneConfig(name="inception_v2", stride=16, norm_eps=1e-3),
    "mask_rcnn_resnet50_atrous_coco": BackboneConfig(name="resnet_v1_50", stride=8),
    "mask_rcnn_resnet101_atrous_coco": BackboneConfig(name="resnet_v1_101", stride=8),
    "mask_rcnn_inception_resnet_v2_atrous_coco": BackboneConfig(name="inception_resnet_v2", stride=8, norm_eps=1e-3),
}
TINY = BackboneConfig(name="inception_v2", stride=16, norm_eps=1e-3, width=0.0625, min_width=8)


def tiny() -> Path:
    """The thin Inception v2 model."""
    path = (SHARED / "oracles" / "tensorflow" / "tiny_inception_v2").resolve()
    if not path.is_dir():
        pytest.skip(f"the thin TensorFlow model is not at {path}; set MASKRCNN_TEST_DATA to the folder data beside it")
    return path


def full_size(name: str) -> Path:
    """One of the full-size models, in the folder that the environment names."""
    if FULL_SIZE not in os.environ:
        pytest.skip(f"full-size TensorFlow models are not here; make them as their recipe says and set {FULL_SIZE}")
    path = Path(os.environ[FULL_SIZE]) / name
    if not (path / "case0.npz").is_file():
        pytest.skip(f"{path} is not there; make it as the recipe says")
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Everything in an .npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def images(array: np.ndarray) -> Tensor:
    """NHWC -> (N, C, H, W)."""
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())
