"""Which trunk a torchvision detector has, and which of its maps go on: from its tensors, and from the model if there
is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.backbones.features import HALVING
from maskrcnn.weights.facts import norm_of, shape_of, trunk_of

REMEDY = "give the model itself to from_torchvision"
# `nn.Sequential(*list(resnet50().children())[:-2])`.
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
BLOCK = re.compile(r"backbone\.features\.(\d+)\..*")


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A trunk without a pyramid, whose layers have numbers, under the names that it has here."""
    if "backbone.4.0.conv1.weight" in state:
        pattern, place = r"backbone\.(\d)\.(.*)", "backbone.{}.{}"
        return {_renamed(name, pattern, place): value for name, value in state.items()}
    if "backbone.0.0.0.weight" in state:  # mobilenet_backbone(fpn=False)
        rules: tuple[tuple[str, str], ...] = (
            (r"backbone\.0\.(.*)", r"backbone.features.\1"),
            (r"backbone\.1\.(.*)", r"backbone.projection.\1"),
        )
    else:
        rules = ((r"backbone\.(?:body\.)?(\d+\..*)", r"backbone.features.\1"),)
    renamed = {}
    for name, value in state.items():
        for pattern, ours in rules:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, ours, name)
                break
        renamed[name] = value
    return renamed


def _renamed(name: str, pattern: str, place: str) -> str:
    found = re.fullmatch(pattern, name)
    return place.format(CHILDREN.get(found[1], found[1]), found[2]) if found else name


def trunk_fields(state: Mapping[str, Tensor], returned: Sequence[str] | None) -> dict[str, Any]:
    """Dotted fields of our config.

    Args:
        state: by our names.
        returned: names of the layers whose maps go on, of the model's IntermediateLayerGetter; None: as its shapes
            tell.

    Raises:
        WeightsError: a trunk that is not known here, or maps that the shapes do not tell.
    """
    features = any(BLOCK.fullmatch(name) for name in state)
    pyramid = any(name.startswith("fpn.") for name in state)
    fields: dict[str, Any] = {} if pyramid else {"model.fpn": None, "model.backbone.output": "c5"}
    return fields | (_features(state, returned, pyramid) if features else _resnet(state, returned, pyramid))


def _resnet(state: Mapping[str, Tensor], returned: Sequence[str] | None, pyramid: bool) -> dict[str, Any]:
    fields = {
        "model.backbone.name": trunk_of(state),
        "model.backbone.norm": norm_of(state, r"backbone\.bn1\.(\w+)", frozen=True),
    }
    if not pyramid:
        if not any(name.startswith("backbone.layer4.") for name in state):
            raise WeightsError("its trunk ends before layer4 and has no pyramid; resnet_fpn_backbone can be read")
        return fields | {"model.backbone.stride": 32}
    if returned is None:
        narrow = 64 if "backbone.layer1.0.conv3.weight" not in state else 256
        layers = tuple((width // narrow).bit_length() for width in _lateral_widths(state))
    else:
        if strange := [name for name in returned if not re.fullmatch(r"layer[1-4]", name)]:
            raise WeightsError(f"its pyramid takes {strange[0]!r} of a ResNet; layer1 to layer4 are read")
        layers = tuple(int(name.removeprefix("layer")) for name in returned)
    return fields | {"model.backbone.maps": None if layers == (1, 2, 3, 4) else layers}


def _features(state: Mapping[str, Tensor], returned: Sequence[str] | None, pyramid: bool) -> dict[str, Any]:
    name, last, trunk = _known(state)
    norm = norm_of(state, r"backbone\.features\.0\.1\.(\w+)", frozen=True)
    fields: dict[str, Any] = {"model.backbone.name": name, "model.backbone.norm": norm}
    projected = "backbone.projection.weight" in state
    if pyramid:
        blocks = _blocks(state, name, last) if returned is None else tuple(int(block) for block in returned)
        return fields | {"model.backbone.maps": blocks}
    if name.startswith("mobilenet_v3") and norm == "bn" and not projected:
        fields["model.backbone.norm_eps"] = 1e-3  # of torchvision's builder, where nobody chose the norm
    if projected:
        fields["model.backbone.projection"] = shape_of(state, "backbone.projection.weight", 4)[0]
    fields["model.backbone.stride"] = 2 ** sum(first <= last for first in HALVING[name])
    return fields | {"model.backbone.maps": None if last == len(trunk) - 1 else (last,)}


def _known(state: Mapping[str, Tensor]) -> tuple[str, int, list[int]]:
    """The trunk, the number of its last block in the file, and the channels of all blocks of the whole."""
    theirs = {name.removeprefix("backbone."): tuple(value.shape) for name, value in state.items() if BLOCK.match(name)}
    theirs = {name: shape for name, shape in theirs.items() if not name.endswith("num_batches_tracked")}
    last = max(int(name.split(".")[1]) for name in theirs)
    for name in HALVING:
        with torch.device("meta"):
            config = BackboneConfig(name=name, stride=32, output="c5")
            whole = build_backbone(config).state_dict()
        part = {n: tuple(value.shape) for n, value in whole.items() if int(n.split(".")[1]) <= last}
        if part == theirs:
            return name, last, _widths(part | {n: tuple(value.shape) for n, value in whole.items()})
    first = next(iter(theirs))
    raise WeightsError(
        f"its trunk (tensor 'backbone.{first}', {last + 1} blocks) is none of torchvision's {', '.join(HALVING)} or "
        "ResNets, which are read"
    )


def _widths(shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Channels of each block: those of its last norm."""
    norms = [(int(name.split(".")[1]), shape[0]) for name, shape in shapes.items() if name.endswith("running_var")]
    return list(dict(norms).values())


def _blocks(state: Mapping[str, Tensor], name: str, last: int) -> tuple[int, ...]:
    """The blocks that mobilenet_backbone returns for laterals of these widths: those that halve the map, and the
    last."""
    widths = _known(state)[2]
    usual = (*HALVING[name][1:], len(widths) - 1)
    found = []
    for width in _lateral_widths(state):
        able = [block for block in usual if widths[block] == width and block <= last]
        able = able or [block for block in range(last + 1) if widths[block] == width]
        if len(able) != 1:
            raise WeightsError(f"of {name} several or no maps have {width} channels like a level's; {REMEDY}")
        found += able
    return tuple(found)


def _lateral_widths(state: Mapping[str, Tensor]) -> list[int]:
    count = len({name.split(".")[2] for name in state if name.startswith("fpn.lateral.")})
    return [shape_of(state, f"fpn.lateral.{level}.0.weight", 4)[1] for level in range(count)]
