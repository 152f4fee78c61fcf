"""The fields of `Config` as text: dotted names, command-line options, config files, a commented YAML.

No torch here: `maskrcnn --help` answers at once.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import inspect
import itertools
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError


class Field(NamedTuple):
    """One value that a user may set."""

    name: str
    """Dotted, as in `model.rpn.nms_iou`."""
    kind: str
    """Its type, for people."""
    doc: str
    """What it is, its unit and its reason, on one line."""


def fields(part: type = Config, prefix: str = "") -> Iterator[Field]:
    """Every field that holds a value, in the order of the file; a part that may be absent (`model.mask`) comes too."""
    hints, docs = typing.get_type_hints(part), _docs(part)
    for field in dataclasses.fields(part):
        hint, name = hints[field.name], prefix + field.name
        parts = [h for h in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(h)]
        if not parts or parts[0] is not hint:
            yield Field(name, _kind(hint), docs.get(field.name, ""))
        if parts:
            yield from fields(typing.cast(type, parts[0]), f"{name}.")


@cache
def _docs(part: type) -> dict[str, str]:
    """The string under each field of a dataclass of the config, which Python itself forgets."""
    module = ast.parse(inspect.getsource(sys.modules[part.__module__]))
    body = next(node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == part.__name__)
    return {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _kind(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "|".join(map(str, args))
    if origin in (types.UnionType, typing.Union):
        return "|".join("null" if a is type(None) else _kind(a) for a in args if not dataclasses.is_dataclass(a))
    if origin is tuple:
        inner = [_kind(a) for a in args if a is not Ellipsis]
        return f"[{', '.join(inner)}{', ...' if args[-1] is Ellipsis else ''}]"
    return {"bool": "true|false", "str": "NAME", "int": "INT", "float": "FLOAT"}.get(hint.__name__, hint.__name__)


# ---------------------------------------------------------------- command line and files


def add_options(parser: Any) -> None:
    """`--model.rpn.nms_iou FLOAT` and all the others. What is not given stays out of the namespace.

    The values are read as YAML and checked by `Config.replace`, so that Python, files and the command line reject
    the same things in the same words.
    """
    group = parser.add_argument_group("config fields", "defaults come from the preset and the data")
    for field in fields():
        doc = field.doc.replace("%", "%%")
        group.add_argument(f"--{field.name}", type=Any, default=argparse.SUPPRESS, metavar=field.kind, help=doc)


def chosen(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields among the parsed arguments, by dotted name.

    A part that may be absent (`model.mask`) is one only where it was given itself; else its fields stand there.
    """
    given = {field.name: namespace[field.name] for field in fields() if field.name in namespace}
    return {name: value for name, value in given.items() if not isinstance(value, argparse.Namespace)}


def nearest(name: str, known: Iterable[str]) -> str:
    """`", did you mean 'x'?"`, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def read_file(path: Path) -> dict[str, Any]:
    """The fields in a YAML or JSON config file, by dotted name; the file may nest them or write the dots.

    A full `config.to_dict()` is such a file too. Raises `ConfigError` naming the file, the field and the nearest name.
    """
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a table of config fields, as `maskrcnn config` prints it")
    values = dict(_flatten(data, ""))
    names = [field.name for field in fields()]
    for name in values:
        if name not in names:
            raise ConfigError(f"unknown config key in {path}{nearest(name, names)}", field=name)
    return values


def apply(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with dotted fields changed all at once, so that only the outcome must be consistent.

    Raises `ConfigError` for wrong names and values.
    """
    table = config.to_dict()
    for name, value in values.items():
        *parents, leaf = name.split(".")
        node = table
        for parent in parents:
            node[parent] = node.get(parent) or {}
            node = node[parent]
        node[leaf] = value
    return Config.from_dict(table)


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        elif value != {}:
            yield f"{prefix}{key}", value


def _parse(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1 takes 1e-4 for a string; everybody means the number."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def to_yaml(config: Config) -> str:
    """The config as YAML with the doc of each field beside it; `read_file` takes it back."""
    lines: list[str] = []
    shown: tuple[str, ...] = ()
    data = config.to_dict()
    for field in fields():
        *parents, leaf = field.name.split(".")
        node: Any = data
        for parent in parents:
            node = node and node.get(parent)
        if node is None or isinstance(node[leaf], dict):
            continue
        for depth, parent in enumerate(parents):
            if shown[: depth + 1] != tuple(parents[: depth + 1]):
                lines.append(f"{'  ' * depth}{parent}:")
        shown = tuple(parents)
        indent = "  " * len(parents)
        lines.append(f"{indent}# {field.doc}")
        lines.append(f"{indent}{leaf}: {json.dumps(node[leaf])}")
    return "\n".join(lines) + "\n"
