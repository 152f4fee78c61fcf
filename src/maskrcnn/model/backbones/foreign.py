"""Trunk files of other projects under torchvision's names: timm's, and those that the papers' authors published."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# EfficientNet-Lite: attributes that begin with an underscore.
UNDERSCORES: list[Rule] = [(r"(^|\.)_", r"\1")]
SWIN_BLOCKS: list[Rule] = [
    (r"^patch_embed\.proj\.", "features.0.0."),
    (r"^patch_embed\.norm\.", "features.0.2."),
    (r"^layers\.(\d)\.blocks\.", lambda found: f"features.{2 * int(found[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
]
# The authors' merging ends a stage; timm's begins the next. Both join the four positions in torchvision's order.
SWIN: list[Rule] = [(r"^layers\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1]) + 2}."), *SWIN_BLOCKS]
SWIN_TIMM: list[Rule] = [(r"^layers\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1])}."), *SWIN_BLOCKS]
CONVNEXT: list[Rule] = [
    (r"^downsample_layers\.(\d)\.", lambda found: f"features.{2 * int(found[1])}."),
    (r"^stem\.", "features.0."),
    (r"^stages\.(\d)\.downsample\.", lambda found: f"features.{2 * int(found[1])}."),
    (r"^stages\.(\d)\.(?:blocks\.)?(\d+)\.", lambda found: f"features.{2 * int(found[1]) + 1}.{found[2]}.block."),
    (r"\.block\.gamma$", ".layer_scale"),
    (r"\.block\.(dwconv|conv_dw)\.", ".block.0."),
    (r"\.block\.norm\.", ".block.2."),
    (r"\.block\.(pwconv1|mlp\.fc1)\.", ".block.3."),
    (r"\.block\.(pwconv2|mlp\.fc2)\.", ".block.5."),
]
# A tensor that only files of one kind hold, and what its names become; the first that is there decides.
KINDS: list[tuple[str, list[Rule]]] = [
    ("_conv_stem.weight", UNDERSCORES),
    ("layers.0.downsample.reduction.weight", SWIN),
    ("layers.1.downsample.reduction.weight", SWIN_TIMM),
    ("downsample_layers.0.0.weight", CONVNEXT),
    ("stages.0.blocks.0.conv_dw.weight", CONVNEXT),
]


def torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a trunk file under the names that our trunks have; unknown names stay as they are."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    for marker, rules in KINDS:
        if marker in state:
            return dict(_translate(name, value, rules) for name, value in state.items())
    if "features.1.conv.3.weight" in state:
        return {_nest(name): value for name, value in state.items()}
    return state


def _translate(name: str, value: Tensor, rules: list[Rule]) -> tuple[str, Tensor]:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name, value.view(-1, 1, 1) if name.endswith(".layer_scale") else value


def _nest(name: str) -> str:
    """`features.N.conv.M` (convolution, norm, activation in one list) -> torchvision's nested groups of three."""
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d+)\.(.*)", name)
    if not found:
        return name
    block, index, rest = int(found[1]), int(found[2]), found[3]
    groups = 1 if block == 1 else 2  # conv-norm-activation groups before the final, linear convolution
    if index < 3 * groups:
        return f"features.{block}.conv.{index // 3}.{index % 3}.{rest}"
    return f"features.{block}.conv.{groups + index - 3 * groups}.{rest}"
