"""Work on the next items in threads while the consumer is busy with this one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value")


def prepare_ahead(
    prepare: Callable[[Any], Value], items: Iterable[Any], *, workers: int, ahead: int
) -> Generator[Future[Value], None, None]:
    """Run `prepare` on the items in threads, at most `ahead` of the consumer, in order.

    Threads, not processes: decoding and resizing let go of the interpreter, and tensors need no copy.
    """
    items = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(prepare, item) for item in itertools.islice(items, ahead))
        while waiting:
            future = waiting.popleft()
            waiting.extend(pool.submit(prepare, item) for item in itertools.islice(items, 1))
            yield future
    finally:
        # Not waiting for the threads: if the consumer gave up and the garbage collector closes this generator while
        # another thread starts, joining here would deadlock.
        pool.shutdown(wait=False, cancel_futures=True)
