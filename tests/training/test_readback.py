"""Losses read a step late: the order, the wait, and that a bad step changes nothing although nobody has looked yet."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

import maskrcnn.training.loop as loop
from maskrcnn.config import TrainConfig
from maskrcnn.errors import TrainingError
from maskrcnn.structures import Batch
from maskrcnn.training.loop import train
from maskrcnn.training.optim import Guard, make_optimizer
from maskrcnn.training.prefetch import on_device
from maskrcnn.training.readback import Readback, Reading, Step
from tests.training.tiny_run import tiny_config

CPU = torch.device("cpu")


def step(number: int) -> Step:
    return Step(number, number / 10, ("loss", "gradient norm"), (f"{number}.png",))


class Copies:
    """A device whose copies can be watched."""

    def __init__(self) -> None:
        self.started: list[float] = []
        self.read: list[float] = []

    def __call__(self, values: Tensor) -> Reading:
        self.started.append(values[0].item())

        def reading() -> list[float]:
            self.read.append(values[0].item())
            return values.tolist()

        return reading


def test_on_a_cpu_values_come_at_once() -> None:
    readback = Readback(CPU)
    assert readback.put(step(1), torch.tensor([0.5, 2.0])) == [(step(1), [0.5, 2.0])]
    assert readback.drain() == []


def test_values_are_read_when_the_next_step_is_put() -> None:
    copies = Copies()
    readback = Readback(CPU, lag=1, start=copies)
    assert readback.put(step(1), torch.tensor([1.0, 0.0])) == []
    assert (copies.started, copies.read) == ([1.0], [])
    assert readback.put(step(2), torch.tensor([2.0, 0.0])) == [(step(1), [1.0, 0.0])]
    assert (copies.started, copies.read) == ([1.0, 2.0], [1.0])
    assert readback.drain() == [(step(2), [2.0, 0.0])]
    assert readback.drain() == []


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_from_a_bad_step_on_no_update_changes_anything(kind: str) -> None:
    """The fused update of the CPU obeys the same flag as that of CUDA."""
    net = nn.Linear(3, 2)
    optimizer = make_optimizer(net, TrainConfig(optimizer=kind, batch_size=16))
    groups = [group | {"fused": True, "foreach": False} for group in optimizer.param_groups]
    optimizer = type(optimizer)([{k: v for k, v in g.items() if k != "factor"} for g in groups], lr=0.1)
    guard = Guard(optimizer, CPU)

    def update(gradient: float) -> list[Tensor]:
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        guard.see(torch.tensor([1.0, gradient]))
        optimizer.step()
        states = [v for entries in optimizer.state.values() for v in entries.values() if isinstance(v, Tensor)]
        return [v.detach().clone() for v in (*net.parameters(), *states)]

    start = [p.detach().clone() for p in net.parameters()]
    good = update(0.5)
    assert not any(torch.equal(a, b) for a, b in zip(start, good, strict=False))
    for gradient in (math.nan, 0.5, math.inf):  # a good gradient after the bad one is held back too
        after = update(gradient)
        assert all(torch.equal(a, b) for a, b in zip(good, after, strict=True))


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on the CPU as on CUDA: losses a step late, updates fused and guarded."""
    monkeypatch.setattr(loop, "Readback", lambda device: Readback(device, lag=1))
    real = loop.make_optimizer

    def fused(model: nn.Module, options: TrainConfig) -> torch.optim.Optimizer:
        optimizer = real(model, options)
        optimizer.defaults["fused"] = True
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=False)
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", fused)
    prepare = loop._prepare

    def guarded(*args: object) -> loop._Session:
        session = prepare(*args)  # type: ignore[arg-type]
        session.guard = Guard(session.optimizer, CPU)
        return session

    monkeypatch.setattr(loop, "_prepare", guarded)


def lines(out) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_log_is_the_same_however_late_the_losses_are_read(squares, tmp_path, monkeypatch, optimizer, request):
    config = tiny_config(**{"train.optimizer": optimizer, "train.evaluate_every": 0.0, "train.log_every": 2})
    options = {"train": squares[0], "device": "cpu", "progress": False}
    train(config, out=tmp_path / "now", **options)
    request.getfixturevalue("late")
    train(config, out=tmp_path / "late", **options)
    for now, later in zip(lines(tmp_path / "now"), lines(tmp_path / "late"), strict=True):
        assert now.keys() == later.keys()
        assert now["step"] == later["step"]
        for name in ("loss/total", "loss/mask", "gradient_norm", "learning_rate"):
            assert later[name] == pytest.approx(now[name], rel=1e-4)


def test_a_bad_step_is_named_a_step_late_and_left_out(squares, tmp_path, monkeypatch, late):
    real, calls, weights = loop.backward, [], []

    def backward(model, *args):
        losses = real(model, *args)
        calls.append(None)
        weights.append(next(model.parameters()).detach().clone())
        if len(calls) == 2:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(math.nan)
        return losses

    monkeypatch.setattr(loop, "backward", backward)
    config = tiny_config(**{"train.log_every": 100, "train.evaluate_every": 0.0, "train.save_every": 0.0})
    with pytest.raises(TrainingError, match=r"step 2: the loss is not finite .*gradient norm nan.*no checkpoint"):
        train(config, train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    assert len(calls) == 3  # step 3 was on its way
    assert torch.equal(weights[1], weights[2])


def test_resume_with_a_fused_optimiser_is_exact(squares, tmp_path, monkeypatch, late):
    config = tiny_config(**{"train.optimizer": "adamw", "train.evaluate_every": 0.0})
    options = {"train": squares[0], "device": "cpu", "progress": False}
    whole = train(config, out=tmp_path / "whole", **options)
    real, calls = loop.backward, []

    def killed(*args):
        calls.append(None)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "backward", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, out=tmp_path / "killed", **options)
    resumed = train(config, out=tmp_path / "killed", resume=True, **options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_on_a_cpu_batches_pass_through() -> None:
    batches = [Batch(torch.full((1, 3, 2, 2), i), torch.tensor([[2, 2]]), None, paths=(f"{i}.png",)) for i in range(3)]
    found = list(on_device(([batch] for batch in batches), CPU))
    assert [step[0].images[0, 0, 0, 0].item() for step in found] == [0, 1, 2]
    assert [step[0].paths for step in found] == [("0.png",), ("1.png",), ("2.png",)]
