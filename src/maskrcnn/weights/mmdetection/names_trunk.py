"""Tensors of MMDetection's trunks -> those of ours, which carry torchvision's names and layouts.

ResNets differ in names alone. Swin merges the four cells of a patch channel by channel there and cell by cell here,
and in another order of cells; ConvNeXt's scale is a vector there and a map of one cell here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError

# Their name below `backbone.` (a regular expression) -> ours. {odd} and {even}: 2 s + 1 and 2 s + 2 of stage s, since
# torchvision lists patch merging and stages in one row.
RESNET = (
    (r"(?:bn|gn)1\.(.*)", r"bn1.\1"),
    (r"conv1\.weight", r"conv1.weight"),
    (r"layer(\d)\.(\d+)\.(?:bn|gn)(\d)\.(.*)", r"layer\1.\2.bn\3.\4"),
    (r"layer(\d)\.(\d+)\.(conv\d|downsample\.[01])\.(weight|bias|running_mean|running_var)", r"layer\1.\2.\3.\4"),
)
SWIN = (
    (r"patch_embed\.projection\.(.*)", r"features.0.0.\1"),
    (r"patch_embed\.norm\.(.*)", r"features.0.2.\1"),
    (r"stages\.(?P<s>\d)\.blocks\.(\d+)\.(norm[12])\.(.*)", r"features.{odd}.\2.\3.\4"),
    (r"stages\.(?P<s>\d)\.blocks\.(\d+)\.attn\.w_msa\.(.*)", r"features.{odd}.\2.attn.\3"),
    (r"stages\.(?P<s>\d)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.(.*)", r"features.{odd}.\2.mlp.0.\3"),
    (r"stages\.(?P<s>\d)\.blocks\.(\d+)\.ffn\.layers\.1\.(.*)", r"features.{odd}.\2.mlp.3.\3"),
    (r"stages\.(?P<s>\d)\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)", r"features.{even}.\2"),
    (r"norm(\d)\.(.*)", r"norms.\1.\2"),
)
CONVNEXT = (
    (r"downsample_layers\.0\.([01])\.(.*)", r"features.0.\1.\2"),
    (r"downsample_layers\.(?P<s>\d)\.([01])\.(.*)", r"features.{same}.\2.\3"),
    (r"stages\.(?P<s>\d)\.(\d+)\.depthwise_conv\.(.*)", r"features.{odd}.\2.block.0.\3"),
    (r"stages\.(?P<s>\d)\.(\d+)\.norm\.(.*)", r"features.{odd}.\2.block.2.\3"),
    (r"stages\.(?P<s>\d)\.(\d+)\.pointwise_conv1\.(.*)", r"features.{odd}.\2.block.3.\3"),
    (r"stages\.(?P<s>\d)\.(\d+)\.pointwise_conv2\.(.*)", r"features.{odd}.\2.block.5.\3"),
    (r"stages\.(?P<s>\d)\.(\d+)\.gamma", r"features.{odd}.\2.layer_scale"),
    (r"norm(\d)\.(.*)", r"norms.\1.\2"),
)
INDEX = ".relative_position_index"
# Blocks of each stage, and channels of the first, or groups and the width of each -> our name.
PLAIN: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
BOTTLENECKS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
GROUPED = {
    (50, 32, 4): "resnext50_32x4d",
    (101, 32, 4): "resnext101_32x4d",
    (101, 32, 8): "resnext101_32x8d",
    (101, 64, 4): "resnext101_64x4d",
}
SWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin_t",
    (96, (2, 2, 18, 2)): "swin_s",
    (128, (2, 2, 18, 2)): "swin_b",
}
CONVNEXTS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (3, 3, 9, 3)): "convnext_tiny",
    (96, (3, 3, 27, 3)): "convnext_small",
    (128, (3, 3, 27, 3)): "convnext_base",
}
# Cells of a 2x2 patch: where torchvision's (00, 10, 01, 11) are in MMDetection's (00, 01, 10, 11).
MERGED = [0, 2, 1, 3]


def trunk_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Our name of a trunk, from the shapes of its tensors by MMDetection's names. Raises `WeightsError` for others."""
    found = None
    if "backbone.patch_embed.projection.weight" in shapes:
        pattern = r"backbone\.stages\.(\d)\.blocks\.(\d+)\.norm1\.weight"
        found = SWINS.get((shapes["backbone.patch_embed.projection.weight"][0], _depths(shapes, pattern)))
        _check_window(shapes)
    elif "backbone.downsample_layers.0.0.weight" in shapes:
        pattern = r"backbone\.stages\.(\d)\.(\d+)\.norm\.weight"
        found = CONVNEXTS.get((shapes["backbone.downsample_layers.0.0.weight"][0], _depths(shapes, pattern)))
    elif "backbone.layer1.0.conv1.weight" in shapes:
        found = _resnet(shapes)
    if found is None:
        first = sorted(name for name in shapes if name.startswith("backbone."))[:3]
        raise WeightsError(
            f"the trunk (tensors {', '.join(first) or 'none'}, ...) is none that is built here: "
            "ResNet-18/34/50/101/152, ResNeXt-50/101, Swin-T/S/B with a window of 7, ConvNeXt-T/S/B; take a checkpoint "
            "on one of these"
        )
    return found


