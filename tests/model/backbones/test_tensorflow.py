"""Trunks of TensorFlow's detectors: the features that the original code computed, from its own weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.backbones import build_backbone, build_stage_two, fold_norms, set_input_channels
from maskrcnn.model.backbones.trunk import StageTwo, Trunk
from maskrcnn.ops.crop_and_resize import crop_and_resize
from maskrcnn.weights.tensorflow.names import trunk_of, variables_to_state
from maskrcnn.weights.tensorflow.names_object import to_slim
from tests.weights.tensorflow.golden import TF2, TINY, TRUNKS, arrays, error, full_size, images, tiny
from tests.weights.tensorflow.test_names import object_variables

SMALL = [TINY, *(BackboneConfig(name=name) for name in ("resnet_v1_50", "inception_resnet_v2"))]
NAMES = [config.name for config in SMALL]


def stages(config: BackboneConfig, state: dict[str, Tensor]) -> tuple[Trunk, StageTwo]:
    """Both stages with the weights of a detector."""
    config = replace(config, norm="frozen_statistics", frozen_stages=0)
    first, second = build_backbone(config).eval(), build_stage_two(config).eval()
    for module, prefix in ((first, "backbone."), (second, "stage_two.")):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return first, second


@torch.no_grad()
def errors(config: BackboneConfig, folder: Path) -> list[float]:
    """Relative errors of the features and of both uses of stage two, for both images, norms as they are and folded."""
    variables = arrays(folder / "variables.npz")
    assert trunk_of(variables) == config.name
    first, second = stages(config, variables_to_state(variables, config.name))
    found = []
    for fold in (False, True):
        if fold:
            fold_norms(first), fold_norms(second)
        for case in (0, 1):
            golden = arrays(folder / f"case{case}.npz")
            (features,) = first(images(golden["preprocessed"]))
            found.append(error(features, images(golden["rpn_features_to_crop"])))
            for use in (2, 3):
                rois = second(images(golden[f"crops_stage{use}_first8"]))
                found.append(error(rois, images(golden[f"head_features_stage{use}_first8"])))
    return found


def test_the_thin_model_gives_tensorflows_features():
    assert max(errors(TINY, tiny())) < 1e-5


@torch.no_grad()
def test_every_layer_of_the_thin_model_is_tensorflows():
    folder = tiny()
    first, _ = stages(TINY, variables_to_state(arrays(folder / "variables.npz"), "inception_v2"))
    names = {"conv_1a": "Conv2d_1a_7x7", "pool_2a": "MaxPool_2a_3x3", "conv_2b": "Conv2d_2b_1x1",
             "conv_2c": "Conv2d_2c_3x3", "pool_3a": "MaxPool_3a_3x3"}  # fmt: skip
    for case in (0, 1):
        golden = arrays(folder / f"case{case}.npz")
        x = images(golden["preprocessed"])
        for name, layer in first.named_children():
            x = layer(x)
            expected = golden[f"endpoint|{names.get(name, name.capitalize())}"]  # every 5th row, every 7th column
            assert error(x[:, :, ::5, ::7], images(expected)) < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_full_size_models_give_tensorflows_features(name: str):
    assert max(errors(TRUNKS[name], full_size(name))) < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_the_keras_model_gives_tensorflows_features_and_classes():
    folder = full_size(TF2)
    golden = arrays(folder / "case0.npz")
    config = BackboneConfig(name="inception_resnet_v2", stride=16, norm_eps=1e-3, stage_two_padding="same")
    variables, full_names = object_variables(folder)
    state = variables_to_state(to_slim(variables, full_names), config.name)
    first, second = stages(config, state)
    (features,) = first(images(golden["preprocessed"]))
    assert error(features, images(golden["rpn_features_to_crop"])) < 1e-4
    boxes = torch.from_numpy(golden["proposal_boxes"])[0, :, [1, 0, 3, 2]]  # y x -> x y
    crops = crop_and_resize(
        images(golden["rpn_features_to_crop"]),
        boxes,
        torch.zeros(len(boxes), dtype=torch.int64),
        sizes=torch.tensor([golden["preprocessed"].shape[1:3]]),
        cells=torch.tensor([golden["rpn_features_to_crop"].shape[1:3]]),
        resolution=17,
    )
    rois = second(crops)
    assert rois.shape[1:] == (1536, 9, 9)
    pooled = rois.mean((2, 3))
    logits = pooled @ state["box_head.class_logits.weight"].T + state["box_head.class_logits.bias"]
    expected = torch.from_numpy(golden["class_predictions_with_background"]).roll(-1, 1)  # background last
    assert error(logits, expected) < 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [8, 16])
def test_one_map_of_the_stride_that_was_asked_for(name: str, stride: int):
    config = BackboneConfig(name=name, stride=stride)
    with torch.device("meta"):
        if name == "inception_v2" and stride == 8:
            with pytest.raises(ConfigError, match=r"model\.backbone\.stride: 8: inception_v2 has stride 16 only"):
                build_backbone(config)
            return
        first, second = build_backbone(config), build_stage_two(config)
        (features,) = first(torch.empty(1, 3, 101, 130))
        assert features.shape == (1, *first.channels, -(-101 // stride), -(-130 // stride))
        assert first.stride == stride
        side = 17 if name == "inception_resnet_v2" else 7
        rois = second(torch.empty(2, *first.channels, side, side))
        assert rois.shape == (2, second.channels, *{"inception_v2": (4, 4), "resnet_v1_50": (7, 7)}.get(name, (8, 8)))


def test_other_strides_and_other_trunks_are_named():
    with pytest.raises(ConfigError, match=r"model\.backbone\.stride: 32: resnet_v1_50 has stride 16, or 8"):
        build_backbone(BackboneConfig(name="resnet_v1_50", stride=32))
    with pytest.raises(ConfigError, match=r"'mobilenet_v2' has no second stage.*set model\.fpn, or one of resnet18, "):
        build_stage_two(BackboneConfig(name="mobilenet_v2"))
    with pytest.raises(ConfigError, match=r"model\.image_mean: 5 numbers, but this trunk begins with a depthwise"):
        set_input_channels(build_backbone(TINY), 5)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["frozen_bn", "frozen_statistics", "bn"])
def test_folded_norms_give_the_same_map(norm: str):
    """Norms with a scale and without, in both stages."""
    x = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(1))
    thin = replace(TINY, norm=norm)
    for config in (thin, BackboneConfig(name="inception_resnet_v2", norm=norm)):
        module = build_stage_two(config) if config.name == "inception_resnet_v2" else build_backbone(config)
        x = torch.rand(1, 1088, 9, 9) if config.name == "inception_resnet_v2" else x
        for key, value in module.eval().state_dict().items():
            if key.endswith(("running_mean", "norm.bias", "up.bias")):
                value.normal_(0, 0.2)
            elif key.endswith(("running_var", "norm.weight")):
                value.uniform_(0.5, 1.5)
        before = module(x)
        after = fold_norms(module)(x)
        before, after = (maps[0] if isinstance(maps, list) else maps for maps in (before, after))
        assert error(after, before) < 1e-4
        assert not [m for m in module.modules() if hasattr(m, "running_var")]


@pytest.mark.parametrize(
    ("norm", "trains"), [("frozen_bn", ["conv"]), ("frozen_statistics", ["conv", "weight", "bias"])]
)
def test_what_trains_is_what_the_norm_says(norm: str, trains: list[str]):
    module = build_backbone(replace(TINY, norm=norm, frozen_stages=0)).mixed_3b.branch_0
    names = {name for name, p in module.named_parameters() if p.requires_grad}
    assert names == {"0.conv.weight", *(f"0.norm.{name}" for name in trains if name != "conv")}
    before = module[0].norm.running_mean.clone()
    module.train()(torch.randn(2, 12, 6, 6))
    assert torch.equal(module[0].norm.running_mean, before)


def test_norms_without_scale_have_no_scale_to_train_or_to_store():
    with torch.device("meta"):
        module = build_backbone(BackboneConfig(name="inception_resnet_v2", norm="frozen_statistics"))
    assert not [name for name in module.state_dict() if name.endswith("norm.weight")]
    assert "norm.bias" in dict(module.conv_1a.named_parameters())
    assert "up.bias" in dict(module.block35[0].named_parameters())


@pytest.mark.parametrize(("config", "stage_count"), list(zip(SMALL, (4, 5, 4), strict=True)), ids=NAMES)
def test_frozen_stages_count_from_the_stem(config: BackboneConfig, stage_count: int):
    def trainable(modules: list[nn.Module]) -> int:
        return sum(p.requires_grad for module in modules for p in module.parameters())

    counts = []
    for frozen in range(stage_count + 1):
        with torch.device("meta"):
            frozen_config = replace(config, norm="frozen_statistics", frozen_stages=frozen)
            counts.append(trainable([build_backbone(frozen_config), build_stage_two(frozen_config)]))
    assert counts == sorted(set(counts), reverse=True)
    assert counts[-1] == 0


@torch.no_grad()
def test_channels_last_stays():
    for config in (TINY, BackboneConfig(name="resnet_v1_50", stride=8)):
        module = fold_norms(build_backbone(config).eval()).to(memory_format=torch.channels_last)
        (features,) = module(torch.rand(1, 3, 49, 66).contiguous(memory_format=torch.channels_last))
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("config", SMALL, ids=NAMES)
def test_one_graph_serves_all_sides_and_all_numbers_of_crops(config: BackboneConfig):
    first, second = (fold_norms(build(config).eval()) for build in (build_backbone, build_stage_two))
    sides = {2: Dim("height", min=33, max=500), 3: Dim("width", min=33, max=500)}
    graph = torch.export.export(first, (torch.rand(1, 3, 65, 98),), dynamic_shapes=(sides,)).module()
    for size in ((64, 64), (97, 131)):
        x = torch.rand(1, 3, *size)
        assert error(graph(x)[0], first(x)[0]) < 1e-5
    crops = torch.rand(4, *first.channels, 9, 9)
    graph = torch.export.export(second, (crops,), dynamic_shapes=({0: Dim("count", min=1, max=500)},)).module()
    assert error(graph(crops[:3]), second(crops[:3])) < 1e-5
