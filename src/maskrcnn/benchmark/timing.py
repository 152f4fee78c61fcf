"""Seconds, bytes and the machine: what the parts of the benchmark measure with."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import maskrcnn

Job = Callable[[], Any]

LEAST, MOST = 3, 30  # runs, where their number is left to the budget
WARM_UP = {"cuda": 3}  # a size is captured as a CUDA graph the second time
PACKAGES = ("torch", "torchvision", "numpy", "onnxruntime", "openvino", "triton")


@dataclass(frozen=True)
class Times:
    """Seconds of each run."""

    seconds: tuple[float, ...]

    @property
    def columns(self) -> dict[str, float | int]:
        """The fields of a `Row` that every measurement has."""
        values = 1e3 * np.array(self.seconds)
        return {
            "median_ms": float(np.median(values)),
            "p90_ms": float(np.percentile(values, 90)),
            "spread_ms": float(values.max() - values.min()),
            "repeat": len(values),
        }

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))


def measure(
    jobs: Mapping[str, Job], device: torch.device, *, repeat: int | None = None, budget: float = 8.0
) -> dict[str, Times]:
    """Run the jobs in turns: what else the machine does meets all alike. One run of each warms up (three on CUDA).

    Args:
        jobs: name -> what to time.
        device: waited for before and after each run.
        repeat: rounds; None: as many as fit into `budget` seconds, 3 to 30.
        budget: seconds for all jobs together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        for _ in range(WARM_UP.get(device.type, 1)):
            job()
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()  # a collection would land in one of the runs
    began, rounds = time.perf_counter(), 0
    try:
        while rounds < (repeat or MOST):
            for name, job in jobs.items():
                seconds[name].append(timed(job, device))
            rounds += 1
            if repeat is None and rounds >= LEAST and time.perf_counter() - began > budget:
                break
    finally:
        if enabled:
            gc.enable()
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def timed(job: Job, device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device, so that work still queued counts."""
    synchronize(device)
    start = time.perf_counter()
    result = job()
    synchronize(device)
    seconds = time.perf_counter() - start
    del result  # freeing memory is not part of the call
    return seconds


def synchronize(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(job: Job, device: torch.device) -> float | None:
    """MiB at the worst moment of one call: on CUDA what is allocated on the device, else what the whole process holds,
    libraries and weights included. None where the system does not tell (it does on Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        job()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
        job()
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))


class Ledger:
    """Books what a clock counts on named spans of one call; a span inside another is not counted twice.

    The clock may count seconds, or the FLOP done so far.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.booked: dict[str, float] = {}
        self._clock, self._open, self._last = clock, list[str](), 0.0

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Book what passes inside on `name`."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def _book(self) -> None:
        now = self._clock()
        if self._open:
            self.booked[self._open[-1]] = self.booked.get(self._open[-1], 0.0) + now - self._last
        self._last = now


def seconds_clock(device: torch.device) -> Callable[[], float]:
    """A clock for `Ledger` that waits for the device."""

    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    return now


@contextmanager
def watched(ledger: Ledger, *calls: tuple[Any, str, str]) -> Iterator[None]:
    """Book every call of `owner.name` on a span, for each (owner, name, span); owners are objects and modules."""

    def booking(function: Callable[..., Any], span: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            with ledger.span(span):
                return function(*arguments, **keywords)

        return call

    kept = [(owner, name, vars(owner).get(name)) for owner, name, _ in calls]
    for owner, name, span in calls:
        setattr(owner, name, booking(getattr(owner, name), span))
    try:
        yield
    finally:
        for owner, name, value in kept:
            delattr(owner, name) if value is None else setattr(owner, name, value)


# ---------------------------------------------------------------- the machine


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers are measured on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {"maskrcnn": maskrcnn.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """From /proc/cpuinfo where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return None