def trunk_state(state: Mapping[str, Tensor], trunk: str) -> dict[str, Tensor]:
    """Our tensors of a trunk from those of MMDetection, `backbone.` in front on both sides.

    Swin's table of positions in a window is checked and left out: it is the same in every network.

    Raises:
        WeightsError: a tensor that such a trunk has not; deformable convolutions are named.
    """
    ours = {}
    for name, value in state.items():
        short = name.removeprefix("backbone.")
        if "conv_offset" in short:
            raise WeightsError(
                f"tensor {name!r} belongs to a deformable convolution, which is not built here; "
                "take a checkpoint without dcn",
                unexpected=[name],
            )
        if short.endswith(INDEX):
            _check_index(name, value)
            continue
        renamed = trunk_name(name, trunk)
        if renamed is None:
            raise WeightsError(f"tensor {name!r} is not part of a {trunk} of MMDetection", unexpected=[name])
        ours[renamed] = _laid_out(short, value)
    return ours


def trunk_name(name: str, trunk: str) -> str | None:
    """Our name of a tensor of a trunk, `backbone.` in front on both sides, or None."""
    table = SWIN if trunk.startswith("swin") else CONVNEXT if trunk.startswith("convnext") else RESNET
    renamed = rename(name.removeprefix("backbone."), table) if name.startswith("backbone.") else None
    return renamed and f"backbone.{renamed}"


def rename(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    """The new name by the first pattern that fits, or None."""
    for pattern, replacement in table:
        if match := re.fullmatch(pattern, name):
            stage = int(match.groupdict().get("s") or 0)
            places = {"same": 2 * stage, "odd": 2 * stage + 1, "even": 2 * stage + 2}
            return match.expand(replacement.format(**places))
    return None


def cells_first(value: Tensor) -> Tensor:
    """The last axis of a patch merging, (..., 4 C): channel by channel -> torchvision's cell by cell."""
    cells = value.unflatten(-1, (-1, 4)).transpose(-1, -2)  # (..., 4, C)
    return cells[..., MERGED, :].flatten(-2)


def _laid_out(name: str, value: Tensor) -> Tensor:
    if ".downsample." in name and name.startswith("stages."):
        return cells_first(value)
    return value.view(-1, 1, 1) if name.endswith(".gamma") else value


def _depths(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> tuple[int, ...]:
    """Blocks of each of four stages."""
    found = [re.fullmatch(pattern, name) for name in shapes]
    stages = [int(match[1]) for match in found if match]
    return tuple(stages.count(stage) for stage in sorted(set(stages)))


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    depths = _depths(shapes, r"backbone\.layer(\d)\.(\d+)\.conv1\.weight")
    if "backbone.layer1.0.conv3.weight" not in shapes:
        return PLAIN.get(depths)
    depth = BOTTLENECKS.get(depths, 0)
    width, inputs = shapes["backbone.layer1.0.conv2.weight"][:2]
    if width == inputs:
        return f"resnet{depth}" if depth else None
    return GROUPED.get((depth, width // inputs, inputs))


def _check_window(shapes: Mapping[str, tuple[int, ...]]) -> None:
    rows = shapes.get("backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", (169,))[0]
    if rows != 169:
        window = (round(rows**0.5) + 1) // 2
        raise WeightsError(f"the Swin trunk has windows of {window} cells, those built here 7; take one with 7")


def _check_index(name: str, value: Tensor) -> None:
    """(49, 49): row of the bias table for each pair of cells."""
    y, x = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    y, x = y.flatten(), x.flatten()
    expected = (y[:, None] - y + 6) * 13 + x[:, None] - x + 6
    if value.shape != expected.shape or not value.equal(expected):
        raise WeightsError(f"tensor {name!r} orders the cells of a window in another way; take another checkpoint")
