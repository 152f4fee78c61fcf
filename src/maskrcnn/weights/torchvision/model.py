"""torchvision's Mask, Faster and Keypoint R-CNN: a state dict or a model in, our model with its conventions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.config import Config, DataConfig
from maskrcnn.errors import WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets.torchvision import torchvision_v1
from maskrcnn.weights.classes import class_names, keypoint_schema
from maskrcnn.weights.facts import Facts, facts_of
from maskrcnn.weights.native import load_state
from maskrcnn.weights.pickles import read_pth
from maskrcnn.weights.recognise import framework_of, state_of
from maskrcnn.weights.torchvision.names import to_ours
from maskrcnn.weights.torchvision.settings import fields_of

# The published files that torchvision runs with an epsilon of 0 in the trunk's norms, by the mark in their names.
WITHOUT_EPSILON = ("bf2d0c1e", "fc266e95", "258fb6c6")


def from_torchvision(
    source: torch.nn.Module | Mapping[str, Tensor],
    *,
    classes: Sequence[str] | None = None,
    norm_eps: float | None = None,
    config: Config | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights and conventions of torchvision's `maskrcnn_resnet50_fpn`, its v2, `fasterrcnn_*` or
    `keypointrcnn_resnet50_fpn`, or of one built by hand on another ResNet.

    Args:
        source: the model, whose settings (sizes, thresholds, anchors) are taken too, or its state dict.
        classes: names of classes 1, 2, ...; None: COCO's for 91 rows (unused ids are called "unused 12"), "person" for
            17 keypoints, else "class 1", ...
        norm_eps: epsilon of the trunk's norms; None: read from the model, 1e-5 for a state dict. torchvision runs its
            released COCO_V1 weights with 0.
        config: ours, instead of the usual one for these shapes.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode.

    Raises:
        WeightsError: other names or shapes than those models'.
        ConfigError: an unknown override.
    """
    settings: dict[str, Any] = {}
    if isinstance(source, torch.nn.Module):
        settings = fields_of(source)
        source = source.state_dict()
    ours = to_ours({name: value.detach().cpu() for name, value in source.items()})
    facts = facts_of(ours)
    if facts.arrangement != "fpn":
        raise WeightsError("has no pyramid; of torchvision's detectors, those on resnet_fpn_backbone are read")
    if config is None:
        config = _usual(facts).replace(**settings)
        if norm_eps is not None:
            config = config.replace(**{"model.backbone.norm_eps": norm_eps})
    config = config.replace(**{f"model.{name}": value for name, value in overrides.items()})
    names, ids = class_names(facts.classes, _person(facts) if classes is None else classes)
    points = keypoint_schema(facts.keypoints) if facts.keypoints else None
    model = build_model(config.model, classes=names, category_ids=ids, data=config.data, keypoints=points)
    own = model.state_dict()
    for name in [n for n in ours if n.endswith("num_batches_tracked") and n not in own]:
        del ours[name]  # the norms are frozen here
    load_state(model, ours | {name: own[name] for name in ("mean", "std")}, where="torchvision's weights")
    return model.eval()


def load_torchvision(
    path: str | Path, *, data: Mapping[str, Any] | None = None, norm_eps: float | None = None, **options: Any
) -> MaskRCNN:
    """A `.pth` file of a torchvision state dict, or of a checkpoint around one. No pickled code is run.

    Args:
        path: the file.
        data: what is in the file, if it was read already.
        norm_eps: as in `from_torchvision`; None: 0 for the published files that need it, told by their names.
        options: as in `from_torchvision`.

    Raises:
        WeightsError: no such file, a damaged one, or other weights.
    """
    path = Path(path)
    data = read_pth(path) if data is None else data
    if norm_eps is None and any(mark in path.name for mark in WITHOUT_EPSILON):
        norm_eps = 0.0
    with weights_of(path):
        state = state_of(data)
        framework_of(state)
        return from_torchvision(state, norm_eps=norm_eps, **options)


def _usual(facts: Facts) -> Config:
    trunk = facts.fields["model.backbone.name"]
    masks, keypoints = facts.fields.get("model.mask", True) is not None, bool(facts.keypoints)
    config = torchvision_v1(trunk, masks=masks, keypoints=keypoints).replace(**facts.fields)
    if keypoints:  # its builder takes the last of 640, ..., 800
        config = replace(config, data=replace(config.data, **_keypoint_data(config.data)))
    return config


def _keypoint_data(data: DataConfig) -> dict[str, Any]:
    return {"scale_jitter": (640 / data.min_size, 1.0)}


def _person(facts: Facts) -> list[str] | None:
    return ["person"] if facts.classes == 1 and facts.keypoints == 17 else None
