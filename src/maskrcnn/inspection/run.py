"""The curves of training runs from their own files, and what is odd about them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.errors import TrainingError
from maskrcnn.weights.folder import current_folder

METRICS = "metrics.jsonl"
KINDS = ("mask", "box", "keypoint")
WAITING = 0.1  # share of the time without data from which more loader processes pay
FALLEN = 0.02  # AP lost since the best evaluation that counts
SPIKE = 20.0  # a gradient so many times the median
ENOUGH = 8  # logged steps before a trend is judged
MOST, MOST_STEPS = 1e300, 1 << 53  # a larger number is none


@dataclass(frozen=True, eq=False)
class Curve:
    """One number over the steps of a run.

    Attributes:
        steps: (N,) int64, ascending.
        values: (N,) float64; NaN where the number was not finite.
    """

    steps: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, eq=False)
class Run:
    """A training run.

    Attributes:
        name: of its folder.
        path: the folder.
        curves: by the names in `metrics.jsonl`: loss/total, learning_rate, images_per_second, mask/ap ...
        epochs: (N,) epoch of each step of `loss/total`; NaN where none is written.
        watched: the AP that chooses the best checkpoint, "mask/ap" or "box/ap", or "" without validation.
        best_step: of the best evaluation, or None.
        best: its AP, or None.
        finished: whether the run came to its end; None where no checkpoint says so.
        seconds: spent so far, None where no checkpoint says so.
        settings: a few fields of the config, by name.
        notes: what is odd and what to do, one sentence each.
    """

    name: str
    path: Path
    curves: dict[str, Curve]
    epochs: np.ndarray
    watched: str
    best_step: int | None
    best: float | None
    finished: bool | None
    seconds: float | None
    settings: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """The last step that was logged."""
        return max((int(curve.steps[-1]) for curve in self.curves.values() if len(curve)), default=0)


def inspect_run(folder: str | Path) -> Run:
    """Read a run folder that `maskrcnn train` wrote; it may still be running.

    Raises:
        TrainingError: no such folder, no `metrics.jsonl` in it, or nothing in that file yet.
    """
    folder = Path(folder)
    rows = _rows(folder)
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("step", "epoch")]
    curves = {name: _curve(rows, name) for name in names}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    state, config = _checkpoint(folder)
    monitor = config.get("train", {}).get("monitor", "auto")
    kinds = ["box", *KINDS] if monitor == "box" else KINDS
    watched = next((f"{kind}/ap" for kind in kinds if f"{kind}/ap" in curves), "")
    best_step, best = _best(curves.get(watched))
    epoch_of = {row["step"]: _number(row.get("epoch"), "epoch") for row in rows if "loss/total" in row}
    logged = curves["loss/total"].steps.tolist() if "loss/total" in curves else []
    epochs = np.array([epoch_of[step] for step in logged], np.float64)
    return Run(
        name=folder.resolve().name,
        path=folder,
        curves=curves,
        epochs=epochs,
        watched=watched,
        best_step=best_step,
        best=best,
        finished=state.get("finished"),
        seconds=state.get("seconds"),
        settings=_settings(config),
        notes=tuple(_notes(curves, watched, state)),
    )


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS
    if not folder.is_dir():
        raise TrainingError(f"{folder}: no such folder; give the --out of a maskrcnn train")
    if not path.is_file():
        raise TrainingError(f"{folder}: no {METRICS} in it; give the --out of a maskrcnn train, not a checkpoint")
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that was killed may be cut
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int) and 0 <= step < MOST_STEPS:
            rows.append(row)
    if not rows:
        raise TrainingError(f"{path}: nothing is logged yet; wait for train.log_every steps")
    return sorted(rows, key=lambda row: row["step"])


def _curve(rows: list[dict[str, Any]], name: str) -> Curve:
    """Where a step was written twice, the later line counts."""
    found = {row["step"]: _number(row[name], name) for row in rows if name in row}
    kept = {step: value for step, value in found.items() if value is not None}
    return Curve(np.array([*kept], np.int64), np.array([*kept.values()], np.float64))


def _number(value: object, name: str) -> float | None:
    """NaN for null, which stands for a number that was not finite, and for an AP of -1: no objects. None: no number."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    defined = abs(value) < MOST and not (name.endswith("/ap") and value < 0)
    return float(value) if defined else math.nan


