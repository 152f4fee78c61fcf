"""Detectors whose variables are not what they should be: told by name, before names are made and memory is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.tensorflow import model as model_module
from maskrcnn.weights.tensorflow.model import load_tensorflow, training_state
from maskrcnn.weights.tensorflow.names import (
    NOT_OF_THE_MODEL,
    SHADOW,
    mask_layers,
    pairs,
    trunk_state,
    variables_to_state,
)
from maskrcnn.weights.tensorflow.read import SLOTS
from maskrcnn.weights.tensorflow.write import write_checkpoint

Variables = dict[str, np.ndarray]
FIRST, SECOND = "FirstStageBoxPredictor", "SecondStageBoxPredictor"
LOGITS = f"{SECOND}/ClassPredictor"


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.fixture
def folder(tiny, truth, tmp_path: Path):
    """A function: changes -> the thin model's checkpoint with them, beside its pipeline.config or without."""

    def write(changes: Variables, *, config: bool = True) -> Path:
        write_checkpoint(tmp_path / "model.ckpt", {**truth, **changes})
        if config:
            (tmp_path / "pipeline.config").write_bytes((tiny / "pipeline.config").read_bytes())
        return tmp_path

    return write


# ---------------------------------------------------------------- numbers in names


def test_the_number_in_a_name_is_not_a_count(truth):
    far = f"{SECOND}/Conv_3000000/weights"
    assert mask_layers({**truth, far: zeros(1), f"{SECOND}/Conv_{'9' * 30}/weights": zeros(1)}) == 2
    with pytest.raises(WeightsError, match=rf"unknown variable '{far}'"):
        variables_to_state({**truth, far: zeros(1)}, "inception_v2")
    gap = {name: value for name, value in truth.items() if not name.startswith(f"{SECOND}/Conv/")}
    with pytest.raises(WeightsError, match=rf"unknown variables '{SECOND}/Conv_1/weights', '{SECOND}/Conv_1/biases'"):
        variables_to_state(gap, "inception_v2")


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{LOGITS}/biases": zeros(300_001)},
            rf"'{LOGITS}/biases' has 300001 numbers, but '.*/weights' has 4 outputs",
        ),
        ({"Conv/weights": zeros(1, 1, 1, 300_000)}, r"'Conv/biases' has 16 numbers, but .* has 300000 outputs"),
        ({f"{SECOND}/BoxEncodingPredictor/biases": zeros(8)}, r"'SecondStageBox.*/biases' has 8 numbers"),
        ({f"{FIRST}/ClassPredictor/biases": zeros(7)}, r"'FirstStageBox.*/biases' has 7 numbers"),
        ({f"{LOGITS}/biases": zeros(1), f"{LOGITS}/weights": zeros(1024, 1)}, "no class besides the background"),
        ({f"{LOGITS}/biases": zeros(0)}, r"'.*/biases' has shape \(0,\), so it holds nothing"),
        ({"Conv/weights": np.array(0, np.float32)}, r"'Conv/weights' has shape \(\), expected 4 axes"),
    ],
)
def test_numbers_that_disagree_are_told_by_name(folder, monkeypatch, changes, message, config):
    monkeypatch.setattr(model_module, "names_of", pytest.fail)
    monkeypatch.setattr(model_module, "build_model", pytest.fail)
    with pytest.raises(WeightsError, match=rf"model\.ckpt: variable {message}|model\.ckpt: variable .*{message}"):
        load_tensorflow(folder(changes, config=config))
    with pytest.raises(WeightsError, match=message):
        training_state(folder(changes, config=config), "inception_v2")


@pytest.mark.filterwarnings("ignore:.*no pipeline.config")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{LOGITS}/biases": zeros(100_001), f"{LOGITS}/weights": zeros(1, 100_001)},
            rf"'{LOGITS}/weights' has shape \(1, 100001\), but .* make it \(\d+, 100001\)",
        ),
        (
            {
                "Conv/weights": zeros(1, 1, 1, 200_000),
                "Conv/biases": zeros(200_000),
                f"{FIRST}/ClassPredictor/weights": zeros(1, 1, 1, 24),
            },
            r"'Conv/weights' has shape \(1, 1, 1, 200000\), but .* make it \(1, 1, \d+, 200000\)",
        ),
        (
            {f"{SECOND}/Conv_1/weights": zeros(1, 1, 200_000, 3)},
            rf"'{SECOND}/Conv/weights' has shape \(3, 3, \d+, 8\), but .* make it \(3, 3, \d+, 200000\)",
        ),
        (
            {"FirstStageFeatureExtractor/InceptionV2/Conv2d_1a_7x7/depthwise_weights": zeros(7, 7, 3, 5)},
            r"depthwise_weights' has shape \(7, 7, 3, 5\), but .* make it \(7, 7, 3, \d\)",
        ),
    ],
)
def test_shapes_are_compared_before_memory_is_taken(folder, monkeypatch, changes, message):
    monkeypatch.setattr(model_module, "names_of", pytest.fail)
    monkeypatch.setattr(model_module, "build_model", pytest.fail)
    with pytest.raises(WeightsError, match=rf"model\.ckpt: variable .*{message}"):
        load_tensorflow(folder(changes, config=False))


