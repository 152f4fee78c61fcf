"""Learning rates of a pipeline.config against the API's formulas, step by step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.read import read_pipeline
from maskrcnn.training.optim import lr_at
from tests.pipeline.texts import changed, write

CONSTANT = "constant_learning_rate { learning_rate: 0.001 }"


def rates(tmp_path, schedule: str, steps, total: int | None = 10):
    """Learning rates at `steps` of a run of `total` steps, which must not matter."""
    train = read_pipeline(write(tmp_path, changed(CONSTANT, schedule))).config.train
    return [lr_at(step, train, total) for step in steps]


def test_constant(tmp_path):
    assert rates(tmp_path, CONSTANT, (0, 5, 10**7)) == [0.001] * 3


def test_manual_steps_count_in_steps(tmp_path):
    schedule = (
        "manual_step_learning_rate { initial_learning_rate: 3e-4 schedule { step: 9 learning_rate: 3e-5 } "
        "schedule { step: 12 } }"
    )
    assert rates(tmp_path, schedule, (0, 8, 9, 11, 12, 10**7)) == [3e-4, 3e-4, 3e-5, 3e-5, 0.002, 0.002]


def test_manual_accepts_the_step_0_of_published_configs(tmp_path):
    schedule = (
        "manual_step_learning_rate { initial_learning_rate: 3e-4 schedule { step: 0 learning_rate: 1e-4 } "
        "schedule { step: 9 learning_rate: 3e-5 } }"
    )
    assert rates(tmp_path, schedule, (0, 8, 9)) == [1e-4, 1e-4, 3e-5]


def test_manual_with_warmup(tmp_path):
    schedule = (
        "manual_step_learning_rate { initial_learning_rate: 1e-4 warmup: true schedule { step: 4 learning_rate: 9e-4 } "
        "schedule { step: 8 learning_rate: 1e-5 } }"
    )
    assert rates(tmp_path, schedule, (0, 1, 2, 3, 4, 7, 8)) == pytest.approx([1e-4, 3e-4, 5e-4, 7e-4, 9e-4, 9e-4, 1e-5])


@pytest.mark.parametrize("staircase", [True, False])
@pytest.mark.parametrize("burnin", [0.0, 0.02])
def test_exponential(tmp_path, staircase, burnin):
    schedule = (
        "exponential_decay_learning_rate { initial_learning_rate: 0.02 decay_steps: 7 decay_factor: 0.5 "
        f"burnin_steps: 5 burnin_learning_rate: {burnin} min_learning_rate: 0.001 "
        f"staircase: {str(staircase).lower()} }}"
    )

    def expected(step: int) -> float:
        exponent = (step - 5) / 7
        rate = 0.02 * 0.5 ** (math.floor(exponent) if staircase else exponent)
        return max(0.02 if step < 5 else rate, 0.001)

    steps = [0, 4, 5, 11, 12, 13, 30, 1000]
    assert rates(tmp_path, schedule, steps) == pytest.approx([expected(step) for step in steps])


def test_exponential_with_another_rate_at_first_is_noted(tmp_path):
    schedule = (
        "exponential_decay_learning_rate { initial_learning_rate: 0.02 burnin_steps: 5 burnin_learning_rate: 0.01 }"
    )
    pipeline = read_pipeline(write(tmp_path, changed(CONSTANT, schedule)))
    assert "the rate rises in 5 steps from burnin_learning_rate, 0.01, to 0.02" in pipeline.notes[0]
    assert lr_at(0, pipeline.config.train, 10) == pytest.approx(0.01)
    assert lr_at(5, pipeline.config.train, 10) == pytest.approx(0.02)


@settings(max_examples=40, deadline=None)
@given(warmup=st.integers(0, 20), hold=st.integers(0, 20), rest=st.integers(1, 60), step=st.integers(0, 120))
def test_cosine(tmp_path_factory, warmup, hold, rest, step):
    total = warmup + hold + rest
    schedule = (
        f"cosine_decay_learning_rate {{ learning_rate_base: 0.008 warmup_learning_rate: 0.001 warmup_steps: {warmup} "
        f"hold_base_rate_steps: {hold} total_steps: {total} }}"
    )
    if step < warmup:
        expected = 0.001 + step * (0.008 - 0.001) / warmup
    elif step <= warmup + hold:
        expected = 0.008
    else:
        expected = 0.004 * (1 + math.cos(math.pi * (step - warmup - hold) / rest)) if step <= total else 0.0
    found = rates(tmp_path_factory.mktemp("cosine"), schedule, [step], 30)
    assert found == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("momentum_optimizer { momentum_optimizer_value: 0.8 RATE }", {"optimizer": "sgd", "momentum": 0.8}),
        ("adam_optimizer { RATE }", {"optimizer": "adam", "optimizer_eps": 1e-8}),
        ("adam_optimizer { RATE epsilon: 1e-6 }", {"optimizer": "adam", "optimizer_eps": 1e-6}),
        ("rms_prop_optimizer { RATE }",
         {"optimizer": "rmsprop", "momentum": 0.9, "rms_decay": 0.9, "optimizer_eps": 1.0}),
    ],
)  # fmt: skip
def test_optimizers(tmp_path, optimizer, expected):
    old = f"momentum_optimizer {{ learning_rate {{ {CONSTANT} }} }}"
    text = changed(old, optimizer.replace("RATE", f"learning_rate {{ {CONSTANT} }}"))
    train = read_pipeline(write(tmp_path, text)).config.train
    assert {name: getattr(train, name) for name in expected} == expected
    assert train.learning_rate == 0.001


def test_no_optimizer_is_noted(tmp_path):
    old = f"momentum_optimizer {{ learning_rate {{ {CONSTANT} }} }}"
    assert "train_config.optimizer is not given" in read_pipeline(write(tmp_path, changed(old, ""))).notes[0]


def test_warmup_above_the_base_rate(tmp_path):
    schedule = "cosine_decay_learning_rate { learning_rate_base: 0.001 warmup_learning_rate: 0.01 }"
    with pytest.raises(ConfigError, match=r"warmup_learning_rate 0\.01 must not be greater than learning_rate_base"):
        rates(tmp_path, schedule, [0])
