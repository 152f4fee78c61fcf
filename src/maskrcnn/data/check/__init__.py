"""Every problem of a data set, found before the first step, each with file, image, annotation, value and remedy.

`check_dataset` looks, `repair.repair_dataset` mends what is safe to mend, `check_and_repair` does both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from maskrcnn.data.check.columns import check_columns
from maskrcnn.data.check.files import Looked, check_files
from maskrcnn.data.check.outlines import check_outlines
from maskrcnn.data.check.problem import UNUSABLE, Places, Problem
from maskrcnn.data.check.twice import check_copies, check_twins
from maskrcnn.dataset import Dataset

__all__ = ["MANY", "UNUSABLE", "Problem", "Progress", "check_dataset", "drop_broken"]

MANY = 100  # objects in one image: COCO's AP counts no more
BATCH = 8  # images a thread takes at a time

Progress = Callable[[int, int], None]
"""Told (images done, images in all)."""


def check_dataset(
    dataset: Dataset,
    decode: bool = True,
    *,
    detections_per_image: int = MANY,
    progress: bool | Progress = False,
    workers: int | None = None,
) -> list[Problem]:
    """All problems of a data set, errors first.

    Args:
        dataset: what `open_dataset` gave.
        decode: also read every image and mask, which takes a while; without, no file is opened.
        detections_per_image: more objects in one image are worth a warning.
        progress: True: a bar on stderr, if that is a terminal; or a function that is told.
        workers: threads that read; None: one a core.
    """
    places = Places(dataset.table)
    problems = [Problem("noted by the reader", warning, severity="warning") for warning in dataset.warnings]
    problems += check_columns(dataset, places, detections_per_image)
    problems += check_outlines(dataset.table, places)
    problems += check_twins(dataset, places, decode)
    if decode:
        digests: dict[int, bytes] = {}
        with _told(progress) as tell:
            for row, looked in enumerate(_look(dataset, workers or _cores())):
                problems += looked.problems
                if looked.digest is not None:
                    digests[row] = looked.digest
                tell(row + 1, len(dataset))
        problems += check_copies(digests, dataset.table.splits, places)
    return sorted(problems, key=lambda problem: problem.severity)


def drop_broken(dataset: Dataset, problems: Sequence[Problem]) -> Dataset:
    """The data set without the images that cannot be used."""
    broken = {problem.row for problem in problems if problem.kind in UNUSABLE}
    return dataset.take(np.array([row for row in range(len(dataset)) if row not in broken], np.int64))


def _look(dataset: Dataset, workers: int) -> Iterator[Looked]:
    """Each image, in order. Threads: decoding and hashing, most of the work, let each other run."""

    def some(start: int) -> list[Looked]:
        return [check_files(dataset[row], row) for row in range(start, min(start + BATCH, len(dataset)))]

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(some, start) for start in range(0, len(dataset), BATCH)]
        try:
            for future in waiting:
                yield from future.result()
        finally:
            for future in waiting:  # Ctrl-C does not wait for the rest
                future.cancel()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _told(progress: bool | Progress) -> Iterator[Progress]:
    """What to tell: the given function, a bar, or nobody."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield lambda done, total: None
