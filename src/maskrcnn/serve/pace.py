"""How long a request would wait, from how long images took lately: who would wait too long is told at once."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

from maskrcnn.serve.batching import BusyError

KEPT = 0.8
"""Of what was known about the seconds of an image, when the next one has been timed."""
MARGIN = 2
"""Times that an estimate may be too small: images differ, and so does what else the machine does."""


class Pace:
    """Images on their way, and the seconds that each stage takes for one. Any thread may call."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: in which a request must be answered."""
        self._limit, self._images = seconds, 0
        self._stages: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, stage: str, seconds: float, images: int = 1) -> None:
        """So many images kept a stage busy for so long. The stages work side by side: the slowest sets the pace."""
        each, kept = seconds / images, KEPT**images
        with self._lock:
            self._stages[stage] = kept * self._stages.get(stage, each) + (1 - kept) * each

    def check(self, images: int = 1) -> None:
        """Raises `BusyError` when so many more would be answered too late. Alone, a request always passes."""
        late = self._late(images)
        if late > 0:
            raise BusyError("too many images are waiting; try again later", retry=math.ceil(late))

    @contextlib.contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """These are on their way for the length of the `with`. Raises `BusyError` as `check`."""
        self.check(images)
        with self._lock:
            self._images += images
        try:
            yield
        finally:
            with self._lock:
                self._images -= images

    def _late(self, images: int) -> float:
        """Seconds to wait until so many more fit in."""
        with self._lock:
            slowest = max(self._stages.values(), default=0.0)
            return (self._images + images) * slowest - self._limit / MARGIN if self._images else 0.0
