"""Swin and ConvNeXt: torchvision's features with a layer norm on each map, in one graph for all sizes."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.export import Dim

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.backbones.swin import SIZES, Swin, apart
from maskrcnn.model.backbones.trunk import Trunk

NAMES = ["swin_t", "convnext_tiny"]
M = TypeVar("M", bound=nn.Module)


def loud(module: M) -> M:
    """Random numbers large enough that a mistake shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(1.0 if parameter.ndim in (1, 3) else 0.0, 0.05, generator=generator)
    return module.eval()


def thin_swin() -> Trunk:
    """As wide as swin_t, with two blocks in each stage."""
    SIZES["thin"] = (96, (2, 2, 2, 2), (3, 6, 12, 24))
    try:
        return loud(Swin(BackboneConfig(name="thin")))
    finally:
        del SIZES["thin"]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_maps_are_torchvisions(name: str):
    source = loud(getattr(torchvision.models, name)(weights=None))
    module = loud(build_backbone(BackboneConfig(name=name)))
    module.features.load_state_dict(source.features.state_dict())
    x = torch.rand(
        1, 3, 256, 288, generator=torch.Generator().manual_seed(1)
    )  # 8x9 cells at the end: not whole windows
    for stage, (found, norm) in enumerate(zip(module(x), module.norms, strict=True)):
        features = source.features[: 2 * stage + 2](x)
        nhwc = features if name == "swin_t" else features.permute(0, 2, 3, 1)
        eps = 1e-5 if name == "swin_t" else 1e-6
        expected = nn.functional.layer_norm(nhwc, nhwc.shape[3:], norm.weight, norm.bias, eps).permute(0, 3, 1, 2)
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_a_single_window_is_shifted_too():
    """Cells 0-2 and 3-6 of the only window do not see each other along either axis."""
    wanted = torch.arange(7) >= 4  # after the roll by 3, cells 3-6 come first
    parts = (wanted[:, None].long() * 2 + wanted[None, :].long()).flatten()
    assert torch.equal(apart(1, 1, 3, torch.device("cpu"))[0] == 0, parts[:, None] == parts[None, :])


def test_only_windows_at_the_seam_are_divided():
    divided = (apart(3, 4, 3, torch.device("cpu")) != 0).any(dim=2).any(dim=1).view(3, 4)
    wanted = torch.zeros(3, 4, dtype=torch.bool)
    wanted[2] = wanted[:, 3] = True
    assert torch.equal(divided, wanted)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_each_image_of_a_batch_is_seen_alone_and_memory_is_nhwc(name: str):
    module = thin_swin() if name == "swin_t" else loud(build_backbone(BackboneConfig(name=name)))
    x = torch.rand(2, 3, 96, 160).contiguous(memory_format=torch.channels_last)
    for together, alone in zip(module(x), module(x[1:]), strict=True):
        assert together.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_everything_trains_and_the_graph_is_whole():
    module = thin_swin().requires_grad_(True).train()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    maps: list[Tensor] = compiled(torch.rand(1, 3, 64, 96))
    sum(m.square().mean() for m in maps).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_one_graph_serves_all_sizes(name: str):
    module = thin_swin() if name == "swin_t" else loud(build_backbone(BackboneConfig(name=name)))
    sides = {2: 32 * Dim("rows", min=2, max=64), 3: 32 * Dim("columns", min=2, max=64)}
    graph = torch.export.export(module, (torch.rand(1, 3, 256, 288),), dynamic_shapes=(sides,)).module()
    for size in ((256, 416), (288, 256)):
        x = torch.rand(1, 3, *size)
        for found, expected in zip(graph(x), module(x), strict=True):
            assert (found - expected).norm() <= 1e-5 * expected.norm()
