"""Trunks and pyramids of other frameworks with their own weights, and what the original code computed from them.

The names are translated here once more, apart from the importers, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

ORACLES = (
    Path(os.environ.get("MASKRCNN_TEST_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")).parent / "oracles"
).resolve()

DETECTRON2 = [
    (r"^(backbone|roi_heads)\.(bottom_up\.)?", ""),
    (r"^stem\.conv1\.weight", "backbone.conv1.weight"),
    (r"^stem\.conv1\.norm", "backbone.bn1"),
    (r"^res(\d)", lambda found: f"backbone.layer{int(found[1]) - 1}"),
    (r"\.shortcut\.weight", ".downsample.0.weight"),
    (r"\.shortcut\.norm", ".downsample.1"),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"^fpn_(lateral|output)(\d)\.norm", lambda found: f"fpn.{found[1]}.{int(found[2]) - 2}.1"),
    (r"^fpn_(lateral|output)(\d)", lambda found: f"fpn.{found[1]}.{int(found[2]) - 2}.0"),
]
NECK = [
    (r"^neck\.lateral_convs\.(\d)\.conv", r"fpn.lateral.\1.0"),
    (r"^neck\.fpn_convs\.(\d)\.conv", r"fpn.output.\1.0"),
]
SWIN = [
    *NECK,
    (r"\.patch_embed\.projection", ".features.0.0"),
    (r"\.patch_embed\.norm", ".features.0.2"),
    (r"\.stages\.(\d)\.blocks", lambda found: f".features.{2 * int(found[1]) + 1}"),
    (r"\.stages\.(\d)\.downsample", lambda found: f".features.{2 * int(found[1]) + 2}"),
    (r"\.attn\.w_msa", ".attn"),
    (r"\.ffn\.layers\.0\.0", ".mlp.0"),
    (r"\.ffn\.layers\.1", ".mlp.3"),
    (r"^backbone\.norm(\d)", r"backbone.norms.\1"),
]
CONVNEXT = [
    *NECK,
    (r"\.downsample_layers\.(\d)", lambda found: f".features.{2 * int(found[1])}"),
    (r"\.stages\.(\d)\.(\d+)\.gamma", lambda found: f".features.{2 * int(found[1]) + 1}.{found[2]}.layer_scale"),
    (r"\.stages\.(\d)\.(\d+)", lambda found: f".features.{2 * int(found[1]) + 1}.{found[2]}.block"),
    (r"\.depthwise_conv", ".0"),
    (r"\.block\.norm", ".block.2"),
    (r"\.pointwise_conv1", ".3"),
    (r"\.pointwise_conv2", ".5"),
    (r"^backbone\.norm(\d)", r"backbone.norms.\1"),
]
BRANCHES = {"2a": "1", "2b": "2", "2c": "3"}
NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
CAFFE = (torch.tensor([103.53, 116.28, 123.675]), torch.ones(3))
IMAGENET = (torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375]))


@cache
def rebuild() -> ModuleType:
    """The module that makes the weights."""
    path = ORACLES / "rebuild.py"
    if not path.is_file():
        pytest.skip(f"the other frameworks' outputs are not at {path.parent}; set MASKRCNN_TEST_DATA to data beside it")
    spec = importlib.util.spec_from_file_location("oracle_rebuild", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(name: str, wanted: str) -> dict[str, np.ndarray]:
    """The parameters of an oracle whose name matches."""
    keys, meta = rebuild().load_keys(name), rebuild().load_meta(name)
    return {
        key: rebuild().parameter(key, shape, keys, meta)
        for key, shape in keys.items()
        if re.search(wanted, key) and not key.endswith("num_batches_tracked")
    }


def torch_state(name: str, rules: list[tuple], wanted: str = r"^(backbone|neck)\.") -> dict[str, Tensor]:
    """Detectron2's or MMDetection's trunk and pyramid under our names."""
    state = {}
    for key, value in weights(name, wanted).items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        state[key] = torch.from_numpy(value)
    return {key: ours(key, value) for key, value in state.items()}


def ours(key: str, value: Tensor) -> Tensor:
    """In torchvision's layout: patch merging joins positions, not channels; layer scales have three axes."""
    if re.search(r"features\.[246]\.norm", key) and value.ndim == 1:
        return value.view(-1, 4).T[[0, 2, 1, 3]].reshape(-1)
    if key.endswith(".reduction.weight"):
        return value.view(len(value), -1, 4).transpose(1, 2)[:, [0, 2, 1, 3]].reshape(len(value), -1)
    if key.endswith("relative_position_index"):
        return value.flatten()
    return value.view(-1, 1, 1) if key.endswith("layer_scale") else value


def keras_state(name: str) -> dict[str, Tensor]:
    """Matterport's trunk and pyramid; the convolutions' biases move into the means of the norms behind them."""
    state: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for key, value in weights(name, r"^(conv1|bn|res|fpn)").items():
        layer, part = key.split("/")[1], key.split("/")[2].removesuffix(":0")
        tensor = torch.from_numpy(value)
        if found := re.fullmatch(r"fpn_(c|p)(\d)(p\d)?", layer):
            target = f"fpn.{'lateral' if found[1] == 'c' else 'output'}.{int(found[2]) - 2}.0"
            state[f"{target}.{'weight' if part == 'kernel' else part}"] = oihw(tensor) if part == "kernel" else tensor
            continue
        convolution, norm = keras_layers(layer)
        if part == "kernel":
            state[f"{convolution}.weight"] = oihw(tensor)
        elif part == "bias":
            biases[norm] = tensor
        else:
            state[f"{norm}.{NORM_PARTS[part]}"] = tensor
    for norm, bias in biases.items():
        state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias
    return state


def keras_layers(layer: str) -> tuple[str, str]:
    """The convolution and the norm that a layer of Matterport's trunk is one of."""
    found = re.fullmatch(r"(?:res|bn)(\d)([a-z])_branch(\w+)", layer)
    if not found:
        return "backbone.conv1", "backbone.bn1"
    block = f"backbone.layer{int(found[1]) - 1}.{ord(found[2]) - ord('a')}"
    if found[3] == "1":
        return f"{block}.downsample.0", f"{block}.downsample.1"
    return f"{block}.conv{BRANCHES[found[3]]}", f"{block}.bn{BRANCHES[found[3]]}"


def oihw(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1).contiguous()


def of(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of `backbone`, `fpn` or another, without its name."""
    return {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}


def network_input(name: str, *, padded: bool = True) -> Tensor:
    """(1, 3, H, W) from the picture that the original's resampler made, in the original's channel order."""
    pixels = torch.from_numpy(rebuild().load_golden(name)["resized"].copy()).permute(2, 0, 1).float()
    if name.startswith("mp"):
        return (pixels - torch.tensor([123.7, 116.8, 103.9]).view(3, 1, 1))[None]
    if name.startswith("mm") and "caffe" not in name:
        pixels, (mean, std) = pixels.flip(0), IMAGENET
    else:
        mean, std = CAFFE
    x = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    return F.pad(x, (0, -x.shape[2] % 32, 0, -x.shape[1] % 32))[None] if padded else x[None]


def error(name: str, key: str, found: Tensor) -> float:
    """The largest difference, relative to the largest value of those compared."""
    golden = rebuild().load_golden(name)
    array = found.permute(0, 2, 3, 1) if name.startswith("mp") else found
    return rebuild().difference(name, key, array.numpy(), golden) / float(np.abs(golden[key]).max())
