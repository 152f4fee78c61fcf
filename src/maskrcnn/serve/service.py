"""What the routes share: the model behind its queue, the threads that decode and write, the counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

from maskrcnn import __version__
from maskrcnn.serve.answers import Health
from maskrcnn.serve.batching import Batcher
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.metrics import Metrics
from maskrcnn.serve.pace import Pace
from maskrcnn.serve.uploads import prepare_upload

if TYPE_CHECKING:
    from maskrcnn.instances import Instances
    from maskrcnn.predict.predictor import Predictor, Prepared

Value = TypeVar("Value")

LEAST_SCORE = 0.05
"""Detections below are never sent; the page's slider starts here."""
WORKERS = 2
"""Threads that decode; each holds one image, so this bounds the memory."""
GPU_BATCH = 8
"""Images that a GPU gets together, unless told. A CPU gets one: more take memory and save no time."""
LONGEST_NAME = 200


class Service:
    """A model that answers coroutines."""

    def __init__(self, predictor: Predictor, limits: Limits, name: str) -> None:
        """Args:
        predictor: used by one thread only; `prepare` by others.
        limits: see `Limits`.
        name: of the model, for people.
        """
        self.predictor, self.limits, self.name = predictor, limits, name
        self.metrics = Metrics(lambda: self.batcher.queued)
        self.pace = Pace(limits.seconds)
        self._decoders = ThreadPoolExecutor(WORKERS, thread_name_prefix="maskrcnn-image")
        # A thread of its own: what is ready does not wait behind images that have just come.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="maskrcnn-answer")
        self.batcher: Batcher[Prepared, Instances] = Batcher(
            self._predict, most=self.together, wait=limits.wait / 1000, queued=limits.queue
        )

    @property
    def together(self) -> int:
        """Images that go through the network together."""
        return self.limits.batch or (1 if self.predictor.device.type == "cpu" else GPU_BATCH)

    @property
    def has_masks(self) -> bool:
        return self.predictor.model.config.mask is not None

    async def decode(self, file: BinaryIO, name: str | None, number: int) -> Prepared:
        """An upload, ready for the network. Raises `RefusedError`."""
        shown = (name or f"image {number}")[:LONGEST_NAME]
        return await asyncio.get_running_loop().run_in_executor(self._decoders, self._decode, file, shown)

    def _decode(self, file: BinaryIO, name: str) -> Prepared:
        began = time.monotonic()
        try:
            return prepare_upload(file, name, self.predictor, self.limits)
        finally:
            self.pace.note("decode", (time.monotonic() - began) / WORKERS)

    async def predict(self, images: Sequence[Prepared]) -> list[Instances]:
        """What is in each. Raises `BusyError` when they do not all fit into the queue."""
        return list(await asyncio.gather(*map(asyncio.wrap_future, self.batcher.submit(images))))

    async def write(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """Run in a thread what takes its time after the network: outlines, PNGs."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, function, *arguments)

    def health(self) -> Health:
        status: Literal["ok", "stopping"] = "ok" if self.batcher.alive else "stopping"
        classes, device = list(self.predictor.model.classes), str(self.predictor.device)
        return Health(status, self.name, classes, self.has_masks, device, __version__, LEAST_SCORE)

    def close(self) -> None:
        """What waits is finished first."""
        self.batcher.close()
        self._decoders.shutdown()
        self._writer.shutdown()

    def _predict(self, images: Sequence[Prepared]) -> list[Instances]:
        began = time.monotonic()
        found = self.predictor.predict_prepared(images, LEAST_SCORE, self.together)
        seconds = time.monotonic() - began
        self.metrics.batch(len(images), sum(map(len, found)), seconds)
        self.pace.note("network", seconds, len(images))
        return found
