"""Variables of TF2's object checkpoints -> the names that TF1 checkpoints have for the same layers.

The only Mask R-CNN of the API's TF2 half has Keras' Inception-ResNet v2. A variable goes by the name that it had in the
program ("conv2d_17/kernel") where the checkpoint tells it, else by its path ("layer_with_weights-17"): Keras counts the
former in the order in which layers were made, the latter by their depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np

from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow.names_trunk import Layer, inception_resnet_v2
from maskrcnn.weights.tensorflow.objects import VALUE

PARTS = {
    "_feature_extractor_for_proposal_features": "backbone.",
    "_feature_extractor_for_box_classifier_features": "stage_two.",
}
ENDINGS = {
    "kernel": "weights",
    "bias": "biases",
    "gamma": "BatchNorm/gamma",
    "beta": "BatchNorm/beta",
    "moving_mean": "BatchNorm/moving_mean",
    "moving_variance": "BatchNorm/moving_variance",
}
# Layers of the heads, by name or by path -> slim's scope.
HEADS = (
    (r"RPNConv|.*_first_stage_box_predictor_first_conv/layer_with_weights-0", "Conv"),
    (
        r"FirstStageBoxPredictor/.*BoxEncodingPredictor|.*_first_stage_box_predictor/.*_box_encoder_layers/\d+",
        "FirstStageBoxPredictor/BoxEncodingPredictor",
    ),
    (
        r"FirstStageBoxPredictor/.*ClassPredictor|.*_first_stage_box_predictor/.*_class_predictor_layers/\d+",
        "FirstStageBoxPredictor/ClassPredictor",
    ),
    (
        r".*BoxEncodingPredictor_dense|.*_box_prediction_head/_box_encoder_layers/\d+",
        "SecondStageBoxPredictor/BoxEncodingPredictor",
    ),
    (
        r".*ClassPredictor_dense|.*_class_prediction_head/_class_predictor_layers/\d+",
        "SecondStageBoxPredictor/ClassPredictor",
    ),
)
MASK = re.compile(r".*(?:MaskPredictor_conv2d_|_mask_predictor_layers/)(\d+)|.*MaskPredictor_(last)_conv2d")
NUMBERED = re.compile(r"(?:.*/)?(conv2d|freezable_batch_norm|batch_normalization)(?:_(\d+))?")
POSITION = re.compile(rf"(?:.*/)?({'|'.join(PARTS)})/layer_with_weights-(\d+)")


def to_slim(variables: Mapping[str, np.ndarray], full_names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The same arrays by slim's names; those that no layer explains keep theirs.

    Args:
        variables: key -> array. Keys of a TF1 checkpoint are left as they are.
        full_names: key -> name in the program, of an object checkpoint; may be empty.

    Raises:
        WeightsError: not as many convolutions or norms as Inception-ResNet v2 has.
    """
    layer_of = {}  # key -> (layer, ending) of what an object checkpoint holds
    for key in variables:
        if key.endswith(VALUE):
            name = full_names.get(key) or key.removesuffix(VALUE)
            layer, _, ending = name.removesuffix(":0").rpartition("/")
            if ending in ENDINGS:
                layer_of[key] = layer, ending
    scopes = _scopes({layer for layer, _ in layer_of.values()})
    renamed = {}
    for key, array in variables.items():
        layer, ending = layer_of.get(key, ("", ""))
        renamed[f"{scopes[layer]}/{ENDINGS[ending]}" if layer in scopes else key] = array
    return renamed


def _scopes(layers: set[str]) -> dict[str, str]:
    """Layer by name or by path -> slim's scope."""
    trunk = list(inception_resnet_v2())
    scopes = _numbered(layers, [layer for layer in trunk if layer.kind == "unscaled"])
    named = _named(trunk)
    places = {part: list(by_depth([layer for layer in trunk if layer.ours.startswith(p)])) for part, p in PARTS.items()}
    masks: dict[float, str] = {}
    for layer in layers:
        position, mask = POSITION.fullmatch(layer), MASK.fullmatch(layer)
        if position and int(position[2]) < len(places[position[1]]):
            scopes[layer] = places[position[1]][int(position[2])]
        elif mask:
            masks[float("inf") if mask[2] else float(mask[1])] = layer
        elif (last := layer.rpartition("/")[2]) in named:
            scopes[layer] = named[last]
        else:
            scopes.update((layer, scope) for pattern, scope in HEADS if re.fullmatch(pattern, layer))
    for i, number in enumerate(sorted(masks)):
        scopes[masks[number]] = "SecondStageBoxPredictor/Conv" + (f"_{i}" if i else "")
    return scopes


def _numbered(layers: set[str], convolutions: list[Layer]) -> dict[str, str]:
    """Layers that Keras numbers, in the order of their numbers: they need not begin at 0 in a long-lived program."""
    numbers: dict[str, dict[int, str]] = {}
    for layer in layers:
        found = NUMBERED.fullmatch(layer)
        if found:
            numbers.setdefault(found[1], {})[int(found[2] or 0)] = layer
    convolutions = convolutions[:-1]  # the last has a name of its own
    scopes = {}
    for kind, found_layers in numbers.items():
        if len(found_layers) != len(convolutions):
            raise WeightsError(
                f"{len(found_layers)} layers are called {kind!r}, Inception-ResNet v2 has {len(convolutions)}: "
                "of the TF2 object checkpoints, those of faster_rcnn_inception_resnet_v2_keras are known",
                unexpected=sorted(found_layers.values()),
            )
        for number, convolution in zip(sorted(found_layers), convolutions, strict=True):
            scopes[found_layers[number]] = convolution.theirs
    return scopes


def _named(trunk: list[Layer]) -> dict[str, str]:
    """Layers that Keras names -> slim's scope."""
    last = trunk[-1].theirs
    named = {"conv_7b": last, "conv_7b_bn": last}
    for layer in trunk:
        if layer.kind == "convolution":  # ours: stage_two.block8.9.up
            _, block, index, _ = layer.ours.split(".")
            named[f"{block}_{int(index) + 1}_conv"] = layer.theirs
    return named


def by_depth(layers: list[Layer]) -> Iterator[str]:
    """slim's scopes in the order in which Keras counts layers with weights: convolutions and norms one by one.

    Keras sorts layers by their distance from the output, those of the same distance by the order of their making. The
    branches of a module end together, so that it is the last convolutions of all that are beside each other.
    """
    for module, group in groupby(layers, lambda layer: layer.ours.partition(".branch_")[0]):
        members = list(group)
        if members[0].ours == module:  # not branched
            for layer in members:
                yield from [layer.theirs] * (1 if layer.kind == "convolution" else 2)
            continue
        chains = [list(chain) for _, chain in groupby(members, lambda layer: layer.ours.rpartition(".")[0])]
        for place in range(max(map(len, chains)), 0, -1):  # counted from the end of the branch
            level = [chain[-place].theirs for chain in chains if len(chain) >= place]
            yield from level * 2  # their convolutions, then their norms
