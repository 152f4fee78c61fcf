"""A model of ours -> the .h5 that Matterport's Mask_RCNN loads, and a Config class that goes with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.weights.matterport.config import FIXED, to_attributes
from maskrcnn.weights.matterport.h5 import need_h5py, write_arrays
from maskrcnn.weights.matterport.names import BLOCKS, to_groups

MASK_NORMS = ("bn", "frozen_statistics")  # the same tensors, trained otherwise


def save_matterport(model: MaskRCNN, path: str | Path) -> list[Path]:
    """Write `NAME.h5` with Keras 2's names and beside it `NAME_config.py`, the Config that belongs to it.

    Args:
        model: one with Matterport's conventions: read from such a file, or built from `to_config`, and trained since.
        path: the .h5; its folder is created with its parents.

    Returns:
        Both files.

    Raises:
        WeightsError: a model that Matterport's code cannot express, files that are there already, a disk that does not
            let us write, or h5py is not installed.
    """
    path = Path(path)
    need_h5py()
    if path.suffix not in (".h5", ".hdf5"):
        raise WeightsError(f"{path}: Keras wants a file named .h5")
    check_expressible(model, path)
    beside = path.with_name(f"{path.stem}_config.py")
    for file in (path, beside):
        if file.exists():
            raise WeightsError(f"{file}: is there already; choose another name")
    trunk = model.config.backbone
    write_arrays(path, to_groups(model.state_dict(), trunk.name, trunk.norm_eps))
    try:
        beside.write_text(config_text(model, path.stem), encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{beside}: cannot write ({error.strerror or error})") from error
    return [path, beside]


def check_expressible(model: MaskRCNN, path: Path) -> None:
    """Raises `WeightsError` naming the first field that Matterport's network has otherwise."""
    config = Config(model=model.config, data=model.data)
    if model.config.backbone.name not in BLOCKS:
        raise WeightsError(f"{path}: the trunk {model.config.backbone.name} has no counterpart there; {_names()} have")
    for name, wanted in FIXED.items():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part, None)
        if value != wanted:
            raise WeightsError(f"{path}: {name} is {value!r} here and always {wanted!r} in Matterport's Mask_RCNN")
    if any(len(sizes) != 1 for sizes in model.config.rpn.anchors.sizes):
        raise WeightsError(f"{path}: model.rpn.anchors.sizes has several sizes a level, Matterport's Mask_RCNN one")
    if model.config.keypoint is not None or model.config.box.cascade or model.config.backbone.norm == "gn":
        raise WeightsError(f"{path}: keypoints, cascades and group norms have no counterpart in Matterport's Mask_RCNN")
    if model.config.mask is not None and model.config.mask.norm not in MASK_NORMS:
        raise WeightsError(
            f"{path}: model.mask.norm is {model.config.mask.norm!r} here and batch norm in Matterport's Mask_RCNN"
        )


def config_text(model: MaskRCNN, name: str) -> str:
    """A Python file with a Config class for prediction, class names in a list beside it."""
    attributes = to_attributes(Config(model=model.config, data=model.data), len(model.classes))
    lines = [f"    {key} = {value!r}" for key, value in attributes.items()]
    short = re.sub(r"\W", "_", name) or "model"
    return "\n".join(
        [
            "from mrcnn.config import Config",
            "",
            f"CLASS_NAMES = {['BG', *model.classes]!r}",
            "",
            "",
            "class ModelConfig(Config):",
            f"    NAME = {short!r}",
            "    GPU_COUNT = 1",
            "    IMAGES_PER_GPU = 1",
            *lines,
            "",
        ]
    )


def _names() -> str:
    return " and ".join(BLOCKS)
