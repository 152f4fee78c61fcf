"""Variables of the TensorFlow Object Detection API <-> our state dict, for each trunk, both ways.

Names are those of TF1 checkpoints (slim); `names_object` turns those of TF2's object checkpoints into them. Arrays
change their axes (HWIO -> OIHW, [in, out] -> [out, in]) and the order of their rows: boxes are ty, tx, th, tw there and
dx, dy, dw, dh here; the background is the first class there and the last here. Anchors of a cell come in the same
order, ratio by ratio and sizes within: give the config its ratios in the order of the file, inverted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.fields import nearest
from maskrcnn.weights.tensorflow.names_trunk import LAYERS, SCOPES, Layer
from maskrcnn.weights.tensorflow.read import SLOTS

Array = np.ndarray

# Tensors of a layer by kind: our ending, theirs, and the layout.
NORM = (
    ("norm.weight", "BatchNorm/gamma", "vector"),
    ("norm.bias", "BatchNorm/beta", "vector"),
    ("norm.running_mean", "BatchNorm/moving_mean", "vector"),
    ("norm.running_var", "BatchNorm/moving_variance", "vector"),
)
TENSORS = {
    "norm": (("conv.weight", "weights", "convolution"), *NORM),
    "unscaled": (("conv.weight", "weights", "convolution"), *NORM[1:]),
    "separable": (
        ("depthwise.weight", "depthwise_weights", "depthwise"),
        ("pointwise.weight", "pointwise_weights", "convolution"),
        *NORM,
    ),
    "convolution": (("weight", "weights", "convolution"), ("bias", "biases", "vector")),
    "linear": (("weight", "weights", "linear"), ("bias", "biases", "vector")),
}
# Our layer, theirs, kind, order of the rows.
HEADS = (
    ("rpn.convolutions.0", "Conv", "convolution", "same"),
    ("rpn.objectness", "FirstStageBoxPredictor/ClassPredictor", "convolution", "same"),
    ("rpn.deltas", "FirstStageBoxPredictor/BoxEncodingPredictor", "convolution", "boxes"),
    ("box_head.class_logits", "SecondStageBoxPredictor/ClassPredictor", "linear", "background"),
    ("box_head.box_deltas", "SecondStageBoxPredictor/BoxEncodingPredictor", "linear", "boxes"),
)
MASK = "SecondStageBoxPredictor/Conv"
SHADOW = "/ExponentialMovingAverage"
# What training leaves in a checkpoint besides the model: counters, slots of optimisers, moving averages.
NOT_OF_THE_MODEL = re.compile(rf"global_step|beta[12]_power|.*/({'|'.join(SLOTS)}|ExponentialMovingAverage)")
# Stage one of a ResNet builds the last block too, and never runs it.
NEVER_RUN = re.compile(r"FirstStageFeatureExtractor/resnet_v1_\d+/block4/.*")


@dataclass(frozen=True)
class Pair:
    """One tensor: our name, theirs, the layout of its axes and the order of its rows (the outputs of its layer)."""

    ours: str
    theirs: str
    layout: str
    rows: str = "same"

    def to_ours(self, array: Array) -> Array:
        """Raises `WeightsError` for another number of axes, or nothing in them."""
        axes = {"vector": 1, "linear": 2}.get(self.layout, 4)
        if array.ndim != axes or not array.size:
            what = f"expected {axes} axes" if array.ndim != axes else "so it holds nothing"
            message = f"variable {self.theirs!r} has shape {tuple(array.shape)}, {what}"
            raise WeightsError(message, unexpected=[self.theirs])
        if self.rows == "boxes":
            array = self._swap(array)
        elif self.rows == "background":
            array = np.roll(array, -1, axis=-1)
        if self.layout == "convolution":
            return array.transpose(3, 2, 0, 1)
        if self.layout == "depthwise":  # (kh, kw, inputs, multiplier): output inputs * m + multiplier
            return array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
        return array.T if self.layout == "linear" else array

    def to_theirs(self, array: Array) -> Array:
        if self.layout == "convolution":
            array = array.transpose(2, 3, 1, 0)
        elif self.layout == "depthwise":  # of the three channels of an image: no other layer is depthwise
            array = array.reshape(3, -1, *array.shape[2:]).transpose(2, 3, 0, 1)
        elif self.layout == "linear":
            array = array.T
        if self.rows == "boxes":
            array = self._swap(array)
        elif self.rows == "background":
            array = np.roll(array, 1, axis=-1)
        return np.ascontiguousarray(array, np.float32)

    def their_shape(self, ours: Sequence[int]) -> tuple[int, ...]:
        """The shape of the variable for a tensor of this shape."""
        if self.layout == "depthwise":
            return *ours[2:], 3, ours[0] // 3
        return (*ours[2:], ours[1], ours[0]) if self.layout == "convolution" else tuple(reversed(ours))

    def _swap(self, array: Array) -> Array:
        """y before x <-> x before y, in each group of four rows."""
        if array.shape[-1] % 4:
            message = f"variable {self.theirs!r} has {array.shape[-1]} outputs, expected four for each box"
            raise WeightsError(message, unexpected=[self.theirs])
        return array.reshape(*array.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(array.shape)


def variables_to_state(
    variables: Mapping[str, Array], trunk: str, *, moving_averages: bool = False
) -> dict[str, Tensor]:
    """Our state dict (without `mean` and `std`) from the variables of a detector.

    Counters, optimiser slots, moving averages and the unused block of a ResNet's stage one are passed over. A detector
    without masks gives a state without a mask head.

    Args:
        variables: TF1 name -> array; other leading parts of a name than those of the API are unknown.
        trunk: `BackboneConfig.name`.
        moving_averages: take the moving average of a variable where the checkpoint has one.

    Returns:
        float32 tensors, contiguous, copies.

    Raises:
        WeightsError: variables are missing, unknown, or of another number of axes, with all their names; or not finite.
    """
    wanted = list(pairs(trunk, mask_layers(variables)))
    known = {pair.theirs for pair in wanted}
    unexpected = [
        name
        for name in variables
        if name not in known and not NOT_OF_THE_MODEL.fullmatch(name) and not NEVER_RUN.fullmatch(name)
    ]
    _raise_if_wrong([name for name in known if name not in variables], unexpected, trunk, known)
    state = {}
    for pair in wanted:
        shadow = pair.theirs + SHADOW
        name = shadow if moving_averages and shadow in variables else pair.theirs
        state[pair.ours] = _tensor(name, pair.to_ours(variables[name]))
    return state


def state_to_variables(state: Mapping[str, Tensor], trunk: str) -> dict[str, Array]:
    """The inverse of `variables_to_state`: TF1 names, float32, in the order of the model.

    A ResNet's stage one gets the block that it never runs, as a copy of the one of stage two: the original code asks
    for it when it restores.

    Raises:
        WeightsError: tensors of the model that the API has no variable for, or that are missing.
    """
    wanted = list(pairs(trunk, mask_layers_of(state)))
    known = {pair.ours for pair in wanted}
    own = [name for name in state if name not in ("mean", "std") and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in own if name not in known]
    missing = [name for name in known if name not in state]
    if missing or unexpected:
        name = (unexpected or missing)[0]
        what = "has no counterpart in" if unexpected else "is missing, but needed for"
        raise WeightsError(
            f"tensor {name!r} {what} TensorFlow's {trunk} detectors; only models of that arrangement can be written",
            missing=missing,
            unexpected=unexpected,
        )
    variables = {pair.theirs: pair.to_theirs(state[pair.ours].detach().cpu().numpy()) for pair in wanted}
    if trunk.startswith("resnet_v1"):
        for name in [name for name in variables if name.startswith(f"SecondStageFeatureExtractor/{trunk}/block4/")]:
            variables[name.replace("SecondStage", "FirstStage", 1)] = variables[name]
    return variables


def trunk_state(variables: Mapping[str, Array], trunk: str) -> dict[str, Tensor]:
    """State of both stages of the trunk alone, from a detector or a slim ImageNet checkpoint; the rest is passed over.

    Scales of norms that an ImageNet checkpoint lacks are 1: slim trains Inception v2 without, the detector has them.

    Raises:
        WeightsError: variables of the trunk are missing; with all their names.
    """
    detector = any(name.startswith("FirstStageFeatureExtractor/") for name in variables)
    state, missing = {}, []
    for pair in (pair for layer in LAYERS[trunk]() for pair in _of_layer(layer)):
        name = pair.theirs if detector else _without_stage(pair.theirs)
        scope, _, leaf = name.rpartition("/")
        if name in variables:
            state[pair.ours] = _tensor(name, pair.to_ours(variables[name]))
        elif leaf == "gamma" and f"{scope}/beta" in variables and not detector:
            state[pair.ours] = torch.ones(variables[f"{scope}/beta"].size)
        else:
            missing.append(name)
    _raise_if_wrong(missing, [], trunk, variables)
    return state


def _without_stage(name: str) -> str:
    """The name of a trunk's variable in slim's classification checkpoint."""
    stage, _, rest = name.partition("/")
    second_half = stage.startswith("Second") and rest.startswith("InceptionResnetV2/Repeat/")
    return rest.replace("/Repeat/", "/Repeat_2/", 1) if second_half else rest


def trunk_of(variables: Mapping[str, Array]) -> str:
    """`BackboneConfig.name` of a detector or of a classification checkpoint, from its variables' scopes.

    Raises:
        WeightsError: none that we have; what the names say is told.
    """
    scopes = dict.fromkeys(part for name in variables for part in name.split("/")[:2])
    found = [scope for scope in SCOPES if scope in scopes]
    if found:
        return SCOPES[found[0]]
    stages = [name for name in variables if name.startswith("FirstStageFeatureExtractor/")]
    seen = f"its trunk is {stages[0].split('/')[1]!r}" if stages else f"it begins with {next(iter(variables), None)!r}"
    raise WeightsError(
        f"not a Faster or Mask R-CNN with a trunk that we have: {seen}; known: {', '.join(SCOPES)}",
        unexpected=list(variables),
    )


def mask_layers(variables: Mapping[str, Array]) -> int:
    """How many convolutions the mask head has, the one that predicts included; 0: no mask head.

    Those that follow one upon the other: what lies behind a gap is unknown.
    """
    return next(i for i in count() if f"{_mask_scope(i)}/weights" not in variables)


def mask_layers_of(state: Mapping[str, Tensor]) -> int:
    """The same of a state dict."""
    hidden = {name.split(".")[2] for name in state if name.startswith("mask_head.layers.")}
    return len(hidden) + 1 if "mask_head.logits.weight" in state else 0


def pairs(trunk: str, masks: int) -> Iterator[Pair]:
    """All tensors of a detector with this trunk and a mask head of `masks` convolutions, in the order of the model."""
    for layer in LAYERS[trunk]():
        yield from _of_layer(layer)
    for ours, theirs, kind, rows in HEADS:
        yield from _of_layer(Layer(ours, theirs, kind), rows)
    for i in range(masks):
        ours = "mask_head.logits" if i == masks - 1 else f"mask_head.layers.{i}.0"
        yield from _of_layer(Layer(ours, _mask_scope(i), "convolution"))


def _mask_scope(number: int) -> str:
    return f"{MASK}_{number}" if number else MASK


def _of_layer(layer: Layer, rows: str = "same") -> Iterator[Pair]:
    for ours, theirs, layout in TENSORS[layer.kind]:
        yield Pair(f"{layer.ours}.{ours}", f"{layer.theirs}/{theirs}", layout, rows)


def _tensor(name: str, array: Array) -> Tensor:
    """float32. Raises `WeightsError` for a variable with a number that is none."""
    with np.errstate(over="ignore"):
        tensor = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if not torch.isfinite(tensor).all():
        raise WeightsError(f"variable {name!r} is not finite (NaN or infinite); take an earlier checkpoint")
    return tensor


def _raise_if_wrong(
    missing: list[str], unexpected: list[str], trunk: str, known: Mapping[str, Array] | set[str]
) -> None:
    if not missing and not unexpected:
        return
    sentences = []
    if unexpected:
        close = nearest(unexpected[0], missing or known) if len(unexpected) == 1 else ""
        sentences.append(f"unknown {_some(unexpected)}{close}")
    if missing:
        sentences.append(f"missing {_some(sorted(missing))}")
    raise WeightsError(
        f"not a detector of the TensorFlow Object Detection API with trunk {trunk}: {'; '.join(sentences)}",
        missing=sorted(missing),
        unexpected=unexpected,
    )


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"variable{'s' * (len(names) > 1)} {', '.join(map(repr, names[:most]))}{more}"
