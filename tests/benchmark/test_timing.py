from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from maskrcnn.benchmark.peak import count_flop, peak_gflops
from maskrcnn.benchmark.scaling import fit
from maskrcnn.benchmark.timing import Ledger, Times, machine, measure, peak_memory, versions, watched
from maskrcnn.ops.roi_align import multilevel_roi_align

CPU = torch.device("cpu")


def test_times() -> None:
    columns = Times((0.001, 0.002, 0.004)).columns
    assert columns["median_ms"] == pytest.approx(2)
    assert columns["spread_ms"] == pytest.approx(3)
    assert columns["p90_ms"] == pytest.approx(3.6)
    assert columns["repeat"] == 3


def test_jobs_take_turns_after_one_warm_up_each() -> None:
    calls: list[str] = []
    times = measure({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, repeat=2)
    assert "".join(calls) == "ab" + "abab"
    assert [len(each.seconds) for each in times.values()] == [2, 2]


def test_the_budget_ends_long_jobs_and_the_most_ends_short_ones() -> None:
    assert len(measure({"a": lambda: None}, CPU, budget=0)["a"].seconds) == 3
    assert len(measure({"a": lambda: None}, CPU, budget=1e9)["a"].seconds) == 30


def test_a_ledger_books_inner_spans_on_themselves_only() -> None:
    time = iter([0.0, 1.0, 4.0, 10.0])
    ledger = Ledger(lambda: next(time))
    with ledger.span("outer"), ledger.span("inner"):
        pass
    assert ledger.booked == {"outer": 1.0 + 6.0, "inner": 3.0}


def test_watched_calls_are_booked_and_restored() -> None:
    class Thing:
        def work(self) -> int:
            return 7

    thing, module = Thing(), SimpleNamespace(work=lambda: 8)
    function = module.work
    ticks = iter(range(100))
    ledger = Ledger(lambda: float(next(ticks)))
    with watched(ledger, (thing, "work", "a"), (module, "work", "b")):
        assert (thing.work(), module.work()) == (7, 8)
    assert ledger.booked.keys() == {"a", "b"}
    assert "work" not in vars(thing)
    assert module.work is function


def test_memory_sees_what_one_call_needs() -> None:
    used = peak_memory(lambda: torch.ones(200 * 2**20, dtype=torch.uint8), CPU)
    if used is None:
        pytest.skip("this system does not tell")
    assert used > 200


def test_flop_of_convolutions_products_and_roi_align() -> None:
    x, weight = torch.zeros(1, 8, 10, 10), torch.zeros(4, 8, 3, 3)
    assert count_flop(lambda: F.conv2d(x, weight, padding=1)) == 2 * 9 * 8 * 4 * 100
    assert count_flop(lambda: torch.zeros(3, 4) @ torch.zeros(4, 5)) == 2 * 3 * 4 * 5
    boxes, image = torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(1, dtype=torch.int64)
    pooled = count_flop(lambda: multilevel_roi_align([x], boxes, image, resolution=7, sampling_ratio=2, aligned=True))
    assert pooled == 2 * 49 * 16 * 8  # cells, 4 samples of 4 neighbours, channels


def test_flop_of_fused_operators() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    x, weight, bias = torch.zeros(1, 8, 10, 10), torch.zeros(4, 8, 3, 3), torch.zeros(4)
    sides = ([1, 1], [1, 1], [1, 1], 1)
    conv = torch.ops.mkldnn._convolution_pointwise
    expected = 2 * 9 * 8 * 4 * 100
    assert count_flop(lambda: conv(x, weight, bias, *sides, "relu", [], "")) == expected
    assert count_flop(lambda: conv(x, weight, None, *sides, "none", [], "")) == expected
    other = torch.zeros(1, 4, 10, 10)
    assert count_flop(lambda: conv.binary(x, other, weight, bias, *sides, "add", 1.0, None, [], None)) == expected
    linear = torch.ops.mkldnn._linear_pointwise
    assert count_flop(lambda: linear(torch.zeros(3, 8), torch.zeros(5, 8), torch.zeros(5), "none", [], "")) == 240


def test_a_line_through_points() -> None:
    line = fit([1.0, 2.0, 3.0], [5.0, 7.0, 9.0])
    assert (line.slope, line.intercept, line.r2) == pytest.approx((2.0, 3.0, 1.0))
    assert fit([1.0, 2.0], [4.0, 4.0]).r2 == 1.0


def test_the_machine() -> None:
    assert {"cpu", "cores", "memory_gib", "threads", "device", "system"} <= set(machine(CPU))
    assert {"maskrcnn", "python", "torch"} <= set(versions())


@pytest.mark.slow
def test_the_peak_is_the_better_of_two_probes() -> None:
    peak = peak_gflops(CPU, "float32")
    assert peak["best"] == max(peak["convolution"], peak["matrix"]) > 0
