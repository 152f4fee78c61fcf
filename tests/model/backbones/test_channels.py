"""Trunks for images that are not RGB, and what becomes of RGB weights in them."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import BackboneConfig, DataConfig, ModelConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones import build_backbone, first_convolution, inflate, load_backbone, set_input_channels
from maskrcnn.model.build import build_model
from maskrcnn.weights.remap import transfer
from tests.model.tiny import tiny_config

TRUNKS = [("resnet18", "conv1"), ("mobilenet_v2", "features.0.0"), ("efficientnet_lite0", "conv_stem")]


def model_of(channels: int, seed: int = 0):
    config = tiny_config(**{"model.image_mean": (100.0,) * channels, "model.image_std": (50.0,) * channels})
    return build_model(config.model, classes=["a"], data=DataConfig(pixels="raw"), seed=seed).eval()


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 5, 12])
def test_grey_in_all_channels_gives_what_grey_rgb_gave(channels: int):
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    grey = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    before = torch.nn.functional.conv2d(grey.repeat(1, 3, 1, 1), weight)
    after = torch.nn.functional.conv2d(grey.repeat(1, channels, 1, 1), inflate(weight, channels))
    assert torch.allclose(before, after, atol=1e-5)


def test_one_channel_gets_the_sum_and_three_stay():
    weight = torch.randn(4, 3, 2, 2)
    assert torch.allclose(inflate(weight, 1), weight.sum(dim=1, keepdim=True), atol=1e-6)
    assert inflate(weight, 3) is weight


@torch.no_grad()
@pytest.mark.parametrize(("name", "first"), TRUNKS)
@pytest.mark.parametrize("channels", [1, 5])
def test_trunk_files_are_inflated(name: str, first: str, channels: int, tmp_path):
    source = build_backbone(BackboneConfig(name=name)).eval()
    torch.save(source.state_dict(), tmp_path / "a.pth")
    module = build_backbone(BackboneConfig(name=name)).eval()
    set_input_channels(module, channels)
    assert first_convolution(module)[0] == first
    said = load_backbone(module, tmp_path / "a.pth")
    assert f"{first} from 3 to {channels} input channels" in said
    grey = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = source(grey.repeat(1, 3, 1, 1))
    for a, b in zip(module(grey.repeat(1, channels, 1, 1)), expected, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()


def test_three_channels_are_as_before(tmp_path):
    """The random weights of a trunk do not depend on the number of channels being asked about."""
    torch.manual_seed(0)
    before = build_backbone(BackboneConfig(name="resnet18"))
    torch.manual_seed(0)
    after = build_backbone(BackboneConfig(name="resnet18"))
    set_input_channels(after, 3)
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name])
    assert not any(p.requires_grad for p in first_convolution(after)[1].parameters())
    torch.save(before.state_dict(), tmp_path / "a.pth")
    assert "input channels" not in load_backbone(after, tmp_path / "a.pth")


def test_a_new_first_convolution_trains_and_keeps_the_magnitude():
    torch.manual_seed(0)
    module = build_backbone(BackboneConfig(name="resnet18", frozen_stages=2))
    before = float(first_convolution(module)[1].weight.detach().std())
    set_input_channels(module, 12)
    convolution = first_convolution(module)[1]
    assert convolution.weight.shape == (64, 12, 7, 7)
    assert convolution.weight.requires_grad
    assert float(convolution.weight.detach().std()) == pytest.approx(before / 2, rel=0.05)
    assert not any(p.requires_grad for p in module.layer1.parameters())


@torch.no_grad()
def test_a_model_has_as_many_channels_as_means():
    model = model_of(5)
    images = torch.rand(1, 5, 64, 64) * 200
    assert model(images, torch.tensor([[64, 64]])).boxes.shape[0] == 1
    assert model.normalise(images, torch.tensor([[64, 64]])).shape == (1, 5, 64, 64)
    same, other = model_of(5), model_of(5, seed=1)
    assert torch.equal(model.backbone.conv1.weight, same.backbone.conv1.weight)
    assert not torch.equal(model.backbone.conv1.weight, other.backbone.conv1.weight)


def test_a_checkpoint_for_rgb_goes_into_five_channels():
    source, model = model_of(3), model_of(5, seed=1)
    done = transfer(model, source.state_dict(), ["a"])
    assert "input channels: backbone.conv1.weight from 3 to 5, their mean repeated" in str(done)
    assert torch.equal(model.backbone.conv1.weight, inflate(source.backbone.conv1.weight, 5))
    assert done.initialised == done.dropped == ()
    again = transfer(model_of(3), source.state_dict(), ["a"])
    assert again.inflated == ()
    assert "input channels" not in str(again)


@pytest.mark.parametrize(
    ("mean", "std", "pixels", "message"),
    [
        ((1.0,) * 5, (1.0,) * 3, "raw", "model.image_std: 3 numbers, but model.image_mean has 5"),
        ((), (), "raw", "model.image_std: 0 numbers"),
        (
            (1.0,) * 5,
            (1.0,) * 5,
            "rgb8",
            "model.image_mean: 5 numbers, but 8-bit RGB has 3 channels; .* data.pixels raw",
        ),
    ],
)
def test_statistics_that_do_not_fit_are_named(mean, std, pixels, message):
    with pytest.raises(ConfigError, match=message):
        build_model(ModelConfig(image_mean=mean, image_std=std), classes=["a"], data=DataConfig(pixels=pixels))
