"""Statistics of tensors on hand-made layers, and the comparison of two models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from maskrcnn.errors import WeightsError
from maskrcnn.inspection.weights import comparison_lines, inspect_weights, layer_of, table_of
from maskrcnn.weights.native import save_model
from tests.inspection.families import FAMILIES, model_of
from tests.model.tiny import tiny_model


def layer(module: nn.Module, value: torch.Tensor, leaf: str = "weight"):
    return layer_of(f"part.{leaf}", value, module, leaf, trains=True)


def test_numbers_of_a_tensor():
    value = torch.tensor([[1.0, 0.0, -3.0], [0.0, 2.0, float("nan")], [float("inf"), 0.0, 0.0]])
    found = layer(nn.Linear(3, 3), value)
    finite = np.array([1, 0, -3, 0, 2, 0, 0], np.float64)
    assert (found.nan, found.inf) == (1, 1)
    assert (found.mean, found.std, found.low, found.high) == (finite.mean(), finite.std(), -3, 2)
    assert found.zeros == 4 / 9
    assert found.counts.sum() == 7
    assert found.edges[0] == -3
    assert found.edges[-1] == 2
    assert (found.size, found.part, found.kind) == (9, "part", "weight")


def test_dead_and_exploded_channels():
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(8, 4, 3, 3, generator=generator)
    value[2], value[5] = 1e-9, value[5] * 50
    found = layer(nn.Conv2d(4, 8, 3), value)
    assert found.dead == (2,)
    assert found.exploded == (5,)
    turned = layer(nn.ConvTranspose2d(4, 8, 3), value.transpose(0, 1))
    assert turned.dead == (2,), "a transposed convolution has its channels in the second place"
    assert turned.exploded == (5,)
    assert layer(nn.Conv2d(4, 8, 3), torch.zeros(8, 4, 3, 3)).dead == tuple(range(8))
    scale = torch.tensor([1.0, 1e-5, -1.0])
    assert layer(nn.BatchNorm2d(3), scale).dead == (1,)
    assert layer(nn.BatchNorm2d(3), scale, "bias").dead == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_every_family(family):
    model = model_of(family)
    weights = inspect_weights(model)
    assert [one.name for one in weights.layers] == list(model.state_dict())
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {one.name for one in weights.layers if one.trains} == training
    for part in weights.parts:
        assert part in table_of(weights)


def test_two_models(tmp_path):
    first = tiny_model()
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.box_head.class_logits.weight.mul_(1.5)
        second.box_head.class_logits.bias.fill_(0.25)
    same = inspect_weights(first, copy.deepcopy(first))
    assert {difference.kind for difference in same.differences} == {"equal"}
    assert "both models are equal bit for bit" in same.notes
    folders = [save_model(model, tmp_path / name) for name, model in (("a", first), ("b", second))]
    found = {difference.name: difference for difference in inspect_weights(*folders).differences}
    changed = {name for name, difference in found.items() if difference.kind == "changed"}
    assert changed == {"box_head.class_logits.weight", "box_head.class_logits.bias"}
    assert found["box_head.class_logits.weight"].change == pytest.approx(0.5)
    largest = first.box_head.class_logits.weight.abs().max().item() / 2
    assert found["box_head.class_logits.weight"].largest == pytest.approx(largest)
    assert found["box_head.class_logits.bias"].change == float("inf"), "from all zeros"
    text = table_of(inspect_weights(*folders))
    assert f"compared with {folders[1]}: " in text
    assert "box_head.class_logits.weight: changed by 50 % of its size" in text


def test_models_of_other_architectures():
    weights = inspect_weights(model_of("pyramid"), model_of("cascade"))
    kinds = {difference.name: difference.kind for difference in weights.differences}
    assert kinds["cascade.0.class_logits.weight"] == "extra"
    assert kinds["box_head.box_deltas.weight"] == "shape"
    back = {d.name: d.kind for d in inspect_weights(model_of("cascade"), model_of("pyramid")).differences}
    assert back["cascade.0.class_logits.weight"] == "missing"
    assert any("another architecture" in note for note in weights.notes)


def test_what_is_odd_is_said(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.rpn.deltas.weight[3] = float("nan")
        model.box_head.fully_connected[0].weight[7] = 0
        model.mask_head.logits.weight[1] *= 1000
    notes = " ".join(inspect_weights(model).notes)
    assert "NaN or infinite, first in rpn.deltas.weight: the model cannot be used" in notes
    assert "all but zero, most in box_head.fully_connected.0.weight" in notes
    assert "most in mask_head.logits.weight" in notes
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match="give the checkpoint it came from"):
        inspect_weights(tmp_path / "model.onnx")


@pytest.mark.parametrize("value", [1e20, 3e38, -1e30])
def test_large_constants_have_a_histogram(value):
    assert layer(nn.Linear(3, 1), torch.full((1, 3), value)).counts.sum() == 3


def test_tensors_without_numbers():
    assert layer(nn.Linear(1, 1), torch.zeros(0, 4)).dead == ()


def test_nan_against_sound():
    """What is not finite comes first, and no percentage is made of it."""
    first, second = tiny_model(), tiny_model()
    with torch.no_grad():
        second.rpn.deltas.weight[0] = float("nan")
        second.box_head.class_logits.weight.mul_(1.5)
    lines = comparison_lines(inspect_weights(first, second))
    assert "  rpn.deltas.weight: not finite in one of the two" in lines
    assert lines.index("  rpn.deltas.weight: not finite in one of the two") == 1
