"""`train.minutes`: how many steps fit in the time that is left. Two runs differ, so resuming is not bit for bit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

FIRST_FIT = 20  # steps to measure before the first estimate; the first ones are slow (caches, compilation)
REFIT = 10  # steps between estimates
MARGIN = 1.1  # the final evaluation is expected to take this much longer than the last one
MOST_RESERVED = 0.3  # part of the limit that an evaluation not measured yet may reserve


class Clock:
    """Fits the length of a run to a wall-clock limit.

    Args:
        minutes: the limit.
        start: when the time began to count, on the clock `now`.
        evaluation_images: images of the final evaluation; its time is guessed from the training speed until measured.
        batch_size: images a step in this process.
        now: seconds; a test passes its own.
    """

    def __init__(
        self,
        minutes: float,
        *,
        start: float,
        evaluation_images: int,
        batch_size: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now, self.start, self.limit = now, start, minutes * 60
        self.evaluation_images, self.batch_size = evaluation_images, batch_size
        self.evaluation_seconds: float | None = None
        self.steps: deque[float] = deque(maxlen=50)
        self.saving_seconds = 0.0

    def stepped(self, seconds: float) -> None:
        """Note the duration of one optimiser step, loading included."""
        self.steps.append(seconds)

    @property
    def reserved(self) -> float:
        """Seconds to keep for the final evaluation and the last checkpoint."""
        if self.evaluation_seconds is not None:
            return MARGIN * self.evaluation_seconds + 2 * self.saving_seconds
        guess = self.evaluation_images * median(self.steps) / self.batch_size if self.steps else 0.0
        return min(guess, MOST_RESERVED * self.limit) + 2 * self.saving_seconds

    @property
    def left(self) -> float:
        """Seconds left for training steps."""
        return self.limit - (self.now() - self.start) - self.reserved

    def due(self, step: int, total: int | None) -> bool:
        """Whether to estimate again after `step` steps; more often near the end."""
        if len(self.steps) < FIRST_FIT:
            return self.left <= 0
        return total is None or step % REFIT == 0 or step + REFIT >= total

    def fit(self, step: int) -> int:
        """Total steps of the run: those done and those that fit in the time left."""
        return step + max(0, int(self.left / median(self.steps))) if self.steps else step

    def has_time_for_evaluation(self) -> bool:
        """Whether an evaluation before the end leaves at least as much time to train on."""
        return self.left > 2 * (self.evaluation_seconds or self.reserved)
