"""RMSProp against TensorFlow's update rule, worked out with plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from maskrcnn.config import TrainConfig
from maskrcnn.training.optim import Guard, make_optimizer
from maskrcnn.training.rmsprop import RMSProp


def test_updates_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = RMSProp([weight], lr=0.1, momentum=0.9, decay=0.8, eps=1e-3)
    square, momentum, expected = 1.0, 0.0, 1.0
    for gradient in (0.5, -2.0, 0.25, 3.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        square = 0.8 * square + 0.2 * gradient**2
        momentum = 0.9 * momentum + 0.1 * gradient / math.sqrt(square + 1e-3)
        expected -= momentum
        assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_weight_decay_is_l2():
    first, second = (nn.Parameter(torch.tensor([2.0])) for _ in range(2))
    decayed = RMSProp([{"params": [first], "weight_decay": 0.5}], lr=0.1)
    plain = RMSProp([second], lr=0.1)
    first.grad, second.grad = torch.tensor([1.0]), torch.tensor([1.0 + 0.5 * 2.0])
    decayed.step()
    plain.step()
    assert first.item() == second.item()


def test_a_bad_step_changes_nothing():
    weight = nn.Parameter(torch.ones(3))
    optimizer = RMSProp([weight], lr=0.1)
    guard = Guard(optimizer, torch.device("cpu"))
    weight.grad = torch.ones(3)
    guard.see(torch.ones(2))
    optimizer.step()
    before = weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())
    weight.grad = torch.full((3,), math.nan)
    guard.see(torch.tensor([1.0, math.inf]))
    optimizer.step()
    after = weight.detach(), *optimizer.state[weight].values()
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("name", "kind"), [("rmsprop", RMSProp), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
@pytest.mark.parametrize("eps", [None, 0.25])
def test_the_config_chooses(name, kind, eps):
    config = TrainConfig(optimizer=name, optimizer_eps=eps, momentum=0.7, rms_decay=0.6)
    optimizer = make_optimizer(nn.Linear(2, 2), config)
    assert type(optimizer) is kind
    assert optimizer.defaults["eps"] == (eps or (1.0 if name == "rmsprop" else 1e-8))
    if name == "rmsprop":
        assert (optimizer.defaults["momentum"], optimizer.defaults["decay"]) == (0.7, 0.6)