def test_shapes_are_those_of_the_file(truth):
    state = variables_to_state(truth, "inception_v2")
    for pair in pairs("inception_v2", 2):
        assert pair.their_shape(state[pair.ours].shape) == truth[pair.theirs].shape


def test_other_widths_are_told_with_the_file(folder, truth):
    name = "FirstStageFeatureExtractor/InceptionV2/Conv2d_2c_3x3/weights"
    with pytest.raises(
        WeightsError, match=r"model\.ckpt: the inception_v2 of this file has other channels than slim's"
    ):
        load_tensorflow(folder({name: truth[name][..., :-1]}))


# ---------------------------------------------------------------- values and names


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_variable_that_is_not_finite(truth, value):
    name = "Conv/biases"
    wrong = truth[name].astype(np.float64)
    wrong[3] = value
    message = rf"variable '{name}' is not finite \(NaN or infinite\); take an earlier checkpoint"
    with pytest.raises(WeightsError, match=message):
        variables_to_state({**truth, name: wrong}, "inception_v2")
    passed_over = {**truth, f"{name}/Momentum": wrong, name + SHADOW: wrong}
    variables_to_state(passed_over, "inception_v2")
    with pytest.raises(WeightsError, match=message.replace(name, name + SHADOW)):
        variables_to_state(passed_over, "inception_v2", moving_averages=True)
    layer = "FirstStageFeatureExtractor/InceptionV2/Conv2d_2b_1x1/weights"
    with pytest.raises(WeightsError, match=rf"'{layer}' is not finite"):
        trunk_state({**truth, layer: np.full(truth[layer].shape, value)}, "inception_v2")


def test_several_missing_and_unknown_variables_are_named(truth):
    names = sorted(truth)
    less = {name: truth[name] for name in names[2:]}
    more = {f"extra_{number}": zeros(1) for number in range(11)}
    with pytest.raises(WeightsError) as caught:
        variables_to_state({**less, **more}, "inception_v2")
    unknown = ", ".join(f"'extra_{number}'" for number in range(8))
    assert str(caught.value).endswith(
        f"unknown variables {unknown} and 3 more; missing variables '{names[0]}', '{names[1]}'"
    )
    assert (caught.value.missing, caught.value.unexpected) == (tuple(names[:2]), tuple(more))


def test_what_every_optimiser_leaves_is_passed_over():
    assert all(NOT_OF_THE_MODEL.fullmatch(f"layer/weights/{slot}") for slot in SLOTS)
    assert not NOT_OF_THE_MODEL.fullmatch("layer/weights")


# ---------------------------------------------------------------- configs of such models


def test_crops_that_are_too_small():
    config = preset("mask_rcnn_inception_resnet_v2_atrous_coco").model
    config = replace(config, box=replace(config.box, pooler=replace(config.box.pooler, resolution=2)))
    with (
        torch.device("meta"),
        pytest.raises(ConfigError, match=r"^model\.box\.pooler\.resolution: gives crops of \d cell"),
    ):
        build_model(config, classes=["a"])


def test_an_inception_v2_without_a_channel_for_each_colour():
    narrow = BackboneConfig(name="inception_v2", stride=16, width=0.001, min_width=2)
    with pytest.raises(
        ConfigError, match=r"^model\.backbone\.min_width: 2: leaves the first layer 2 channels, it needs 3"
    ):
        build_backbone(narrow)
    assert build_backbone(replace(narrow, min_width=3)).channels == (12,)


def test_two_classes_of_one_name_are_found_among_many():
    names = [str(number) for number in range(200_000)]
    with pytest.raises(ConfigError, match="class '7' is there twice"):
        build_model(preset("shapes").model, classes=[*names, "7"])
