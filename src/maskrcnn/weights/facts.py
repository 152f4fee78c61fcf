"""What the shapes of a two-stage detector tell of its config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.presets.detectron2 import CASCADE, Arrangement

# (groups, channels of a group in the first stage) of a bottleneck -> how torchvision calls the trunk.
WIDTHS = {
    (1, 64): "resnet{}",
    (1, 128): "wide_resnet{}_2",
    (32, 4): "resnext{}_32x4d",
    (32, 8): "resnext{}_32x8d",
    (64, 4): "resnext{}_64x4d",
}
DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
WANTED = ("rpn.objectness.weight", "box_head.class_logits.weight")
BASIC_DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
TRUNKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x4d",
          "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """Of a table of tensors by our names.

    Attributes:
        classes: without the background.
        keypoints: of an object; 0 without that head.
        anchors: of a cell.
        arrangement: pyramid, last stage on the crops, or dilated.
        fields: dotted fields of the config that the shapes fix.
    """

    classes: int
    keypoints: int
    anchors: int
    arrangement: Arrangement
    fields: dict[str, Any]


def facts_of(state: Mapping[str, Tensor], trunk: Mapping[str, Any] | None = None) -> Facts:
    """From a table of tensors by our names.

    Args:
        state: the table.
        trunk: fields of the trunk, where somebody knows them; None: it is a ResNet that its shapes tell.

    Raises:
        WeightsError: a part is missing or not known here.
    """
    first = ("backbone.conv1.weight",) if trunk is None else ()
    if missing := [name for name in (*first, *WANTED) if name not in state]:
        raise WeightsError(f"not a whole detector: tensor {missing[0]!r} is missing", missing=missing)
    if trunk is None:
        shape_of(state, "backbone.conv1.weight", 4)
        norm = norm_of(state, r"backbone\.bn1\.(\w+)", frozen=True)
        trunk = {"model.backbone.name": trunk_of(state), "model.backbone.norm": norm}
    has_pyramid = any(name.startswith("fpn.") for name in state)
    arrangement: Arrangement = (
        "fpn" if has_pyramid else "c4" if any(name.startswith("stage_two.") for name in state) else "dc5"
    )
    classes = shape_of(state, "box_head.class_logits.bias", 1)[0] - 1
    if classes < 1:
        raise WeightsError("tensor 'box_head.class_logits.bias' has no row beside the background's")
    fields: dict[str, Any] = {
        **trunk,
        "model.rpn.convolutions": count_of(state, r"rpn\.convolutions\.(\d+)\..*"),
        "model.rpn.channels": None,
        **_box_fields(state, classes, arrangement),
        **_mask_fields(state, classes),
    }
    width = shape_of(state, "rpn.convolutions.0.weight", 4)[1]
    hidden = shape_of(state, "rpn.objectness.weight", 4)[1]
    if width != hidden:
        fields["model.rpn.channels"] = hidden
    if has_pyramid:
        fields["model.fpn.channels"] = shape_of(state, "fpn.lateral.0.0.weight", 4)[0]
        fields["model.fpn.norm"] = norm_of(state, r"fpn\.lateral\.0\.1\.(\w+)")
    points = 0
    if "keypoint_head.logits.weight" in state:
        channels, points, _, _ = shape_of(state, "keypoint_head.logits.weight", 4)  # (C, K, 4, 4)
        fields["model.keypoint.channels"] = channels
        fields["model.keypoint.convolutions"] = count_of(state, r"keypoint_head\.convolutions\.(\d+)\..*")
    return Facts(classes, points, shape_of(state, "rpn.objectness.bias", 1)[0], arrangement, fields)


def shape_of(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises `WeightsError` naming it if it is missing, empty or of other dimensions."""
    if name not in state:
        raise WeightsError(f"not a whole detector: tensor {name!r} is missing", missing=[name])
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise WeightsError(f"tensor {name!r} has shape {shape}; {dimensions} dimensions that are not empty are needed")
    return shape


def trunk_of(state: Mapping[str, Tensor]) -> str:
    """`BackboneConfig.name`, from the blocks of each stage and the groups of their 3x3 convolutions."""
    places = [rf"(?:backbone|stage_two)\.layer{stage}\.(\d+)\..*" for stage in (1, 2, 3, 4)]
    blocks = tuple(count_of(state, place) for place in places)
    depths = BASIC_DEPTHS if "backbone.layer1.0.conv3.weight" not in state else DEPTHS
    there = len([count for count in blocks if count])  # a pyramid on the first layers has no others
    depth = next((depth for whole, depth in depths.items() if whole[:there] == blocks[:there] != ()), None)
    if depths is BASIC_DEPTHS:
        pattern = "resnet{}"
    else:
        width, group, _, _ = shape_of(state, "backbone.layer1.0.conv2.weight", 4)  # (width, width / groups, 3, 3)
        pattern = WIDTHS.get((width // group, group), "")
    name = pattern.format(depth)
    if name not in TRUNKS:
        raise WeightsError(
            f"its trunk has {', '.join(map(str, blocks))} blocks{'' if pattern else ' of an unusual width'}, like "
            f"none of {', '.join(TRUNKS)}"
        )
    return name


def _box_fields(state: Mapping[str, Tensor], classes: int, arrangement: Arrangement) -> dict[str, Any]:
    convolutions = count_of(state, r"box_head\.convolutions\.(\d+)\..*")
    connected = count_of(state, r"box_head\.fully_connected\.(\d+)\..*")
    stages = count_of(state, r"cascade\.(\d+)\..*")
    fields: dict[str, Any] = {
        "model.box.convolutions": convolutions,
        "model.box.fully_connected": connected,
        "model.box.norm": norm_of(state, r"box_head\.convolutions\.0\.1\.(\w+)"),
        "model.box.class_agnostic": shape_of(state, "box_head.box_deltas.bias", 1)[0] == 4
        and (classes != 1 or stages > 0),
        "model.box.cascade": CASCADE[:stages],
    }
    if stages > len(CASCADE):
        raise WeightsError(f"is a cascade of {stages + 1} heads; three are known")
    if convolutions:
        fields["model.box.convolution_channels"] = shape_of(state, "box_head.convolutions.0.0.weight", 4)[0]
    if connected:
        fields["model.box.fully_connected_channels"] = shape_of(state, "box_head.fully_connected.0.weight", 2)[0]
    return fields


def _mask_fields(state: Mapping[str, Tensor], classes: int) -> dict[str, Any]:
    if "mask_head.logits.weight" not in state:
        return {"model.mask": None}
    rows, channels, _, _ = shape_of(state, "mask_head.logits.weight", 4)  # (K or 1, C, 1, 1)
    return {
        "model.mask.convolutions": count_of(state, r"mask_head\.layers\.(\d+)\.[01]\..*"),
        "model.mask.channels": channels,
        "model.mask.norm": norm_of(state, r"mask_head\.layers\.0\.1\.(\w+)"),
        "model.mask.class_agnostic": rows == 1 != classes,
    }


def norm_of(state: Mapping[str, Tensor], pattern: str, *, frozen: bool = False) -> str:
    """The kind of norm whose tensors have these names: group norm has no statistics, a frozen one no counter."""
    parts = {found[1] for name in state if (found := re.fullmatch(pattern, name))}
    if "running_var" not in parts:
        return "gn" if "weight" in parts else "none"
    return "frozen_bn" if frozen and "num_batches_tracked" not in parts else "bn"


def count_of(state: Mapping[str, Tensor], pattern: str) -> int:
    """Different first groups of the pattern among the names that fit as a whole."""
    return len({found[1] for name in state if (found := re.fullmatch(pattern, name))})
