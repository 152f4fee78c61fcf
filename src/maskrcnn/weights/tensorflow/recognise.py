"""Which detector some variables are: what else they could be, its sizes, and whether a config is about the same one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import Config, ModelConfig
from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.tensorflow.names import HEADS, mask_layers_of, pairs
from maskrcnn.weights.tensorflow.names_trunk import SCOPES
from maskrcnn.weights.tensorflow.objects import VALUE

PRESETS = {
    "inception_v2": "mask_rcnn_inception_v2_coco",
    "resnet_v1_50": "mask_rcnn_resnet50_atrous_coco",
    "resnet_v1_101": "mask_rcnn_resnet101_atrous_coco",
    "resnet_v1_152": "mask_rcnn_resnet101_atrous_coco",  # none with masks was published; two block lengths differ
    "inception_resnet_v2": "mask_rcnn_inception_resnet_v2_atrous_coco",
}
"""The published config for a trunk, or the nearest one."""
KERAS_PRESET = "mask_rcnn_inception_resnet_v2_1024x1024_coco17"
READ = "Faster R-CNN and Mask R-CNN of the TensorFlow Object Detection API are read"
RFCN = r"SecondStageBoxPredictor/reduce_depth/.*"
# What a name in the file gives away; the first that fits. SSD has one stage only.
OTHERS = (
    (r".*WeightSharedConvolutional.*|.*[Rr]etina.*", "a RetinaNet (SSD with an FPN)"),
    (r"BoxPredictor_\d+/.*|(?:_?model/)?_box_predictor/.*|FeatureExtractor/.*", "an SSD"),
    (r".*(?:[Cc]enter_?[Nn]et|object_center).*", "a CenterNet"),
    (r".*[Ee]fficient[Dd]et.*|.*(?:class_net|box_net)/.*", "an EfficientDet"),
    (r".*(?:Logits|logits|predictions|classifier|softmax)(?:/.*|:0)?", "a classifier"),
)


@dataclass(frozen=True)
class Facts:
    """What the shapes of a detector's tensors tell of its config.

    Attributes:
        classes: without the background.
        anchors: of a cell.
        fields: dotted fields of the config.
    """

    classes: int
    anchors: int
    fields: dict[str, Any]


def check_detector(variables: Mapping[str, np.ndarray], where: str) -> None:
    """Raises `WeightsError` saying what the file seems to be, where it is no Faster or Mask R-CNN."""
    if any(re.search(r"FirstStage(?:FeatureExtractor|BoxPredictor)/|_first_stage_box_predictor", n) for n in variables):
        if rfcn := next((name for name in variables if re.fullmatch(RFCN, name)), None):
            raise WeightsError(f"{where}: seems to be an R-FCN (variable {rfcn!r}); {READ}", unexpected=list(variables))
        return
    if not variables:
        raise WeightsError(f"{where}: holds no variables; {READ}")
    first, seems = next(iter(variables)), ""
    for pattern, kind in OTHERS:
        if found := next((name for name in variables if re.fullmatch(pattern, name.removesuffix(VALUE))), None):
            first, seems = found, f"seems to be {kind}"
            break
    if is_classifier(variables):
        seems = "seems to be a classifier (an ImageNet trunk): `maskrcnn train --weights` can start from it"
    raise WeightsError(
        f"{where}: {seems or 'is not a detector that we know'} (variable {first.removesuffix(VALUE)!r}); {READ}",
        unexpected=list(variables),
    )


def is_classifier(variables: Mapping[str, np.ndarray]) -> bool:
    """Whether these are slim's ImageNet weights of a trunk that we have."""
    return any(name.startswith(tuple(f"{scope}/" for scope in SCOPES)) for name in variables)


