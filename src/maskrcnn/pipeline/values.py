"""Python values as text of a `pipeline.config`."""

from __future__ import annotations

import math
from collections.abc import Callable

from maskrcnn.text_proto import Scalar


def value(given: bool | float | str) -> Scalar:
    """A bool, number or string (quoted) as the format writes it."""
    if isinstance(given, bool):
        return Scalar("true" if given else "false")
    if isinstance(given, str):
        return Scalar(given, quoted=True)
    return Scalar(repr(given))


def word(name: str) -> Scalar:
    """An enum's value."""
    return Scalar(name)


def number(near: float, read: Callable[[float], float], wanted: float) -> float:
    """The shortest number near `near` that `read` turns into `wanted`; `near` itself where none does.

    What is read as a quotient cannot always be written as the product: rounding loses the last bit.
    """
    shorter = [float(f"{near:.{digits}g}") for digits in range(1, 18)]
    neighbours = [near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf)]
    return next((candidate for candidate in [*shorter, *neighbours] if candidate and read(candidate) == wanted), near)
