"""What a model's own methods were given and gave, while it runs as always: nothing is computed a second way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Call:
    """One call of a method.

    Attributes:
        args, kwargs: what it was given, without the module itself.
        result: what it gave.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


Listen = Callable[[nn.Module, str], list[Call]]


@contextlib.contextmanager
def listening() -> Iterator[Listen]:
    """Gives `listen(module, method)`, a list that grows with each call of that method until the block ends.

    The methods are replaced on these objects alone and put back at the end. One thread; one listener a method.
    """
    with contextlib.ExitStack() as stack:

        def listen(module: nn.Module, method: str) -> list[Call]:
            calls: list[Call] = []
            own = getattr(module, method)

            def heard(*args: Any, **kwargs: Any) -> Any:
                result = own(*args, **kwargs)
                calls.append(Call(args, kwargs, result))
                return result

            setattr(module, method, heard)
            stack.callback(delattr, module, method)
            return calls

        yield listen
