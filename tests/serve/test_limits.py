"""Bounds, and what is counted."""

from __future__ import annotations

import pytest

from maskrcnn.errors import ConfigError
from maskrcnn.serve.guard import CLIENTS, Rate
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.metrics import Metrics
from maskrcnn.serve.run import is_loopback


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("rate", -1), ("megabytes", 0), ("seconds", float("nan")), ("queue", float("inf"))],
)
def test_a_bound_that_bounds_nothing_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field}: .* must be at least"):
        Limits(**{field: value})  # type: ignore[arg-type]


def test_rates_are_buckets_that_fill_again() -> None:
    now = 0.0
    rate = Rate(2, lambda: now)
    assert [rate.wait("a") for _ in range(3)] == [0, 0, 0.5]
    assert rate.wait("b") == 0
    now = 0.5
    assert (rate.wait("a"), rate.wait("a")) == (0, 0.5)
    now = 100
    assert [rate.wait("a") for _ in range(3)] == [0, 0, 0.5]


def test_no_rate_no_limit() -> None:
    rate = Rate(0)
    assert not any(rate.wait("a") for _ in range(1000))


def test_addresses_are_forgotten_before_they_fill_the_memory() -> None:
    rate = Rate(1, lambda: 0)
    for number in range(CLIENTS + 5):
        rate.wait(str(number))
    assert len(rate._buckets) == CLIENTS


def test_metrics_are_cumulative_text() -> None:
    metrics = Metrics(lambda: 3)
    metrics.request("/predict", 200, 0.02)
    metrics.request("/predict", 413, 2)
    metrics.batch(3, 11, 0.3)
    lines = metrics.text().splitlines()
    assert 'maskrcnn_requests_total{path="/predict",status="413"} 1' in lines
    assert 'maskrcnn_request_seconds_bucket{path="/predict",le="0.01"} 0' in lines
    assert 'maskrcnn_request_seconds_bucket{path="/predict",le="0.025"} 1' in lines
    assert 'maskrcnn_request_seconds_bucket{path="/predict",le="+Inf"} 2' in lines
    assert 'maskrcnn_request_seconds_sum{path="/predict"} 2.020000' in lines
    assert 'maskrcnn_batch_images_bucket{le="4"} 1' in lines
    assert "maskrcnn_instances_total 11" in lines
    assert "maskrcnn_queue_images 3" in lines
    assert all(line.startswith("# ") or len(line.split()) == 2 for line in lines)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org")))
