"""Optimiser and learning rate: `train_config.optimizer` <-> fields of `TrainConfig`. Everything there counts in steps.

From the API's `utils/learning_schedules.py` and `builders/optimizer_builder.py`; `training.optim` has the formulas.
"""

from __future__ import annotations

from typing import Any

from maskrcnn.config import TrainConfig
from maskrcnn.pipeline.schema import BELOW_1, NOT_NEGATIVE, POSITIVE, Range, View
from maskrcnn.pipeline.values import number, value
from maskrcnn.text_proto import Entry, Message

OPTIMIZERS = {"momentum_optimizer": "sgd", "adam_optimizer": "adam", "rms_prop_optimizer": "rmsprop"}
"""The optimiser's name there and here."""
FACTOR = Range(lambda value: 0 < value <= 1, "lie in (0, 1]")
PLAIN: dict[str, Any] = {
    "train.rates": (),
    "train.decay_steps": None,
    "train.hold_steps": 0,
    "train.end_rate": 0.0,
    "train.warmup_steps": 0,
    "train.warmup_factor": TrainConfig.warmup_factor,
}
"""Of schedules that do not use them."""


def read_optimizer(train: View, notes: list[str]) -> dict[str, Any]:
    """Dotted fields of the schedule. Raises `ConfigError` for a schedule that goes backwards."""
    view = train.part("optimizer")
    name = next((name for name in OPTIMIZERS if view.has(name)), None)
    if name is None:
        notes.append("train_config.optimizer is not given: optimiser and learning rate are those of the COCO configs")
        return {}
    optimizer = view.part(name)
    average = view.get("use_moving_average")
    if average:
        view.within("moving_average_decay", BELOW_1)
    for field, wanted in (("momentum_optimizer_value", BELOW_1), ("decay", BELOW_1), ("epsilon", NOT_NEGATIVE)):
        if field in optimizer.fields:
            optimizer.within(field, wanted)
    if average:
        notes.append(_averages(view))
    changes: dict[str, Any] = {
        "train.optimizer": OPTIMIZERS[name],
        "train.ema_decay": view.get("moving_average_decay") if average else 0.0,
    }
    if name != "adam_optimizer":
        changes["train.momentum"] = optimizer.get("momentum_optimizer_value")
    if name == "rms_prop_optimizer":
        changes |= {"train.rms_decay": optimizer.get("decay"), "train.optimizer_eps": optimizer.get("epsilon")}
    if name == "adam_optimizer":
        changes["train.optimizer_eps"] = optimizer.get("epsilon")
    return changes | PLAIN | _rates(optimizer.part("learning_rate"), notes)


def _averages(view: View) -> str:
    given = "" if view.has("use_moving_average") else " (true where it is not given)"
    return (
        f"line {view.line('use_moving_average')}: use_moving_average{given}: the averaged weights are measured and "
        f"saved here, their decay rises to {view.get('moving_average_decay'):g} as (1 + t) / (10 + t); there it is "
        "fixed, and the plain weights are measured unless eval_config.use_moving_averages"
    )


def _rates(view: View, notes: list[str]) -> dict[str, Any]:
    if view.has("constant_learning_rate"):
        rate = view.part("constant_learning_rate").within("learning_rate", POSITIVE)
        return {"train.schedule": "constant", "train.learning_rate": rate}
    if view.has("manual_step_learning_rate"):
        return _manual(view.part("manual_step_learning_rate"))
    if view.has("exponential_decay_learning_rate"):
        return _exponential(view.part("exponential_decay_learning_rate"), notes)
    if view.has("cosine_decay_learning_rate"):
        return _cosine(view.part("cosine_decay_learning_rate"))
    raise view.error(
        "", "says no schedule; give one of constant_, manual_step_, exponential_decay_ or cosine_decay_..."
    )


def _manual(view: View) -> dict[str, Any]:
    given = view.parts("schedule")
    starts_lower = view.get("warmup") and given
    rates, before = {0: view.within("initial_learning_rate", NOT_NEGATIVE if starts_lower else POSITIVE)}, -1
    for entry in given:  # the first may be at step 0 (published configs): it replaces the initial rate
        if (step := entry.get("step")) <= before:
            raise entry.error("step", f"{step} must be greater than the one before, {before}")
        rates[step], before = entry.within("learning_rate", NOT_NEGATIVE), step
    changes = {"train.schedule": "manual", "train.learning_rate": rates[0]}
    if view.get("warmup") and len(rates) > 1:
        first, full = list(rates.items())[1]
        if full <= 0:
            raise view.error("warmup", "needs a positive learning rate at its end")
        changes |= {"train.warmup_steps": first, "train.warmup_factor": rates[0] / full, "train.learning_rate": full}
        rates = {0: full} | {step: rate for step, rate in rates.items() if step > first}
    return changes | {"train.rates": tuple(rates.items())}


