"""Fully connected layers through oneDNN equal `nn.Linear`."""

import pytest
import torch
from torch import nn

from maskrcnn.ops import dense
from maskrcnn.ops.dense import linear

LAYER = nn.Linear(5 * 3 * 3, 7)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 6])
def test_maps_and_rows_equal_the_layer_with_gradients(memory_format: torch.memory_format, rows: int) -> None:
    maps = torch.randn(rows, 5, 3, 3).contiguous(memory_format=memory_format).requires_grad_()
    for x in (maps, maps.flatten(1)):
        results = []
        for y in (linear(x, LAYER), LAYER(x.flatten(1))):
            gradients = torch.autograd.grad(y.square().sum(), [maps, LAYER.weight, LAYER.bias], retain_graph=True)
            results.append([y, *gradients])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_prediction_equals_the_layer() -> None:
    x = torch.randn(6, 45)
    torch.testing.assert_close(linear(x, LAYER), LAYER(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(x, LAYER), LAYER(x))
    assert linear(x[:0], LAYER).shape == (0, 7)


@torch.inference_mode()
def test_without_the_operator_the_layer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_operator_works", lambda: False)
    x = torch.randn(6, 45)
    assert torch.equal(linear(x, LAYER), LAYER(x))
