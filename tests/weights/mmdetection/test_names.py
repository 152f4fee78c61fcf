"""Every tensor of MMDetection's networks has a place in ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.weights.mmdetection.config import read_settings
from maskrcnn.weights.mmdetection.names import NOT_OF_THE_MODEL, plain, to_state
from maskrcnn.weights.mmdetection.names_trunk import INDEX, cells_first
from maskrcnn.weights.mmdetection.text import read_config_file
from tests.weights.oracle import empty_state, folder

NAMES = [
    "mm_r50_fpn",
    "mm_r50_caffe_fpn",
    "mm_cascade_r50_fpn",
    "mm_swin_t",
    "mm_convnext_t",
    "mm_x101_32x4d",
]


def source_of(path: Path) -> dict[str, torch.Tensor]:
    side = torch.arange(49)
    y, x = side // 7, side % 7
    index = (y[:, None] - y + 6) * 13 + x[:, None] - x + 6
    return {name: index if name.endswith(INDEX) else value for name, value in empty_state(path).items()}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_fit_strictly(name: str, data_dir: Path):
    path = folder(data_dir, name)
    source = source_of(path)
    ours, trunk = to_state(source)
    settings = read_settings(read_config_file(path / "config.py"), name)
    assert settings.config.model.backbone.name == trunk
    with torch.device("meta"):
        own = build_model(settings.config.model, classes=[str(i) for i in range(80)], data=settings.config.data)
    wanted = {
        key: value.shape
        for key, value in own.state_dict().items()
        if key not in ("mean", "std") and not NOT_OF_THE_MODEL.fullmatch(key) and not key.endswith(INDEX)
    }
    assert {key: value.shape for key, value in ours.items()} == wanted
    dropped = [key for key in source if NOT_OF_THE_MODEL.fullmatch(key) or key.endswith(INDEX)]
    assert len(ours) == len(source) - len(dropped)


def test_a_patch_merging_changes_the_order_of_its_inputs():
    theirs = torch.arange(8.0)  # channel 0 of cells 00, 01, 10, 11, then channel 1
    assert cells_first(theirs).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]  # both channels of cells 00, 10, 01, 11


def test_the_prefix_of_several_gpus_and_counters_are_dropped():
    source = {"module.a.weight": torch.zeros(1), "module.a.num_batches_tracked": torch.zeros(())}
    assert list(plain(source)) == ["a.weight"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("roi_head.semantic_head.fcs.0.weight", "Hybrid Task Cascade"),
        ("roi_head.shared_head.layer4.0.conv1.weight", "C4"),
        ("backbone.layer2.0.conv2.conv_offset.weight", "deformable"),
        ("roi_head.bbox_head.fc_other.weight", "not part of"),
        ("backbone.other.weight", "not part of a resnet50"),
    ],
)
def test_other_networks_are_named(name: str, said: str, data_dir: Path):
    source = source_of(folder(data_dir, "mm_r50_fpn")) | {name: torch.zeros(1)}
    with pytest.raises(WeightsError, match=said):
        to_state(source)


def test_a_swin_with_larger_windows_is_refused(data_dir: Path):
    source = source_of(folder(data_dir, "mm_swin_t"))
    table = "backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table"
    with pytest.raises(WeightsError, match="windows of 12"):
        to_state(source | {table: torch.zeros(23 * 23, 3)})


def test_an_unknown_trunk_lists_those_that_are_built(data_dir: Path):
    source = source_of(folder(data_dir, "mm_r50_fpn"))
    shorter = {name: value for name, value in source.items() if not name.startswith("backbone.layer4.2")}
    with pytest.raises(WeightsError, match="ResNet-18"):
        to_state(shorter)