def _exponential(view: View, notes: list[str]) -> dict[str, Any]:
    initial = view.within("initial_learning_rate", POSITIVE)
    burnin, steps = (view.within(field, NOT_NEGATIVE) for field in ("burnin_learning_rate", "burnin_steps"))
    changes: dict[str, Any] = {
        "train.schedule": "exponential",
        "train.learning_rate": initial,
        "train.decay_steps": view.within("decay_steps", POSITIVE),
        "train.decay_factor": view.within("decay_factor", FACTOR),
        "train.decay_staircase": view.get("staircase"),
        "train.end_rate": view.within("min_learning_rate", NOT_NEGATIVE),
    }
    if steps and burnin in (0, initial):
        changes["train.hold_steps"] = steps
    elif steps:
        changes |= {"train.warmup_steps": steps, "train.warmup_factor": burnin / initial}
        notes.append(
            f"line {view.line('burnin_steps')}: the rate rises in {steps} steps from burnin_learning_rate, {burnin:g}, "
            f"to {initial:g} instead of jumping at the end"
        )
    return changes


def _cosine(view: View) -> dict[str, Any]:
    base, total = (view.within(field, POSITIVE) for field in ("learning_rate_base", "total_steps"))
    fields = ("warmup_learning_rate", "warmup_steps", "hold_base_rate_steps")
    warmup, steps, hold = (view.within(field, NOT_NEGATIVE) for field in fields)
    if total < steps + hold:
        raise view.error(
            "total_steps", f"{total} must not be less than warmup_steps + hold_base_rate_steps, {steps + hold}"
        )
    if steps and base < warmup:
        raise view.error("warmup_learning_rate", f"{warmup} must not be greater than learning_rate_base, {base}")
    return {
        "train.schedule": "cosine",
        "train.learning_rate": base,
        "train.decay_steps": total,
        "train.hold_steps": hold,
        "train.warmup_steps": steps,
    } | ({"train.warmup_factor": warmup / base} if steps else {})


# ---------------------------------------------------------------- writing


def write_optimizer(train: TrainConfig, message: Message) -> None:
    """Put optimiser and schedule into a `train_config`."""
    optimizer = message.part("optimizer")
    optimizer.entries = [entry for entry in optimizer.entries if entry.name not in OPTIMIZERS]
    name = next((there for there, here in OPTIMIZERS.items() if here == train.optimizer), "momentum_optimizer")
    body = optimizer.part(name)
    write_rates(train, body.part("learning_rate"))
    if name != "adam_optimizer":
        body.put("momentum_optimizer_value", value(train.momentum))
    if name == "rms_prop_optimizer":
        body.put("decay", value(train.rms_decay))
    if name != "momentum_optimizer" and train.optimizer_eps is not None:
        body.put("epsilon", value(train.optimizer_eps))
    optimizer.put("use_moving_average", value(bool(train.ema_decay)))
    if train.ema_decay:
        optimizer.put("moving_average_decay", value(train.ema_decay))


def write_rates(train: TrainConfig, message: Message) -> None:
    """The schedule, as far as it can be said; what cannot is found when the file is read back."""
    warmup = number(
        train.learning_rate * train.warmup_factor, lambda rate: rate / train.learning_rate, train.warmup_factor
    )
    if train.schedule == "constant":
        message.part("constant_learning_rate").put("learning_rate", value(train.learning_rate))
    elif train.schedule == "manual":
        body, rates = message.part("manual_step_learning_rate"), list(train.rates)
        if train.warmup_steps:
            rates = [(0, warmup), (train.warmup_steps, rates[0][1]), *rates[1:]]
            body.put("warmup", value(True))
        body.put("initial_learning_rate", value(rates[0][1]))
        for step, rate in rates[1:]:
            entry = Message()
            entry.put("step", value(step))
            entry.put("learning_rate", value(rate))
            body.entries.append(Entry("schedule", entry))
    elif train.schedule == "exponential":
        body = message.part("exponential_decay_learning_rate")
        body.put("initial_learning_rate", value(train.learning_rate))
        body.put("decay_steps", value(train.decay_steps or train.steps or 1))
        body.put("decay_factor", value(train.decay_factor))
        body.put("staircase", value(train.decay_staircase))
        body.put("min_learning_rate", value(train.end_rate))
        if train.hold_steps or train.warmup_steps:
            body.put("burnin_steps", value(train.hold_steps or train.warmup_steps))
        if train.warmup_steps:
            body.put("burnin_learning_rate", value(warmup))
    elif train.schedule == "cosine":
        body = message.part("cosine_decay_learning_rate")
        body.put("learning_rate_base", value(train.learning_rate))
        body.put("total_steps", value(train.decay_steps or train.steps or 1))
        body.put("warmup_learning_rate", value(warmup))
        body.put("warmup_steps", value(train.warmup_steps))
        if train.hold_steps:
            body.put("hold_base_rate_steps", value(train.hold_steps))
