"""Losses on their way from the device to the log: at once on a CPU, one step later on CUDA, so that nobody waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Reading = Callable[[], list[float]]


class Step(NamedTuple):
    """What the log, or the message on a bad loss, has to say about a step.

    Attributes:
        number: optimiser step, counted from 1.
        epoch: passes over the data after it.
        names: of the values: the loss parts, and the gradient norm last.
        paths: the images of this process.
    """

    number: int
    epoch: float
    names: tuple[str, ...]
    paths: tuple[str, ...]


class Readback:
    """A queue of steps whose values are being copied to the host.

    Reading a value from a GPU waits until it has been computed, and with it the next step's launches wait. Here the
    values of a step are read when those of the next are put: by then they have long arrived, and the GPU still has a
    whole step to do. All processes read at the same steps, so that they stop together.

    Args:
        device: where the values come from.
        lag: steps that stay unread; None: 1 on CUDA, else 0.
        start: begins to copy values and returns what waits for them.
    """

    def __init__(
        self, device: torch.device, lag: int | None = None, start: Callable[[Tensor], Reading] | None = None
    ) -> None:
        on_cuda = device.type == "cuda"
        self._lag = int(on_cuda) if lag is None else lag
        self._start = start or (_start_copy if on_cuda else _read_now)
        self._waiting: deque[tuple[Step, Reading]] = deque()

    def put(self, step: Step, values: Tensor) -> list[tuple[Step, list[float]]]:
        """Begin to read `values` (N,), and return the steps, oldest first, that `lag` newer ones have followed."""
        self._waiting.append((step, self._start(values)))
        return self._read(self._lag)

    def drain(self) -> list[tuple[Step, list[float]]]:
        """All that is left, waiting for the device: before anything is logged, evaluated or saved."""
        return self._read(0)

    def _read(self, left: int) -> list[tuple[Step, list[float]]]:
        ready = [self._waiting.popleft() for _ in range(len(self._waiting) - left)]
        return [(step, reading()) for step, reading in ready]


def _read_now(values: Tensor) -> Reading:
    numbers = values.tolist()
    return lambda: numbers


def _start_copy(values: Tensor) -> Reading:
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(values.device))

    def numbers() -> list[float]:
        done.synchronize()
        return host.tolist()

    return numbers