def _checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and config of the last checkpoint; empty where there is none or it cannot be read."""
    last = current_folder(folder / "checkpoints" / "last")
    return _json(last / "state.json"), _json(last / "model.json").get("config") or {}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _best(curve: Curve | None) -> tuple[int | None, float | None]:
    if curve is None or np.isnan(curve.values).all():
        return None, None
    place = int(np.nanargmax(curve.values))
    return int(curve.steps[place]), float(curve.values[place])


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    wanted = (
        "model.backbone.name",
        "data.min_size",
        "data.max_size",
        "train.batch_size",
        "train.optimizer",
        "train.learning_rate",
        "train.schedule",
        "train.ema_decay",
    )
    found: dict[str, Any] = {}
    for name in wanted:
        value: Any = config
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


# ---------------------------------------------------------------- what is odd


def _notes(curves: dict[str, Curve], watched: str, state: dict[str, Any]) -> Iterator[str]:
    yield from _bad_numbers(curves)
    loss = curves.get("loss/total")
    if loss is not None and len(loss) >= ENOUGH:
        quarter = len(loss) // 4
        first, last = _mean(loss.values[:quarter]), _mean(loss.values[-quarter:])
        if last > 0.98 * first:
            yield (
                f"the loss does not fall: {first:.3g} at the start, {last:.3g} at the end; look at the samples with "
                "maskrcnn inspect data, and try another train.learning_rate"
            )
    if watched:
        yield from _about_ap(curves[watched], loss, watched)
    else:
        yield "there was no validation: nothing says how well the model does on images it has not seen; give --val"
    yield from _about_speed(curves)
    if state.get("finished") is False:
        yield f"the run is not finished (step {state.get('step')}): it is still going on, or `--resume` goes on with it"


def _bad_numbers(curves: dict[str, Curve]) -> Iterator[str]:
    steps = sorted({int(step) for name, curve in curves.items() if name.startswith("loss/")
                    for step in curve.steps[np.isnan(curve.values)]})  # fmt: skip
    if steps:
        shown = ", ".join(map(str, steps[:5])) + (" ..." if len(steps) > 5 else "")
        yield (
            f"the loss was not finite at step {shown}: lower train.learning_rate or train.clip_norm, and check the "
            "images with maskrcnn inspect data"
        )
    norm = curves.get("gradient_norm")
    if norm is not None and len(norm) >= ENOUGH:
        middle, peak = _median(norm.values), int(np.nanargmax(np.nan_to_num(norm.values, nan=-1.0)))
        if norm.values[peak] > SPIKE * middle > 0 and peak > 0:
            yield (
                f"the gradient was {norm.values[peak] / middle:.0f} times its median at step {norm.steps[peak]}: one "
                "bad image or too high a rate; train.clip_norm bounds it"
            )


def _about_ap(ap: Curve, loss: Curve | None, watched: str) -> Iterator[str]:
    name = watched.replace("/ap", " AP")
    step, best = _best(ap)
    if step is None or best is None:
        yield f"{name} is not defined: the validation images hold no objects to find; give another --val"
        return
    if len(ap) < 2:
        return
    if best == 0:
        yield (
            f"{name} is 0 at every evaluation: the classes or the boxes of the validation do not fit those in training"
        )
    after = ap.values[ap.steps > step]
    if best - float(ap.values[-1]) > FALLEN:
        fell = f"{name} fell from {best:.3f} at step {step} to {ap.values[-1]:.3f}"
        if len(after) < 2:
            yield (
                f"{fell} at the last evaluation: on few validation images that may be chance; the best "
                "checkpoint is kept"
            )
        elif np.nanmax(after) < best - FALLEN and _fell_after(loss, step):
            yield (
                f"{fell} while the loss went on falling: the model learns the training images by heart (overfitting); "
                "the best checkpoint is kept; use more data or augmentation, or fewer epochs (train.early_stop)"
            )
        else:
            yield f"{fell}; the best checkpoint is kept; a smaller train.learning_rate makes the end calmer"
    elif len(ap) >= 3 and step == ap.steps[-1] and best - ap.values[-2] > 0.01:
        yield f"{name} was still rising at the end ({ap.values[-2]:.3f}, {best:.3f}): longer training may give more"


def _fell_after(loss: Curve | None, step: int) -> bool:
    """Whether the mean loss after a step is below that of the same number of steps before."""
    if loss is None:
        return False
    after = loss.values[loss.steps > step]
    before = loss.values[loss.steps <= step][-len(after) :] if len(after) else after
    return _mean(after) < _mean(before)


def _about_speed(curves: dict[str, Curve]) -> Iterator[str]:
    waiting = curves.get("data_wait")
    if waiting is not None and (share := _mean(waiting.values)) > WAITING:
        yield f"the model waited {share:.0%} of the time for data: set data.workers higher, or make the images smaller"
    speed = curves.get("images_per_second")
    if speed is not None and len(speed) >= ENOUGH:
        half = len(speed) // 2
        first, second = _median(speed.values[:half]), _median(speed.values[half:])
        if second < 0.7 * first:
            yield (
                f"the speed fell from {first:.3g} to {second:.3g} images/s: something else used the machine, or it "
                "became too hot or short of memory"
            )


def _mean(values: np.ndarray) -> float:
    """Of those that are finite; NaN where none is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan
