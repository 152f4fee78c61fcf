"""Validation in a run: predict now, score in the background, keep the best weights when the score is there."""

from __future__ import annotations

import time

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.evaluate import find
from maskrcnn.evaluation.metrics import shown
from maskrcnn.evaluation.precision import NOT_DEFINED
from maskrcnn.training.checkpoint import note_score, save_best
from maskrcnn.training.scoring import Evaluated, Scored, no_pictures, weights_on_cpu
from maskrcnn.training.session import Session


def start_evaluation(s: Session, val: Dataset) -> None:
    """Predict the validation data, with the averaged weights where there are; scoring goes on in the background."""
    take_score(s)
    state, model = s.state, s.ema.model if s.ema else s.model
    began = time.monotonic()
    with s.report.paused():
        shown = s.report.bar is not None
        findings = find(model, val, accelerator=s.accelerator, precision=s.config.train.precision, progress=shown)
        weights = weights_on_cpu(model) if s.accelerator.is_main_process else {}
    state.pending = state.step
    pictures = s.config.train.log_images if s.report.takes_pictures else 0
    s.scoring.start(findings, val, Evaluated(state.step, state.epoch, weights, time.monotonic() - began, pictures))


def take_score(s: Session) -> None:
    """Note the AP of the last evaluation, waiting for it; the weights are saved when they are the best."""
    with s.report.paused():  # where scoring takes longer than the steps between two evaluations
        scored = s.scoring.take()
    if scored is None:
        return
    evaluated, metrics, state = scored.evaluated, scored.metrics, s.state
    if s.clock:
        s.clock.evaluation_seconds = evaluated.seconds + metrics.speed["score"]
    watched = metrics.box if s.config.train.monitor == "box" else metrics.mask or metrics.box
    ap = watched["ap"]
    state.metrics, state.pending = metrics.to_dict(), 0
    # Where the validation holds no objects, AP is -1 each time: then the latest weights are kept, not the first ones.
    if is_best := state.best is None or ap > state.best or ap == state.best == NOT_DEFINED:
        state.best, state.best_step, state.stale = ap, evaluated.step, 0
    else:
        state.stale += 1
    if s.accelerator.is_main_process:
        if is_best:
            save_best(
                s.out,
                model=s.model,
                tensors=evaluated.weights,
                step=evaluated.step,
                epoch=evaluated.epoch,
                state=state,
                config=s.config,
            )
        note_score(s.out, state, evaluated.step)
    kinds = {"box": metrics.box, "mask": metrics.mask, "keypoint": metrics.keypoint}
    scores = {f"{kind}/ap": numbers["ap"] for kind, numbers in kinds.items() if numbers}
    late = evaluated.step < state.step
    s.report.write(evaluated.step, scores, late=late)
    text = ", ".join(f"{name.replace('/ap', ' AP')} {shown(value)}" for name, value in scores.items())
    note = "best so far" if is_best else f"best {shown(state.best)} at step {state.best_step}"
    s.report.say(f"step {evaluated.step}: {text} ({note})")
    if scored.note:
        s.report.say(scored.note)
    s.report.pictures(evaluated.step, scored.pictures, late=late)
    if scored.pictures and _was_last(s, evaluated):
        _send_figures(s, scored)


def _was_last(s: Session, evaluated: Evaluated) -> bool:
    """Whether the run ends with these weights."""
    return evaluated.step == s.total or 0 < s.config.train.early_stop <= s.state.stale


def _send_figures(s: Session, scored: Scored) -> None:
    from maskrcnn.training.figures import final_figures

    assert s.val is not None
    try:
        s.report.pictures(scored.evaluated.step, final_figures(scored.findings, s.val))
    except ImportError as error:
        s.report.say(no_pictures(error))
