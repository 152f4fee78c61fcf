"""What a run shows and writes: a bar or plain lines, `metrics.jsonl`, and trackers. Only the main process speaks."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from maskrcnn.errors import TrainingError
from maskrcnn.training.figures import TAKE_PICTURES, send_pictures

WAIT_WORTH_SAYING = 0.1
"""Part of the time without data from which on more loader processes would pay."""


class Report:
    """Progress of one run.

    Args:
        accelerator: knows the main process and the trackers.
        out: run folder; `metrics.jsonl` is continued after step `step` when resuming.
        show: False writes files only.
        step: steps already done.
    """

    def __init__(self, accelerator: accelerate.Accelerator, out: Path, *, show: bool, step: int = 0) -> None:
        self.accelerator, self.main = accelerator, accelerator.is_main_process
        # A notebook says FORCE_COLOR but shows no bar without widgets: it gets lines, as a file does.
        self.console = Console(
            quiet=not (show and self.main),
            highlight=False,
            soft_wrap=True,
            force_terminal=sys.stdout.isatty(),
            force_jupyter=False,
        )
        self.path = out / "metrics.jsonl"
        self.bar: Progress | None = None
        if self.main and self.console.is_terminal and show:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]:.1f}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self.task = self.bar.add_task("", total=None, completed=step, epoch=0.0, text="")
        if self.main:
            _forget_after(self.path, step)
        self.losses: dict[str, float] = {}
        self.norm = 0.0
        self.count, self.images, self.since, self.waited = 0, 0, time.monotonic(), 0.0

    def say(self, text: str) -> None:
        """Print lines above the bar."""
        self.console.print(text, markup=False)

    def start(self) -> None:
        """Show the bar; the speed counts from here."""
        if self.bar:
            self.bar.start()
        self.since = time.monotonic()

    def step(
        self, step: int, total: int | None, epoch: float, losses: Mapping[str, float], norm: float, images: int
    ) -> None:
        """Note one optimiser step: losses are sums over the global batch, norm its gradient's, images its size."""
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value
        self.norm, self.count, self.images = norm, self.count + 1, self.images + images
        if self.bar:
            self.bar.update(self.task, completed=step, total=total, epoch=epoch)

    def log(self, step: int, total: int | None, epoch: float, rate: float, waited: float = 0.0) -> None:
        """Write the mean losses since the last log. `waited`: seconds in all that the model had to wait for data."""
        seconds = time.monotonic() - self.since
        idle = min((waited - self.waited) / max(seconds, 1e-9), 1.0)
        losses = {name: value / max(self.count, 1) for name, value in self.losses.items()}
        speed = self.images / max(seconds, 1e-9)
        left = None if total is None else (total - step) * seconds / max(self.count, 1)
        values = {f"loss/{name}": value for name, value in losses.items()}
        values |= {"loss/total": sum(losses.values()), "learning_rate": rate, "gradient_norm": self.norm}
        self.write(step, {"epoch": epoch, **values, "images_per_second": speed, "data_wait": idle})
        parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        text = f"loss {sum(losses.values()):.3f} ({parts}) lr {rate:.2g} {speed:.1f} images/s"
        if idle > WAIT_WORTH_SAYING:
            text += f", {idle:.0%} of the time waiting for data (data.workers)"
        if self.bar:
            self.bar.update(self.task, text=text)
        else:
            goal, rest = (f"/{total}", f" {_clock(left)} left") if left is not None else ("", "")
            self.say(f"step {step}{goal} epoch {epoch:.2f} {text}{rest}")
        self.losses, self.count, self.images, self.since, self.waited = {}, 0, 0, time.monotonic(), waited

    def write(self, step: int, values: Mapping[str, Any], *, late: bool = False) -> None:
        """One line of `metrics.jsonl`, and the numbers to the trackers. Raises `TrainingError` on a full disk.

        `late`: later steps have been written before; Weights & Biases drops such numbers, so it gets them now, with
        `evaluated_step`.
        """
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        with _disk(self.path):
            if self.main:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": step, **_finite(values)}) + "\n")
            for tracker in self.accelerator.trackers if self.main else ():
                if late and tracker.name == "wandb":
                    tracker.log({**numbers, "evaluated_step": step}, step=None)
                else:
                    tracker.log(numbers, step=step)

    @property
    def takes_pictures(self) -> bool:
        """Whether there is a tracker that shows pictures; on the main process alone."""
        return self.main and any(tracker.name in TAKE_PICTURES for tracker in self.accelerator.trackers)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray], *, late: bool = False) -> None:
        """Pictures (h, w, 3) uint8 by name to the trackers; errors and `late` as in `write`."""
        if pictures and self.takes_pictures:
            with _disk(self.path):
                send_pictures(self.accelerator.trackers, pictures, step, late=late)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the bar and the speed measurement during an evaluation or a save."""
        began = time.monotonic()
        if self.bar:
            self.bar.stop()
        try:
            yield
        finally:
            if self.bar:
                self.bar.start()
            self.since += time.monotonic() - began

    def close(self) -> None:
        """Take the bar down and close the trackers."""
        if self.bar:
            self.bar.stop()
        for tracker in self.accelerator.trackers:  # end_training() would also end the caller's process group
            tracker.finish()


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot write: {error.strerror or error}; earlier checkpoints are intact; "
            "free some space and go on with --resume"
        ) from error


def _forget_after(path: Path, step: int) -> None:
    """Drop lines that a killed run wrote after its last checkpoint: a resumed run writes them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # the last line may be cut
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    path.write_text("".join(kept), encoding="utf-8")


def _finite(value: Any) -> Any:
    """NaN is not JSON."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
