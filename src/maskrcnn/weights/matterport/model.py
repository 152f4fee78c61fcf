"""A weight file of Matterport's Mask_RCNN -> our model with its conventions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.weights.classes import contiguous_names
from maskrcnn.weights.matterport.config import read_attributes, to_config
from maskrcnn.weights.matterport.h5 import read_arrays
from maskrcnn.weights.matterport.names import to_state
from maskrcnn.weights.native import load_foreign

COCO = 80


def load_matterport(
    path: str | Path,
    *,
    config: Any = None,
    classes: Sequence[str] | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights, the conventions and the preprocessing of Matterport's Mask_RCNN.

    Args:
        path: the .h5 that its training or `keras_model.save_weights` wrote.
        config: the Config that belongs to it, which the file does not hold: `config.py` (never run), `config.py:NAME`,
            a JSON file of the attributes, a dict, a class or an object. None: Matterport's defaults; with other than
            COCO's 80 classes a warning says so.
        classes: names without the background; None: COCO's for 80, "class 1", ... for others.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode.

    Raises:
        WeightsError: no such file, a damaged one, another network, one of Keras 3, a Config of other weights, or
            h5py is not installed.
        ConfigError: a Config that cannot be read or describes what is not built here; an unknown override.
    """
    return open_matterport(path, config=config, classes=classes, **overrides)[0]


def open_matterport(
    path: str | Path,
    *,
    config: Any = None,
    classes: Sequence[str] | None = None,
    **overrides: Any,
) -> tuple[MaskRCNN, Config]:
    """`load_matterport`, with the whole config of the run: schedule and data too."""
    where = str(path)
    arrays = read_arrays(path)
    with weights_of(where):
        state, trunk = to_state(arrays)
        count = len(state["mask_head.logits.bias"])
        attributes = {} if config is None else read_attributes(config)
        told = str(config) if isinstance(config, (str, Path)) else "config"
        _check_same(attributes, state, trunk, count, told)
        names, ids = contiguous_names(count, classes)
    if config is None and count != COCO:
        warnings.warn(
            f"{where}: no Config was given, so image size, anchors and thresholds are Matterport's defaults; give "
            "yours with config= (--model-config)",
            stacklevel=3,
        )
    chosen = to_config(attributes, told, trunk=trunk)
    chosen = chosen.replace(**{f"model.{name}": value for name, value in overrides.items()})
    model = build_model(chosen.model, classes=names, category_ids=ids, data=chosen.data)
    load_foreign(model, state, where=where)
    return model.eval(), chosen


def _check_same(attributes: Mapping[str, Any], state: Mapping[str, Tensor], trunk: str, count: int, told: str) -> None:
    """What a Config says about the weights must be so. Raises `WeightsError`."""
    ratios = attributes.get("RPN_ANCHOR_RATIOS")
    anchors = len(state["rpn.deltas.bias"]) // 4
    facts = {
        "NUM_CLASSES": (attributes.get("NUM_CLASSES"), count + 1, "classes, the background counted"),
        "BACKBONE": (attributes.get("BACKBONE"), trunk, "as trunk"),
        "RPN_ANCHOR_RATIOS": (len(ratios) if isinstance(ratios, (list, tuple)) else None, anchors, "shapes of anchors"),
    }
    for name, (said, found, what) in facts.items():
        if isinstance(said, (int, str)) and said != found:
            raise WeightsError(
                f"{told} has {name} {said}, but the weights have {found} {what}; give the Config they had"
            )
