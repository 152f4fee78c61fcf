"""Swin and ConvNeXt files in the names of timm and of the authors, checked against torchvision's own file."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import Tensor

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones import build_backbone, load_backbone

# torchvision's names -> theirs. timm 1.0.31 computes the same maps from such files, to 3e-7 (Swin where they are
# made of whole windows: timm pads after the shift).
SWIN = [(r"^features\.0\.0\.", "patch_embed.proj."), (r"^features\.0\.2\.", "patch_embed.norm."),
        (r"\.mlp\.0\.", ".mlp.fc1."), (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"^features\.([1357])\.", lambda m: f"layers.{int(m[1]) // 2}.blocks.")]  # fmt: skip
CONVNEXT = [(r"\.block\.0\.", ".dwconv."), (r"\.block\.2\.", ".norm."), (r"\.block\.3\.", ".pwconv1."),
            (r"\.block\.5\.", ".pwconv2."), (r"layer_scale", "gamma"), (r"^classifier\.0", "norm"),
            (r"^features\.([0246])\.", lambda m: f"downsample_layers.{int(m[1]) // 2}."),
            (r"^features\.([1357])\.", lambda m: f"stages.{int(m[1]) // 2}.")]  # fmt: skip
TIMM_CONVNEXT = [*CONVNEXT, (r"^downsample_layers\.0\.", "stem."), (r"dwconv", "conv_dw"), (r"pwconv", "mlp.fc"),
                 (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
                 (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2.")]  # fmt: skip
FILES = {
    "the authors' Swin": (
        "swin_t",
        [*SWIN, (r"^features\.([246])\.", lambda m: f"layers.{int(m[1]) // 2 - 1}.downsample.")],
    ),
    "timm's Swin": ("swin_t", [*SWIN, (r"^features\.([246])\.", lambda m: f"layers.{int(m[1]) // 2}.downsample.")]),
    "the authors' ConvNeXt": ("convnext_tiny", CONVNEXT),
    "timm's ConvNeXt": ("convnext_tiny", TIMM_CONVNEXT),
}


def theirs(state: dict[str, Tensor], rules: list[tuple]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        if name.endswith("relative_position_index"):
            continue  # timm's files have none
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value.flatten() if name.endswith("gamma") else value
    return renamed


@torch.no_grad()
@pytest.mark.parametrize("kind", FILES)
def test_the_trunk_is_the_same_from_every_file(kind: str, tmp_path):
    name, rules = FILES[kind]
    source = getattr(torchvision.models, name)(weights=None).state_dict()
    renamed = theirs(source, rules)
    assert not [key for key in renamed if key.startswith("features.")]
    torch.save({"model": renamed}, tmp_path / "w.pth")
    module = build_backbone(BackboneConfig(name=name))
    said = load_backbone(module, tmp_path / "w.pth")
    assert re.search(r"left out: (classifier\.2|head), norm$", said)
    for key, value in module.features.state_dict().items():
        assert torch.equal(value, source[f"features.{key}"]), key
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in module.norms)


def test_a_trunk_of_another_kind_is_named(tmp_path):
    torch.save(torchvision.models.swin_t(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"not weights of this trunk \(ConvNeXt\): 180 of 180|choose the matching"):
        load_backbone(build_backbone(BackboneConfig(name="convnext_tiny")), tmp_path / "w.pth")
