"""Whether compressed masks are whole, many at a time: a broken string must not reach the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_GROUPS = 12
"""5-bit groups of one number; a run of more pixels than 2^60 is none."""
TOGETHER = 1000
"""Masks; with more the arrays do not fit in the cache, and it takes twice as long."""
MOST_PIXELS = (1 << 32) - 1
"""Of one run; the decoder counts no further."""


def total_runs(counts: Sequence[str | bytes]) -> np.ndarray:
    """(N,) int64: the pixels that each mask's runs add up to; -1 where the string is broken or a run negative.

    The same code as `ops.rle.parse_counts`, which says how the strings are made, on many strings at once.
    """
    parts = [_total_runs(counts[start : start + TOGETHER]) for start in range(0, len(counts), TOGETHER)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _total_runs(counts: Sequence[str | bytes]) -> np.ndarray:
    texts = [text.encode("utf-8", "replace") if isinstance(text, str) else text for text in counts]
    lengths = np.array([len(text) for text in texts], np.int64)
    code = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    of_text = np.repeat(np.arange(len(texts)), lengths)
    broken = np.zeros(len(texts), bool)
    broken[of_text[(code < 0) | (code > 63)]] = True
    last = (code & 0x20) == 0
    stops = np.cumsum(lengths) - 1
    filled = lengths > 0
    broken[filled] |= ~last[stops[filled]]
    last[stops[filled]] = True  # so that a broken text does not reach into the next one
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    groups = ends - starts + 1
    broken[of_text[ends[groups > MOST_GROUPS]]] = True
    place = np.minimum(np.arange(len(code)) - np.repeat(starts, groups), MOST_GROUPS)
    values = np.add.reduceat((code & 0x1F) << (5 * place), starts) if len(starts) else starts
    negative = (code[ends] & 0x10) != 0
    values = values - np.where(negative, 1 << np.minimum(5 * groups, 62), 0)
    text = of_text[ends]
    runs = np.bincount(text, minlength=len(texts))
    number = np.arange(len(text)) - (np.cumsum(runs) - runs)[text]
    for parity in (1, 0):  # from the fourth on a run is the difference to that two before
        rows = np.flatnonzero((number % 2 == parity) & (number > 0))
        sums = np.concatenate([[0], np.cumsum(values[rows])])
        each = np.bincount(text[rows], minlength=len(texts))
        values[rows] = sums[1:] - sums[(np.cumsum(each) - each)[text[rows]]]
    broken[text[(values < 0) | (values > MOST_PIXELS)]] = True  # so that the sum cannot overflow
    totals = np.zeros(len(texts), np.int64)
    np.add.at(totals, text, values)
    return np.where(broken, -1, totals)
