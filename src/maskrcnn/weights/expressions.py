"""Values out of Python text that is never run: literals, lists, `dict(...)`, sums, names that were set before.

Configs of other frameworks are Python files. What they say is data; what they could do is left out: no import, no call
but of a handful of harmless names, no attribute but an entry of a dict, and bounds on every size.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_TEXT = 1 << 20  # characters; the largest configs of MMDetection have 30,000
MOST_ITEMS = 100_000  # of a list or characters of a string that a sum makes
MOST_NUMBER = 1e18

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
    "max": max,
    "min": min,
    "round": round,
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


def value_or_unread(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression, or `Unread` where it is more than data. Never raises."""
    try:
        return value_of(node, names)
    except NotData as error:
        return Unread(node.lineno, str(error))
    except RecursionError:
        return Unread(node.lineno, "is nested too deeply")


def value_of(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression; `names` are those that were set before. Raises `NotData`."""
    if isinstance(node, ast.Constant):
        return _constant(node)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [item for child in node.elts for item in _items(child, names)]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        return _dict(node, names)
    if isinstance(node, ast.Name):
        return _named(node.id, names)
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return _entry(node, names)
    if isinstance(node, ast.UnaryOp):
        return _unary(node, names)
    if isinstance(node, ast.BinOp):
        return _binary(node, names)
    if isinstance(node, ast.Call):
        return _call(node, names)
    if isinstance(node, ast.Set) and len(node.elts) == 1:  # MMDetection's {{_base_.name}}
        return value_of(node.elts[0], names)
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is more than data")


def _constant(node: ast.Constant) -> Any:
    if node.value is None or isinstance(node.value, (bool, int, float, str)):
        return node.value
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not read")


def _items(node: ast.expr, names: Mapping[str, Any]) -> list[Any]:
    """One item, or those of `*items`."""
    if not isinstance(node, ast.Starred):
        return [value_of(node, names)]
    value = value_of(node.value, names)
    if not isinstance(value, (list, tuple)):
        raise NotData(f"spreads {ast.unparse(node.value)[:60]!r}, which is no list")
    return list(value)


def _dict(node: ast.Dict, names: Mapping[str, Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, child in zip(node.keys, node.values, strict=True):
        value = value_of(child, names)
        if key is None:
            if not isinstance(value, dict):
                raise NotData(f"spreads {ast.unparse(child)[:60]!r}, which is no dict")
            made.update(value)
            continue
        name = value_of(key, names)
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


def _entry(node: ast.Attribute | ast.Subscript, names: Mapping[str, Any]) -> Any:
    """An entry of a dict or list, as `name.key`, `name["key"]` or `name[0]`."""
    whole = value_of(node.value, names)
    key = node.attr if isinstance(node, ast.Attribute) else value_of(node.slice, names)
    try:
        value = whole[key]  # of whatever was read: a dict, a list, a text
    except (KeyError, IndexError, TypeError):
        raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not in the file") from None
    if isinstance(value, Unread):
        raise NotData(f"has {ast.unparse(node)[:60]!r}, which {value.why}")
    return value


def _unary(node: ast.UnaryOp, names: Mapping[str, Any]) -> Any:
    value = value_of(node.operand, names)
    if isinstance(node.op, ast.Not):
        return not value
    if isinstance(value, (int, float)) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return -value if isinstance(node.op, ast.USub) else value
    raise NotData(f"has {ast.unparse(node)[:60]!r}, which is not read")


def _binary(node: ast.BinOp, names: Mapping[str, Any]) -> Any:
    left, right = value_of(node.left, names), value_of(node.right, names)
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
    return function(left, right)


def _call(node: ast.Call, names: Mapping[str, Any]) -> Any:
    name = ast.unparse(node.func)
    if name not in CALLS:
        raise NotData(f"calls {name[:60]}, and nothing is run here")
    positional = [item for child in node.args for item in _items(child, names)]
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        value = value_of(keyword.value, names)
        if keyword.arg is not None:
            named[keyword.arg] = value
        elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
            named.update(value)
        else:
            raise NotData(f"spreads {ast.unparse(keyword.value)[:60]!r}, which is no dict")
    if name.endswith(".array"):
        named.pop("dtype", None)
    try:
        return CALLS[name](*positional, **named)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotData(f"has {ast.unparse(node)[:60]!r}: {error}") from None
