"""Learning rates by hand, groups by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maskrcnn.config import TrainConfig
from maskrcnn.training.optim import lr_at, make_optimizer, may_go_on, scaled_rate, set_rate

SGD = TrainConfig(optimizer="sgd", learning_rate=0.02, learning_rate_batch=16, batch_size=16, warmup_steps=10)


def test_rate_follows_the_batch():
    assert scaled_rate(TrainConfig(optimizer="sgd", learning_rate=0.02, batch_size=4)) == pytest.approx(0.005)
    assert scaled_rate(TrainConfig(optimizer="adamw", learning_rate=0.02, batch_size=4)) == pytest.approx(0.01)


def test_step_schedule_by_hand():
    config = TrainConfig(optimizer="sgd", batch_size=16, warmup_steps=4, warmup_factor=0.5, milestones=(0.5, 0.8))
    rates = [lr_at(step, config, 100) for step in (0, 2, 4, 49, 50, 79, 80, 99)]
    assert rates == pytest.approx([0.01, 0.015, 0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])


def test_cosine_ends_at_zero_and_constant_stays():
    cosine = TrainConfig(optimizer="sgd", batch_size=16, schedule="cosine", warmup_steps=0)
    assert [lr_at(step, cosine, 100) for step in (0, 50, 100)] == pytest.approx([0.02, 0.01, 0.0])
    constant = TrainConfig(optimizer="sgd", batch_size=16, schedule="constant", warmup_steps=0)
    assert lr_at(99, constant, 100) == pytest.approx(0.02)


def test_warmup_is_at_most_a_tenth():
    assert lr_at(5, TrainConfig(optimizer="sgd", batch_size=16, warmup_steps=1000), 50) == pytest.approx(0.02)


def test_length_unknown():
    assert lr_at(5, SGD, None) == pytest.approx(0.02 * (0.001 + 0.999 * 0.5))
    assert lr_at(500, SGD, None) == pytest.approx(0.02)


def test_manual_rates_follow_the_batch_and_the_steps():
    rates = ((0, 0.01), (30, 0.001))
    config = TrainConfig(schedule="manual", rates=rates, learning_rate=0.01, batch_size=8, warmup_steps=0)
    assert [lr_at(step, config, 20) for step in (0, 29, 30, 500)] == pytest.approx([0.005, 0.005, 0.0005, 0.0005])


def test_exponential_without_decay_steps_falls_once_in_the_run():
    config = TrainConfig(schedule="exponential", batch_size=16, warmup_steps=0, decay_factor=0.5, decay_staircase=False)
    assert [lr_at(step, config, 100) for step in (0, 50, 100)] == pytest.approx([0.02, 0.02 * 0.5**0.5, 0.01])
    assert lr_at(50, config, None) == pytest.approx(0.02)


def test_cosine_holds_and_ends_at_its_lowest():
    config = TrainConfig(
        schedule="cosine",
        batch_size=16,
        warmup_steps=50,
        hold_steps=10,
        decay_steps=100,
        end_rate=0.004,
        warmup_factor=0.0,
    )
    steps = (0, 25, 50, 60, 80, 99, 100, 500)  # half-way at 80; warm-up is longer than a tenth of this run
    expected = [0.004, 0.01, 0.02, 0.02, 0.01, 0.004, 0.004, 0.004]
    assert [lr_at(step, config, 20) for step in steps] == pytest.approx(expected)


@given(
    step=st.integers(0, 500),
    total=st.integers(1, 500),
    schedule=st.sampled_from(["step", "cosine", "constant"]),
    warmup=st.integers(0, 1000),
)
def test_rate_stays_between_zero_and_full(step, total, schedule, warmup):
    config = TrainConfig(schedule=schedule, warmup_steps=warmup)
    rate = lr_at(step, config, total)
    assert 0 <= rate <= scaled_rate(config) * (1 + 1e-9)
    assert math.isfinite(rate)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.backbone[0].bias.requires_grad_(False)
        self.head = nn.Linear(4, 2)


def test_groups():
    net = Net()
    config = TrainConfig(optimizer="adamw", weight_decay=0.05, backbone_lr_factor=0.1)
    optimizer = make_optimizer(net, config)
    assert isinstance(optimizer, torch.optim.AdamW)
    set_rate(optimizer, 1.0)
    names = {parameter: name for name, parameter in net.named_parameters()}
    found = {
        names[parameter]: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "backbone.0.weight": (0.05, 0.1),
        "backbone.1.weight": (0.0, 0.1),
        "backbone.1.bias": (0.0, 0.1),
        "head.weight": (0.05, 1.0),
        "head.bias": (0.0, 1.0),
    }


def test_sgd_has_momentum():
    group = make_optimizer(Net(), TrainConfig(optimizer="sgd", momentum=0.8)).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.8, False)


@pytest.mark.parametrize(("optimizer", "default"), [("rmsprop", 1.0), ("adam", 1e-8), ("adamw", 1e-8)])
def test_an_epsilon_of_0_is_one(optimizer, default):
    for chosen, eps in [(0.0, 0.0), (None, default), (0.5, 0.5)]:
        config = TrainConfig(optimizer=optimizer, optimizer_eps=chosen)
        assert make_optimizer(nn.Linear(1, 1), config).param_groups[0]["eps"] == eps


def test_which_runs_may_get_longer():
    short, long = TrainConfig(steps=100), TrainConfig(steps=200)

    def may(**changes):
        return may_go_on(*(replace(config, **changes) for config in (short, long)))

    assert may(schedule="manual", rates=((0, 0.1),))
    assert may(schedule="cosine", decay_steps=50)
    assert may(schedule="constant", warmup_steps=10)
    assert not may(schedule="constant", warmup_steps=15)  # a tenth of the run is less
    assert not may(schedule="cosine")
    assert not may(schedule="step")
    assert not may(schedule="manual", rates=((0, 0.1),), minutes=5.0)
