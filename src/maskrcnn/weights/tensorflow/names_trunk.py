"""Layers of each trunk that TensorFlow's detectors know: our name and slim's scope, in the order slim makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from maskrcnn.model.backbones.inception_v2 import GROUPS, MODULES, REDUCTIONS, STAGE_TWO
from maskrcnn.model.backbones.resnet_v1 import UNITS


class Layer(NamedTuple):
    """Our layer, their scope, and the kind: norm, unscaled (norm without scale), separable, convolution, linear."""

    ours: str
    theirs: str
    kind: str


# Inception modules: our place in the branches -> slim's scope.
PLAIN = {
    "branch_0.0": "Branch_0/Conv2d_0a_1x1",
    "branch_1.0": "Branch_1/Conv2d_0a_1x1",
    "branch_1.1": "Branch_1/Conv2d_0b_3x3",
    "branch_2.0": "Branch_2/Conv2d_0a_1x1",
    "branch_2.1": "Branch_2/Conv2d_0b_3x3",
    "branch_2.2": "Branch_2/Conv2d_0c_3x3",
    "branch_3.1": "Branch_3/Conv2d_0b_1x1",
}
REDUCTION = {
    "branch_0.0": "Branch_0/Conv2d_0a_1x1",
    "branch_0.1": "Branch_0/Conv2d_1a_3x3",
    "branch_1.0": "Branch_1/Conv2d_0a_1x1",
    "branch_1.1": "Branch_1/Conv2d_0b_3x3",
    "branch_1.2": "Branch_1/Conv2d_1a_3x3",
}
MIXED_5B = PLAIN | {"branch_0.0": "Branch_0/Conv2d_1x1", "branch_1.1": "Branch_1/Conv2d_0b_5x5"}
MIXED_6A = {
    "branch_0.0": "Branch_0/Conv2d_1a_3x3",
    "branch_1.0": "Branch_1/Conv2d_0a_1x1",
    "branch_1.1": "Branch_1/Conv2d_0b_3x3",
    "branch_1.2": "Branch_1/Conv2d_1a_3x3",
}
MIXED_7A = {
    "branch_0.0": "Branch_0/Conv2d_0a_1x1",
    "branch_0.1": "Branch_0/Conv2d_1a_3x3",
    "branch_1.0": "Branch_1/Conv2d_0a_1x1",
    "branch_1.1": "Branch_1/Conv2d_1a_3x3",
    "branch_2.0": "Branch_2/Conv2d_0a_1x1",
    "branch_2.1": "Branch_2/Conv2d_0b_3x3",
    "branch_2.2": "Branch_2/Conv2d_1a_3x3",
}
BLOCK35 = {name: scope for name, scope in MIXED_5B.items() if name != "branch_3.1"} | {
    "branch_1.1": "Branch_1/Conv2d_0b_3x3"
}
BLOCK17 = {
    "branch_0.0": "Branch_0/Conv2d_1x1",
    "branch_1.0": "Branch_1/Conv2d_0a_1x1",
    "branch_1.1": "Branch_1/Conv2d_0b_1x7",
    "branch_1.2": "Branch_1/Conv2d_0c_7x1",
}
BLOCK8 = BLOCK17 | {"branch_1.1": "Branch_1/Conv2d_0b_1x3", "branch_1.2": "Branch_1/Conv2d_0c_3x1"}


def inception_v2() -> Iterator[Layer]:
    first, second = _stages("InceptionV2")
    yield Layer("backbone.conv_1a", f"{first}/Conv2d_1a_7x7", "separable")
    yield Layer("backbone.conv_2b", f"{first}/Conv2d_2b_1x1", "norm")
    yield Layer("backbone.conv_2c", f"{first}/Conv2d_2c_3x3", "norm")
    for stage, scope, names in (("backbone", first, GROUPS[0] + GROUPS[1]), ("stage_two", second, STAGE_TWO)):
        for name in names:
            assert name in MODULES or name in REDUCTIONS
            table = REDUCTION if name in REDUCTIONS else PLAIN
            yield from _branches(f"{stage}.{name}", f"{scope}/{name.capitalize()}", table, "norm")


def inception_resnet_v2() -> Iterator[Layer]:
    first, second = _stages("InceptionResnetV2")
    stem = {"conv_1a": "1a_3x3", "conv_2a": "2a_3x3", "conv_2b": "2b_3x3", "conv_3b": "3b_1x1", "conv_4a": "4a_3x3"}
    for name, scope in stem.items():
        yield Layer(f"backbone.{name}", f"{first}/Conv2d_{scope}", "unscaled")
    yield from _branches("backbone.mixed_5b", f"{first}/Mixed_5b", MIXED_5B, "unscaled")
    for i in range(10):
        yield from _residual(f"backbone.block35.{i}", f"{first}/Repeat/block35_{i + 1}", BLOCK35)
    yield from _branches("backbone.mixed_6a", f"{first}/Mixed_6a", MIXED_6A, "unscaled")
    for i in range(20):
        yield from _residual(f"backbone.block17.{i}", f"{first}/Repeat_1/block17_{i + 1}", BLOCK17)
    yield from _branches("stage_two.mixed_7a", f"{second}/Mixed_7a", MIXED_7A, "unscaled")
    for i in range(9):
        yield from _residual(f"stage_two.block8.{i}", f"{second}/Repeat/block8_{i + 1}", BLOCK8)
    yield from _residual("stage_two.block8.9", f"{second}/Block8", BLOCK8)
    yield Layer("stage_two.conv_7b", f"{second}/Conv2d_7b_1x1", "unscaled")


def resnet_v1(name: str) -> Iterator[Layer]:
    first, second = _stages(name)
    yield Layer("backbone.conv1", f"{first}/conv1", "norm")
    for block, units in enumerate(UNITS[name], start=1):
        stage, scope = ("backbone", first) if block < 4 else ("stage_two", second)
        for unit in range(units):
            ours, theirs = f"{stage}.block{block}.{unit}", f"{scope}/block{block}/unit_{unit + 1}/bottleneck_v1"
            for layer in ("shortcut", "conv1", "conv2", "conv3")[0 if unit == 0 else 1 :]:
                yield Layer(f"{ours}.{layer}", f"{theirs}/{layer}", "norm")


LAYERS: dict[str, Callable[[], Iterator[Layer]]] = {
    "inception_v2": inception_v2,
    "inception_resnet_v2": inception_resnet_v2,
    **{name: partial(resnet_v1, name) for name in UNITS},
}
# Their scope of a trunk -> ours.
SCOPES = {
    "InceptionV2": "inception_v2",
    "InceptionResnetV2": "inception_resnet_v2",
    **{name: name for name in UNITS},
}


def _stages(scope: str) -> tuple[str, str]:
    return f"FirstStageFeatureExtractor/{scope}", f"SecondStageFeatureExtractor/{scope}"


def _branches(ours: str, theirs: str, table: dict[str, str], kind: str) -> Iterator[Layer]:
    for name, scope in table.items():
        yield Layer(f"{ours}.{name}", f"{theirs}/{scope}", kind)


def _residual(ours: str, theirs: str, table: dict[str, str]) -> Iterator[Layer]:
    yield from _branches(f"{ours}.branches", theirs, table, "unscaled")
    yield Layer(f"{ours}.up", f"{theirs}/Conv2d_1x1", "convolution")
