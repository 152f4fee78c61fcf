"""The clock fits a run to its limit; the average follows the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maskrcnn.training.clock import Clock
from maskrcnn.training.ema import EMA


def run_with(clock: Clock, time: list[float], seconds: float) -> int:
    """Steps until the clock says stop, each taking `seconds`."""
    step, total = 0, None
    while total is None or step < total:
        time[0] += seconds
        step += 1
        clock.stepped(seconds)
        if clock.due(step, total):
            total = max(clock.fit(step), step)
    return step


@pytest.mark.parametrize(("seconds", "images"), [(0.1, 0), (0.5, 20), (2.0, 4)])
def test_ends_within_the_limit_with_time_to_evaluate(seconds, images):
    time = [0.0]
    clock = Clock(2, start=0.0, evaluation_images=images, batch_size=2, now=lambda: time[0])
    run_with(clock, time, seconds)
    evaluation = images * seconds / 2
    assert 120 - seconds - 0.3 * 120 <= time[0] + evaluation <= 120 + 1e-6


def test_slow_machine_stops_before_the_first_estimate():
    time = [0.0]
    clock = Clock(1, start=0.0, evaluation_images=0, batch_size=2, now=lambda: time[0])
    assert run_with(clock, time, 10.0) == 6


def test_measured_evaluation_replaces_the_guess():
    time = [0.0]
    clock = Clock(10, start=0.0, evaluation_images=1000, batch_size=1, now=lambda: time[0])
    clock.stepped(1.0)
    assert clock.reserved == pytest.approx(0.3 * 600)  # the guess, 1000 s, is capped
    clock.evaluation_seconds = 20.0
    assert clock.reserved == pytest.approx(22.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))


def test_average_by_hand():
    net = Net()
    nn.init.zeros_(net.layer[0].weight)
    ema = EMA(net, decay=0.5)
    nn.init.ones_(net.layer[0].weight)
    net.layer[1].num_batches_tracked += 3
    ema.update(step=1)  # warm-up: decay (1 + 1) / (10 + 1)
    expected = 9 / 11
    torch.testing.assert_close(ema.model.layer[0].weight, torch.full((2, 2), expected))
    ema.update(step=100)  # 0.5
    torch.testing.assert_close(ema.model.layer[0].weight, torch.full((2, 2), 0.5 * expected + 0.5))
    assert ema.model.layer[1].num_batches_tracked == 3
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert net.layer[0].weight.requires_grad
