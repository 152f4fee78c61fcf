"""Layers of Matterport's network: each has a place in ours, and goes back to where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.weights.matterport.config import to_config
from maskrcnn.weights.matterport.names import EPS, MASK_EPS, _Reader, _swapped, to_groups, to_state, trunk_layers
from tests.weights.oracle import folder

NAMES = ["mp_resnet50", "mp_resnet101"]


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Of the right names and shapes: a number each."""
    keys = json.loads((path / "keys.json").read_text())
    short = {"/".join(key.split("/")[-2:]).removesuffix(":0"): shape for key, shape in keys.items()}
    return {name: np.full(shape, 0.5, np.float32) for name, shape in short.items()}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_fit_strictly(name: str, data_dir: Path):
    path = folder(data_dir, name)
    ours, trunk = to_state(arrays_of(path))
    config = to_config(json.loads((path / "config.json").read_text()))
    assert config.model.backbone.name == trunk
    with torch.device("meta"):
        own = build_model(config.model, classes=list("abcd"), data=config.data).state_dict()
    wanted = {
        key: value.shape for key, value in own.items() if not key.endswith(("mean", "std", "num_batches_tracked"))
    }
    found = {key: value.shape for key, value in ours.items() if not key.endswith("running_mean")}
    assert found == wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_way_back_has_every_group_in_keras_order(name: str, data_dir: Path):
    path = folder(data_dir, name)
    state, trunk = to_state(arrays_of(path))
    written = {
        f"{group}/{weight}:0": list(array.shape)
        for group, weights in to_groups(state, trunk, EPS)
        for weight, array in weights.items()
    }
    assert list(written.items()) == list(json.loads((path / "keys.json").read_text()).items())


def test_the_bias_of_a_convolution_goes_into_the_norm():
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> np.ndarray:
        return torch.rand(shape, generator=generator).numpy()

    layer = next(trunk_layers("resnet50"))
    arrays = {"conv1/kernel": numbers(3, 3, 2, 4), "conv1/bias": numbers(4)}
    arrays |= {f"bn_conv1/{name}": numbers(4) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    x = torch.rand(1, 2, 5, 5, generator=generator)
    norm = [torch.from_numpy(arrays[f"bn_conv1/{n}"]) for n in ("moving_mean", "moving_variance", "gamma", "beta")]
    kernel = torch.from_numpy(arrays["conv1/kernel"].transpose(3, 2, 0, 1).copy())
    theirs = F.batch_norm(F.conv2d(x, kernel, torch.from_numpy(arrays["conv1/bias"])), *norm, eps=EPS)
    state = {
        k: torch.from_numpy(np.ascontiguousarray(v))
        for k, v in _Reader(arrays).with_norm(layer, EPS - MASK_EPS).items()
    }
    ours = [state[f"backbone.bn1.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
    found = F.batch_norm(F.conv2d(x, state["backbone.conv1.weight"]), *ours, eps=MASK_EPS)
    assert torch.allclose(found, theirs, atol=1e-6)


def test_rows_of_boxes_change_their_order():
    rows = np.arange(8.0)
    assert _swapped(rows).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert _swapped(_swapped(rows)).tolist() == rows.tolist()


def test_the_background_moves_to_the_end(data_dir: Path):
    arrays = arrays_of(folder(data_dir, "mp_resnet50"))
    arrays["mrcnn_class_logits/bias"] = np.arange(5, dtype=np.float32)
    arrays["mrcnn_bbox_fc/bias"] = np.arange(20, dtype=np.float32)
    state, _ = to_state(arrays)
    assert state["box_head.class_logits.bias"].tolist() == [1, 2, 3, 4, 0]
    assert state["box_head.box_deltas.bias"][:4].tolist() == [5, 4, 7, 6]


def test_what_is_missing_or_too_much_is_named(data_dir: Path):
    arrays = arrays_of(folder(data_dir, "mp_resnet50"))
    with pytest.raises(WeightsError, match="mine/kernel"):
        to_state(arrays | {"mine/kernel": np.zeros(1, np.float32)})
    to_state(arrays | {"anchors/Variable": np.zeros(1, np.float32)})  # left by training
    del arrays["mrcnn_mask/bias"]
    with pytest.raises(WeightsError, match="mrcnn_mask/bias") as caught:
        to_state(arrays)
    assert caught.value.missing == ("mrcnn_mask/bias",)
    with pytest.raises(WeightsError, match="neither the ResNet-50"):
        to_state({"dense_1/kernel": np.zeros((2, 2), np.float32)})


@pytest.mark.parametrize(
    "name",
    ["conv1/bias", "bn_conv1/gamma", "mrcnn_class_bn1/beta", "mrcnn_class_logits/bias", "rpn_bbox_pred/bias",
     "mrcnn_mask_deconv/bias", "mrcnn_mask/bias"],
)  # fmt: skip
def test_a_bias_or_norm_of_another_length_is_named(name: str, data_dir: Path):
    arrays = arrays_of(folder(data_dir, "mp_resnet50"))
    with pytest.raises(WeightsError, match=f"array '{name}' has 3 numbers, but its layer has"):
        to_state({**arrays, name: np.zeros(3, np.float32)})
