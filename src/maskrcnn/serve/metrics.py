"""Counts and times of a server, as Prometheus reads them: text, one sample a line."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Values counted into buckets, cumulative as Prometheus has them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * len(bounds)
        self.total, self.sum = 0, 0.0

    def add(self, value: float) -> None:
        self.counts = [count + (value <= bound) for count, bound in zip(self.counts, self.bounds, strict=True)]
        self.total, self.sum = self.total + 1, self.sum + value

    def lines(self, name: str, labels: str = "") -> list[str]:
        inside = f"{labels}," if labels else ""
        around = f"{{{labels}}}" if labels else ""
        buckets = [*zip(map(str, self.bounds), self.counts, strict=True), ("+Inf", self.total)]
        return [
            *(f'{name}_bucket{{{inside}le="{bound}"}} {count}' for bound, count in buckets),
            f"{name}_sum{around} {self.sum:.6f}",
            f"{name}_count{around} {self.total}",
        ]


class Metrics:
    """What happened since the start. Every thread may add."""

    def __init__(self, queued: Callable[[], int] = lambda: 0) -> None:
        """`queued` says how many images wait now."""
        self._lock = threading.Lock()
        self._queued = queued
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._network, self._batch = Histogram(SECONDS), Histogram(IMAGES)
        self._images = self._instances = 0

    def request(self, path: str, status: int, seconds: float) -> None:
        """`path` is one of the server's own, or "other": not what a client makes up."""
        with self._lock:
            self._requests[path, status] += 1
            self._seconds.setdefault(path, Histogram(SECONDS)).add(seconds)

    def batch(self, images: int, instances: int, seconds: float) -> None:
        """One pass through the network."""
        with self._lock:
            self._batch.add(images)
            self._network.add(seconds)
            self._images, self._instances = self._images + images, self._instances + instances

    def text(self) -> str:
        """The answer to /metrics."""
        with self._lock:
            requests = [
                f'maskrcnn_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._requests.items())
            ]
            times = [
                line
                for path, histogram in sorted(self._seconds.items())
                for line in histogram.lines("maskrcnn_request_seconds", f'path="{path}"')
            ]
            parts = [
                _part("maskrcnn_requests_total", "counter", "Requests answered.", requests),
                _part("maskrcnn_request_seconds", "histogram", "From the first byte to the last.", times),
                _part("maskrcnn_network_seconds", "histogram", "One batch through the network.",
                      self._network.lines("maskrcnn_network_seconds")),
                _part("maskrcnn_batch_images", "histogram", "Images in a batch.",
                      self._batch.lines("maskrcnn_batch_images")),
                _part("maskrcnn_images_total", "counter", "Images predicted.",
                      [f"maskrcnn_images_total {self._images}"]),
                _part("maskrcnn_instances_total", "counter", "Instances found.",
                      [f"maskrcnn_instances_total {self._instances}"]),
                _part("maskrcnn_queue_images", "gauge", "Images waiting for the network.",
                      [f"maskrcnn_queue_images {self._queued()}"]),
            ]  # fmt: skip
        return "\n".join(line for part in parts for line in part) + "\n"


def _part(name: str, kind: str, doc: str, samples: list[str]) -> list[str]:
    return [f"# HELP {name} {doc}", f"# TYPE {name} {kind}", *samples]
