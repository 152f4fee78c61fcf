"""Dataclasses from and to plain types, every name and type checked. Wrong ones are named with the nearest known."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal

from maskrcnn.errors import ConfigError


def nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def replace_field(node: Any, path: list[str], value: Any, full: str) -> Any:
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        raise ConfigError(f"{node!r} has no fields", field=full)
    names = [f.name for f in dataclasses.fields(node)]
    if path[0] not in names:
        raise ConfigError(f"unknown config key{nearest(path[0], names)}; known here: {', '.join(names)}", field=full)
    if len(path) > 1:
        value = replace_field(getattr(node, path[0]), path[1:], value, full)
    else:
        value = convert(typing.get_type_hints(type(node))[path[0]], value, full)
    return dataclasses.replace(node, **{path[0]: value})


def build(cls: type, data: Any, where: str) -> Any:
    """A dataclass from plain types, checked field by field."""
    if not isinstance(data, dict):
        raise ConfigError(f"expected a table of fields, got {data!r}", field=where or "config")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            name = f"{where}.{key}" if where else key
            raise ConfigError(f"unknown config key{nearest(key, hints)}; known here: {', '.join(hints)}", field=name)
    return cls(**{key: convert(hints[key], value, f"{where}.{key}".strip(".")) for key, value in data.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as type `hint`, or `ConfigError`. Lists become tuples, whole floats stay floats."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        return value if isinstance(value, cls) else build(cls, value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{value!r} is not one of {', '.join(map(repr, args))}", field=where)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"expected a list, got {value!r}", field=where)
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise ConfigError(f"expected {len(args)} values, got {len(value)}", field=where)
        inner = args if args[-1] is not Ellipsis else [args[0]] * len(value)
        return tuple(convert(kind, item, where) for kind, item in zip(inner, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"expected {hint.__name__}, got {value!r}", field=where)
    return value


def to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value
