"""torchvision's Mask, Faster and Keypoint R-CNN: a state dict or a model in, our model with its conventions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets.torchvision import MOBILENET, MOBILENET_320, torchvision_v1
from maskrcnn.weights.classes import class_names, keypoint_schema
from maskrcnn.weights.facts import Facts, facts_of
from maskrcnn.weights.missing import whole
from maskrcnn.weights.native import load_foreign
from maskrcnn.weights.pickles import read_pth
from maskrcnn.weights.recognise import framework_of, state_of
from maskrcnn.weights.torchvision.check import check_same
from maskrcnn.weights.torchvision.names import KNOWN, names_of, to_ours
from maskrcnn.weights.torchvision.settings import fields_of, returned_layers
from maskrcnn.weights.torchvision.trunks import REMEDY, trunk_fields

# The published files that torchvision runs with an epsilon of 0 in the trunk's norms, by the mark in their names.
WITHOUT_EPSILON = ("bf2d0c1e", "fc266e95", "258fb6c6")
AT_320 = "mobilenet_v3_large_320_fpn"  # in the name of the published file


def from_torchvision(
    source: torch.nn.Module | Mapping[str, Tensor],
    *,
    classes: Sequence[str] | None = None,
    norm_eps: float | None = None,
    config: Config | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights and conventions of torchvision's `maskrcnn_resnet50_fpn`, its v2, `fasterrcnn_*` or
    `keypointrcnn_resnet50_fpn`, or of one built by hand on another ResNet, a MobileNet or an EfficientNet.

    Args:
        source: the model, whose settings (sizes, thresholds, anchors, maps) are taken too, or its state dict.
        classes: names of classes 1, 2, ...; None: COCO's for 91 rows (unused ids are called "unused 12"), "person" for
            17 keypoints, else "class 1", ...
        norm_eps: epsilon of the trunk's norms; None: read from the model, for a state dict that of torchvision's
            builders, mostly 1e-5. torchvision runs its released COCO_V1 weights with 0.
        config: ours, instead of the usual one for these shapes.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode.

    Raises:
        WeightsError: other names or shapes than those models'; anchors that a state dict does not tell; a trunk that
            computes something else than ours with the same weights.
        ConfigError: an unknown override.
    """
    module = source if isinstance(source, torch.nn.Module) else None
    told: dict[str, Any] = {} if module is None else fields_of(module)
    if norm_eps is not None:
        told["model.backbone.norm_eps"] = norm_eps
    state = source.state_dict() if isinstance(source, torch.nn.Module) else source
    returned = None if module is None else returned_layers(module)
    model = _opened(state, told, config, classes, overrides, returned)
    if module is not None:
        check_same(module, model)
    return model


def load_torchvision(
    path: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    norm_eps: float | None = None,
    config: Config | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """A `.pth` file of a torchvision state dict, or of a checkpoint around one. No pickled code is run.

    Args:
        path: the file.
        data: what is in the file, if it was read already.
        classes, config, overrides: as in `from_torchvision`.
        norm_eps: as in `from_torchvision`; None: 0 for the published files that need it, told by their names.

    Raises:
        WeightsError: no such file, a damaged one, or other weights.
    """
    path = Path(path)
    data = read_pth(path) if data is None else data
    told = dict(MOBILENET_320) if AT_320 in path.name else {}
    if norm_eps is None and any(mark in path.name for mark in WITHOUT_EPSILON):
        norm_eps = 0.0
    if norm_eps is not None:
        told["model.backbone.norm_eps"] = norm_eps
    with weights_of(path):
        state = state_of(data)
        framework_of(state)
        return _opened(state, told, config, classes, overrides)


def _opened(
    state: Mapping[str, Tensor],
    told: Mapping[str, Any],
    config: Config | None,
    classes: Sequence[str] | None,
    overrides: Mapping[str, Any],
    returned: Sequence[str] | None = None,
) -> MaskRCNN:
    """Of a state dict, the fields that somebody `told`, and the layers that the model `returned`."""
    with whole("torchvision", names_of(state), KNOWN):
        ours = to_ours({name: value.detach().cpu() for name, value in state.items()})
        facts = facts_of(ours, trunk_fields(ours, returned))
    chosen = {f"model.{name}": value for name, value in overrides.items()}
    config = config.replace(**chosen) if config is not None else _usual(facts, {**told, **chosen})
    _check_anchors(config, facts)
    names, ids = class_names(facts.classes, _person(facts) if classes is None else classes)
    points = keypoint_schema(facts.keypoints) if facts.keypoints else None
    model = build_model(config.model, classes=names, category_ids=ids, data=config.data, keypoints=points)
    with whole("torchvision", names_of(state), KNOWN):
        load_foreign(model, ours, where="torchvision's weights")
    return model.eval()


def _usual(facts: Facts, told: Mapping[str, Any]) -> Config:
    """The conventions of torchvision, with what the shapes fix and what somebody said."""
    masks, keypoints = facts.fields.get("model.mask", True) is not None, bool(facts.keypoints)
    fields: dict[str, Any] = {}
    if keypoints:  # its builder takes the last of 640, ..., 800
        fields["data.scale_jitter"] = (640 / 800, 1.0)
    levels = _levels(facts)
    if levels == 3 and facts.anchors == 15:
        fields |= MOBILENET
    elif levels != 5 and "model.rpn.anchors.sizes" not in told:
        raise WeightsError(_unknown_anchors(facts, "sizes"))
    fields |= {**facts.fields, **told}
    return torchvision_v1(facts.fields["model.backbone.name"], masks=masks, keypoints=keypoints, **fields)


def _levels(facts: Facts) -> int:
    if facts.arrangement != "fpn":
        return 1
    return len(facts.fields["model.backbone.maps"] or range(4)) + 1


def _check_anchors(config: Config, facts: Facts) -> None:
    anchors = config.model.rpn.anchors
    if len(anchors.sizes[0]) * len(anchors.ratios) != facts.anchors:
        raise WeightsError(_unknown_anchors(facts, f"{len(anchors.sizes[0])} sizes and {len(anchors.ratios)} ratios"))


def _unknown_anchors(facts: Facts, what: str) -> str:
    where = "its one map" if (levels := _levels(facts)) == 1 else f"each of {levels} levels"
    many = f"{facts.anchors} anchor{'s' * (facts.anchors != 1)} a cell of {where}"
    problem = "a state dict does not tell their sizes" if what == "sizes" else f"not {what}"
    return f"has {many}, {problem}; {REMEDY}, or rpn.anchors.sizes and rpn.anchors.ratios"


def _person(facts: Facts) -> list[str] | None:
    return ["person"] if facts.classes == 1 and facts.keypoints == 17 else None
