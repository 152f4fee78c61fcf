"""Who would wait too long is told at once."""

from __future__ import annotations

import pytest

from maskrcnn.serve.batching import BusyError
from maskrcnn.serve.pace import Pace


def test_nothing_is_refused_before_anything_was_timed() -> None:
    pace = Pace(1)
    with pace.admitted(10), pace.admitted(1000):
        pace.check()


def test_the_slowest_stage_sets_the_pace() -> None:
    pace = Pace(20)  # half of it, as the estimate may be off
    pace.note("decode", 1)
    pace.note("network", 10, images=4)
    with pace.admitted(3):
        pace.check()
        with pytest.raises(BusyError, match="try again later") as refused:
            pace.check(4)
        assert refused.value.retry == 8  # 7 images of 2.5 seconds end 7.5 seconds after 10
        with pace.admitted(1), pytest.raises(BusyError), pace.admitted(1):
            pass
        pace.check()  # what was refused, and what is over, does not count
    pace.check(1000)


def test_alone_a_request_always_passes() -> None:
    pace = Pace(1)
    pace.note("network", 60)
    with pace.admitted(16):
        pass


def test_one_slow_image_is_soon_forgotten() -> None:
    pace = Pace(1)
    pace.note("decode", 100)
    for _ in range(40):
        pace.note("decode", 0.1)
    with pace.admitted(2):
        pace.check()


def test_what_fails_is_over() -> None:
    pace = Pace(1)
    pace.note("network", 10)
    with pytest.raises(ValueError, match="broken"), pace.admitted(1):
        raise ValueError("broken")
    pace.check()
