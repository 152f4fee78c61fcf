"""One thread owns the model. What several requests ask for at about the same time goes through it together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class BusyError(Exception):
    """The queue is full, or the server stops. `retry`: after how many seconds it may be otherwise."""

    def __init__(self, sentence: str, retry: int = 1) -> None:
        super().__init__(sentence)
        self.retry = retry


class Batcher(Generic[Asked, Answered]):
    """A bounded queue before `predict`.

    A batch starts when `most` items are there or the first has waited `wait` seconds: an idle server answers after at
    most that, a busy one fills its batches while the one before runs.
    """

    def __init__(
        self, predict: Callable[[Sequence[Asked]], Sequence[Answered]], *, most: int, wait: float, queued: int
    ) -> None:
        """Args:
        predict: items to answers, in order; called by one thread only.
        most: items in a batch.
        wait: seconds.
        queued: items that may wait.
        """
        self._predict, self._most, self._wait = predict, most, wait
        self._limit, self._closed = queued, False
        self._lock = threading.Lock()
        self._waiting: queue.Queue[tuple[Asked, Future[Answered]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="maskrcnn-model", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """Items that wait."""
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        """Whether it takes more."""
        return self._thread.is_alive() and not self._closed

    def submit(self, items: Sequence[Asked]) -> list[Future[Answered]]:
        """All of these, or none. Raises `BusyError`."""
        with self._lock:
            if not self.alive:
                raise BusyError("the server is stopping; ask another one")
            if self._waiting.qsize() + len(items) > self._limit:
                raise BusyError("too many images are waiting; try again in a moment")
            futures: list[Future[Answered]] = [Future() for _ in items]
            for pair in zip(items, futures, strict=True):
                self._waiting.put(pair)
        return futures

    def close(self) -> None:
        """Take no more, finish what waits, end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            deadline = time.monotonic() + self._wait
            while len(batch) < self._most and not last:
                try:
                    more = self._waiting.get(timeout=max(deadline - time.monotonic(), 0))
                except queue.Empty:
                    break
                last = more is None
                batch += [more] if more is not None else []
            self._answer(batch)
            if last:
                return

    def _answer(self, batch: list[tuple[Asked, Future[Answered]]]) -> None:
        wanted = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            answers = self._predict([item for item, _ in wanted])
        except Exception as error:
            if len(wanted) == 1:
                wanted[0][1].set_exception(error)
                return
            answers = []
        if not answers:  # one of them spoils the batch: each on its own
            for item, future in wanted:
                self._alone(item, future)
            return
        for (_, future), answer in zip(wanted, answers, strict=True):
            future.set_result(answer)

    def _alone(self, item: Asked, future: Future[Answered]) -> None:
        try:
            future.set_result(self._predict([item])[0])
        except Exception as error:
            future.set_exception(error)