def is_keras(variables: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the keys of a TF2 program."""
    return any(name.endswith(VALUE) for name in variables)


def facts_of(state: Mapping[str, Tensor], trunk: str, width: tuple[float, int], *, keras: bool) -> Facts:
    """From a state dict with our names.

    Args:
        state: of `variables_to_state`.
        trunk: `BackboneConfig.name`.
        width: of `inception_v2_width`; (1.0, 16) for other trunks.
        keras: whether the variables came from TF2.

    Raises:
        WeightsError: as `classes_of`.
    """
    classes = classes_of(state)
    hidden = state["rpn.convolutions.0.weight"]  # (C, F, k, k)
    fields: dict[str, Any] = {
        "model.backbone.name": trunk,
        "model.backbone.width": width[0],
        "model.backbone.min_width": width[1],
        "model.rpn.channels": hidden.shape[0],
        "model.rpn.kernel": hidden.shape[2],
        "model.box.class_agnostic": len(state["box_head.box_deltas.bias"]) == 4 != 4 * classes,
    }
    if trunk == "inception_resnet_v2" and keras:
        fields["model.backbone.stage_two_padding"] = "same"
    if "mask_head.logits.weight" in state:
        logits = state["mask_head.logits.weight"]  # (K or 1, C, k, k)
        fields["model.mask.convolutions"] = mask_layers_of(state) - 1
        if fields["model.mask.convolutions"]:
            fields["model.mask.channels"] = logits.shape[1]
        fields["model.mask.predictor_kernel"] = logits.shape[2]
        fields["model.mask.class_agnostic"] = len(logits) == 1 != classes
    else:
        fields["model.mask"] = None
    return Facts(classes, len(state["rpn.objectness.bias"]) // 2, fields)


def classes_of(state: Mapping[str, Tensor]) -> int:
    """The number of classes without the background.

    Raises:
        WeightsError: none, or a layer of the heads whose weights and biases have different numbers of outputs.
    """
    for ours, theirs, *_ in HEADS:
        outputs, biases = len(state[f"{ours}.weight"]), len(state[f"{ours}.bias"])
        if outputs != biases:
            raise WeightsError(
                f"variable '{theirs}/biases' has {biases} numbers, but '{theirs}/weights' has {outputs} outputs; take "
                "another checkpoint",
                unexpected=[f"{theirs}/biases"],
            )
        if ours == "box_head.class_logits" and outputs < 2:
            raise WeightsError(
                f"variable '{theirs}/biases' has {outputs} numbers, so there is no class besides the background; take "
                "another checkpoint",
                unexpected=[f"{theirs}/biases"],
            )
    return len(state["box_head.class_logits.bias"]) - 1


def check_shapes(config: Config, facts: Facts, state: Mapping[str, Tensor], where: str) -> None:
    """Whether a model of this config takes these tensors: asked of one without numbers, before memory is taken for it.

    Raises:
        WeightsError: naming the first variable of another shape.
    """
    with torch.device("meta"):
        names = list(map(str, range(facts.classes)))
        model = build_model(config.model, classes=names, data=config.data)
    wanted = model.state_dict()
    for pair in pairs(facts.fields["model.backbone.name"], mask_layers_of(state)):
        if pair.ours in wanted and wanted[pair.ours].shape != state[pair.ours].shape:
            here, there = (pair.their_shape(tensors[pair.ours].shape) for tensors in (state, wanted))
            raise WeightsError(
                f"{where}: variable {pair.theirs!r} has shape {here}, but the other variables and the config make it "
                f"{there}; take another checkpoint, or give the config that these weights were trained with",
                unexpected=[pair.theirs],
            )


def recognised(facts: Facts, where: str, *, keras: bool) -> tuple[Config, str]:
    """The published config that the shapes fit, and its name. Raises `WeightsError` where the anchors are others."""
    trunk = facts.fields["model.backbone.name"]
    name = KERAS_PRESET if keras else PRESETS[trunk]
    config = preset(name).replace(**facts.fields)
    if (usual := anchors_of(config.model)) != facts.anchors:
        raise WeightsError(
            f"{where}: has {facts.anchors} anchors a cell, the published configs {usual}, and no pipeline.config lies "
            "beside it that would say which; give one"
        )
    return config, name


def check_same(config: Config, facts: Facts, where: str, source: str, classes: int | None) -> None:
    """Whether a config and weights belong together.

    Args:
        config: as given, or read from a pipeline.config.
        facts: of the weights.
        where, source: the names of weights and config, for the error.
        classes: as the config says; None where it does not.

    Raises:
        WeightsError: naming both.
    """
    for what, here, there in _differences(config, facts, classes):
        raise WeightsError(
            f"{where}: {what}: {here} in the weights, but {there} in {source}; give the config that these weights were "
            "trained with"
        )


def _differences(config: Config, facts: Facts, classes: int | None) -> Iterator[tuple[str, Any, Any]]:
    fields = facts.fields
    trunk = config.model.backbone.name
    if trunk != fields["model.backbone.name"]:
        yield "trunk", fields["model.backbone.name"], trunk
    if config.model.fpn is not None:
        yield "pyramid", "none", "one (model.fpn)"
    if classes is not None and classes != facts.classes:
        yield "number of classes", facts.classes, classes
    if (anchors := anchors_of(config.model)) != facts.anchors:
        yield "anchors of a cell", facts.anchors, anchors
    here, there = "model.mask" not in fields, config.model.mask is not None
    if here != there:
        said = {True: "masks", False: "none"}
        yield "mask head", said[here], said[there]
    names = {
        "model.backbone.stage_two_padding": "padding of the second stage",
        "model.rpn.channels": "channels of the first stage's convolution",
        "model.rpn.kernel": "kernel of the first stage's convolution",
        "model.box.class_agnostic": "one box for all classes",
        "model.mask.convolutions": "hidden convolutions of the mask head",
        "model.mask.channels": "channels of the mask head",
        "model.mask.predictor_kernel": "kernel of the mask predictor",
        "model.mask.class_agnostic": "one mask for all classes",
    }
    for name, what in names.items():
        if name not in fields:
            continue
        if name in untold(facts):
            continue
        said_there = reduce(getattr, name.split("."), config)
        if name.endswith("class_agnostic") and facts.classes == 1:  # the same shapes
            continue
        if said_there is not None and said_there != fields[name]:
            yield f"{what} ({name})", fields[name], said_there


def untold(facts: Facts) -> dict[str, Any]:
    """The fields that no pipeline.config tells: the width of a thin trunk, and the automatic depth that follows it."""
    names = ["model.backbone.width", "model.backbone.min_width"]
    if facts.fields["model.backbone.width"] != 1 and "model.mask.channels" in facts.fields:
        names.append("model.mask.channels")
    return {name: facts.fields[name] for name in names}


def anchors_of(model: ModelConfig) -> int:
    """Anchors of a cell."""
    anchors = model.rpn.anchors
    return len(anchors.sizes[0]) * len(anchors.ratios)
