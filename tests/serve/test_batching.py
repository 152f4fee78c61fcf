"""The queue before the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from maskrcnn.serve.batching import Batcher, BusyError


class Slow:
    """Doubles numbers once it may; notes what came together."""

    def __init__(self) -> None:
        self.may, self.started, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.started.set()
        assert self.may.wait(10)
        self.seen.append(list(numbers))
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * number for number in numbers]


def held(slow: Slow, **changes: float) -> Batcher[int, int]:
    """A batcher whose thread is busy with the item 0."""
    batcher: Batcher[int, int] = Batcher(slow, **{"most": 3, "wait": 0, "queued": 4, **changes})  # type: ignore[arg-type]
    batcher.submit([0])
    assert slow.started.wait(10)
    return batcher


def test_what_waits_goes_together_in_order_up_to_the_most() -> None:
    slow = Slow()
    batcher = held(slow)
    futures = batcher.submit([1, 2]) + batcher.submit([3, 4])
    slow.may.set()
    assert [future.result(10) for future in futures] == [2, 4, 6, 8]
    assert slow.seen == [[0], [1, 2, 3], [4]]
    batcher.close()


def test_a_full_queue_takes_all_or_nothing() -> None:
    slow = Slow()
    batcher = held(slow)
    batcher.submit([1, 2, 3])
    with pytest.raises(BusyError, match="try again"):
        batcher.submit([4, 5])
    batcher.submit([4])
    assert batcher.queued == 4
    slow.may.set()
    batcher.close()
    assert slow.seen == [[0], [1, 2, 3], [4]]


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    slow = Slow()
    batcher = held(slow)
    (future,) = batcher.submit([7])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while batcher.alive:
        time.sleep(0.001)
    with pytest.raises(BusyError, match="stopping"):
        batcher.submit([8])
    slow.may.set()
    closing.join(10)
    assert future.result(0) == 14
    batcher.close()  # twice does no harm


def test_one_bad_item_spoils_itself_alone() -> None:
    slow = Slow()
    batcher = held(slow)
    futures = batcher.submit([1, 13, 2])
    slow.may.set()
    assert (futures[0].result(10), futures[2].result(10)) == (2, 4)
    with pytest.raises(ValueError, match="thirteen"):
        futures[1].result(10)
    batcher.close()


def test_what_nobody_waits_for_any_more_is_left_out() -> None:
    slow = Slow()
    batcher = held(slow)
    first, second = batcher.submit([1, 2])
    assert first.cancel()
    slow.may.set()
    assert second.result(10) == 4
    assert slow.seen == [[0], [2]]
    batcher.close()


def test_a_batch_waits_for_more() -> None:
    slow = Slow()
    slow.may.set()
    batcher: Batcher[int, int] = Batcher(slow, most=2, wait=30, queued=9)
    futures = [*batcher.submit([1]), *batcher.submit([2])]  # full, so not all of the 30 seconds
    assert [future.result(10) for future in futures] == [2, 4]
    assert slow.seen == [[1, 2]]
    batcher.close()
