"""Values out of Python text that is never run: literals, lists, `dict(...)`, sums, names that were set before.

Configs of other frameworks are Python files. What they say is data; what they could do is left out: no import, no call
but of a handful of harmless names, no attribute but an entry of a dict, and bounds on every size.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_TEXT = 1 << 20  # characters; the largest configs of MMDetection have 30,000
MOST_ITEMS = 100_000  # of a list or characters of a string that a sum makes
MOST_NUMBER = 1e18
MOST_PRODUCED = 100_000  # items that one file makes, each counted as often as it is written out
MOST_DEEP = 100
LETTERS = 100  # of a text that count as one item


ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
CALLS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "list": list,
    "tuple": tuple,
    "int": int,
    "float": float,
    "len": len,
    "max": lambda *values: max(_scalars(values)),
    "min": lambda *values: min(_scalars(values)),
    "round": lambda value, ndigits=None: round(value, ndigits and max(-20, min(ndigits, 20))),
    "np.array": list,
    "numpy.array": list,
}


@dataclass(frozen=True)
class Unread:
    """Stands for a value that is more than data.

    Attributes:
        line: where it is written.
        why: a clause that follows the line.
    """

    line: int
    why: str


class NotData(Exception):
    """An expression that is not read; the message is `Unread.why`."""


class TooMuch(Exception):
    """A file that makes too many items; the message says how many are read."""


@dataclass
class Budget:
    """What the values of one file may still hold together.

    Attributes:
        left: items.
    """

    left: int = MOST_PRODUCED

    def take(self, count: int) -> None:
        """Raises `TooMuch` where nothing is left."""
        self.left -= count
        if self.left < 0:
            raise TooMuch(f"makes more than {MOST_PRODUCED} items, the most that are read")

    def take_value(self, value: Any) -> None:
        """A value as it is written out, where lists that are the same object count each time. Raises `TooMuch`."""
        waiting = [(value, 0)]
        while waiting:
            item, depth = waiting.pop()
            if depth > MOST_DEEP:
                raise TooMuch(f"nests values more than {MOST_DEEP} deep")
            if isinstance(item, Mapping):
                self.take(len(item))
                waiting.extend((child, depth + 1) for child in item.values())
            elif isinstance(item, (list, tuple)):
                self.take(len(item))
                waiting.extend((child, depth + 1) for child in item)
            elif isinstance(item, str):
                self.take(len(item) // LETTERS)


def parse(text: str) -> ast.Module:
    """The syntax tree. Raises `NotData` for text that is too long, too deep, or no Python."""
    if len(text) > MOST_TEXT:
        raise NotData(f"has {len(text)} characters, more than the {MOST_TEXT} that are read")
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise NotData(f"is no Python in line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotData(f"is no Python: {error}") from None


def value_or_unread(node: ast.expr, names: Mapping[str, Any], budget: Budget) -> Any:
    """The value of an expression, or `Unread` where it is more than data. Raises only `TooMuch`."""
    try:
        return value_of(node, names, budget)
    except NotData as error:
        return Unread(node.lineno, str(error))
    except RecursionError:
        return Unread(node.lineno, "is nested too deeply")


def value_of(node: ast.expr, names: Mapping[str, Any], budget: Budget) -> Any:
    """The value of an expression; `names` are those that were set before. Raises `NotData`, `TooMuch`."""
    if isinstance(node, ast.Constant):
        return _constant(node)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [item for child in node.elts for item in _items(child, names, budget)]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        return _dict(node, names, budget)
    if isinstance(node, ast.Name):
        return _named(node.id, names)
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return _entry(node, names, budget)
    if isinstance(node, ast.UnaryOp):
        return _unary(node, names, budget)
    if isinstance(node, ast.BinOp):
        return _binary(node, names, budget)
    if isinstance(node, ast.Call):
        return _call(node, names, budget)
    if isinstance(node, ast.Set) and len(node.elts) == 1:  # MMDetection's {{_base_.name}}
        return value_of(node.elts[0], names, budget)
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is more than data")


def _constant(node: ast.Constant) -> Any:
    value = node.value
    if isinstance(value, int) and abs(value) > MOST_NUMBER:
        raise NotData("has a number that is too large")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not read")


def _items(node: ast.expr, names: Mapping[str, Any], budget: Budget) -> list[Any]:
    """One item, or those of `*items`."""
    if not isinstance(node, ast.Starred):
        budget.take(1)
        return [value_of(node, names, budget)]
    value = value_of(node.value, names, budget)
    if not isinstance(value, (list, tuple)):
        raise NotData(f"spreads {ast.unparse(node.value)[:60]!r}, which is no list")
    budget.take(len(value))
    return list(value)


def _dict(node: ast.Dict, names: Mapping[str, Any], budget: Budget) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, child in zip(node.keys, node.values, strict=True):
        value = value_of(child, names, budget)
        if key is None:
            if not isinstance(value, dict):
                raise NotData(f"spreads {ast.unparse(child)[:60]!r}, which is no dict")
            budget.take(len(value))
            made.update(value)
            continue
        budget.take(1)
        name = value_of(key, names, budget)
        if not isinstance(name, (str, int, float, bool, type(None))):
            raise NotData(f"has the key {ast.unparse(key)[:60]!r}, which is not read")
        made[name] = value
    return made


def _named(name: str, names: Mapping[str, Any]) -> Any:
    if name not in names:
        raise NotData(f"has the name {name!r}, which is not set in the file")
    value = names[name]
    if isinstance(value, Unread):
        raise NotData(f"has the name {name!r}, which line {value.line} sets and which {value.why}")
    return value


def _entry(node: ast.Attribute | ast.Subscript, names: Mapping[str, Any], budget: Budget) -> Any:
    """An entry of a dict or list, as `name.key`, `name["key"]` or `name[0]`."""
    whole = value_of(node.value, names, budget)
    key = node.attr if isinstance(node, ast.Attribute) else value_of(node.slice, names, budget)
    try:
        value = whole[key]  # of whatever was read: a dict, a list, a text
    except (KeyError, IndexError, TypeError):
        raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not in the file") from None
    if isinstance(value, Unread):
        raise NotData(f"has {ast.unparse(node)[:60]!r}, which {value.why}")
    return value


def _unary(node: ast.UnaryOp, names: Mapping[str, Any], budget: Budget) -> Any:
    value = value_of(node.operand, names, budget)
    if isinstance(node.op, ast.Not):
        return not value
    if isinstance(value, (int, float)) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return -value if isinstance(node.op, ast.USub) else value
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not read")


def _binary(node: ast.BinOp, names: Mapping[str, Any], budget: Budget) -> Any:
    left, right = value_of(node.left, names, budget), value_of(node.right, names, budget)
    function = ARITHMETIC.get(type(node.op))
    text = ast.unparse(node)[:60]
    if function is None:
        raise NotData(f"has {text!r}, which is not read")
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        try:
            value = function(left, right)
        except (ZeroDivisionError, OverflowError) as error:
            raise NotData(f"has {text!r}: {error}") from None
        if abs(value) > MOST_NUMBER:
            raise NotData(f"has {text!r}, which is too large")
        return value
    if isinstance(node.op, ast.Add) and type(left) is type(right) and isinstance(left, (list, tuple, str)):
        length = len(left) + len(right)
    elif isinstance(node.op, ast.Mult) and isinstance(left, (list, tuple)) and isinstance(right, int):
        length = len(left) * right
    else:
        raise NotData(f"has {text!r}, which is not read")
    if length > MOST_ITEMS:
        raise NotData(f"has {text!r}, which is too long")
    budget.take(max(length, 0))
    return function(left, right)


def _call(node: ast.Call, names: Mapping[str, Any], budget: Budget) -> Any:
    name = ast.unparse(node.func)
    if name not in CALLS:
        raise NotData(f"calls {name[:60]}, and nothing is run here")
    positional = [item for child in node.args for item in _items(child, names, budget)]
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        value = value_of(keyword.value, names, budget)
        budget.take(len(value) if keyword.arg is None and isinstance(value, dict) else 1)
        if keyword.arg is not None:
            named[keyword.arg] = value
        elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
            named.update(value)
        else:
            raise NotData(f"spreads {ast.unparse(keyword.value)[:60]!r}, which is no dict")
    if name.endswith(".array"):
        named.pop("dtype", None)
    budget.take(sum(len(item) for item in positional if isinstance(item, (dict, list, tuple, str))))
    try:
        return CALLS[name](*positional, **named)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotData(f"has {ast.unparse(node)[:60]!r}: {error}") from None


def _scalars(values: tuple[Any, ...]) -> list[Any]:
    """Of `max(a, b)` or `max([a, b])`. Raises `TypeError` for lists in it."""
    items = list(values[0]) if len(values) == 1 else list(values)
    if any(isinstance(item, (dict, list, tuple)) for item in items):
        raise TypeError("compares lists")
    return items


def is_number(value: Any) -> bool:
    """Whether it is a number that fits in 64 bits; no bool."""
    return type(value) in (int, float) and abs(value) < MOST_NUMBER and math.isfinite(value)
