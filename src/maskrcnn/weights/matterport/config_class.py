"""A `Config` class out of a Python file that is never run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import MOST_TEXT, NotData, parse, value_or_unread

# Classes of other files that a Config may inherit from: Matterport's own.
KNOWN_BASES: dict[str, dict[str, Any]] = {"Config": {}, "CocoConfig": {"NAME": "coco", "NUM_CLASSES": 81}}


def read_class(source: str | Path) -> dict[str, Any]:
    """The attributes of a Config class, those of its bases in the file included; more than data is `Unread`.

    Args:
        source: `config.py`, or `config.py:NAME`. Without a name: the only class there that is a Config, or the one that
            the others inherit from.

    Raises:
        ConfigError: nothing there, no Python, no Config in it, or several.
    """
    file, _, name = str(source).partition(".py:")
    path = Path(f"{file}.py") if name else Path(source)
    tree = _tree(path)
    module: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            _assign(statement, module, module)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if not name:
        name = _chosen(classes, path)
    elif name not in classes:
        raise ConfigError(f"{path}: has no class {name!r} on its top level; there are {', '.join(classes) or 'none'}")
    return _attributes(name, classes, module, path, ())


def _tree(path: Path) -> ast.Module:
    try:
        with path.open(encoding="utf-8") as file:
            return parse(file.read(MOST_TEXT + 1))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; give the Python file with your Config class, or file.py:NAME"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error})") from error
    except NotData as error:
        raise ConfigError(f"{path}: {error}") from None


def _assign(statement: ast.Assign, values: dict[str, Any], names: Mapping[str, Any]) -> None:
    """One `NAME = value`, or several names."""
    value = value_or_unread(statement.value, names)
    for target in statement.targets:
        if isinstance(target, ast.Name):
            values[target.id] = value


def _chosen(classes: Mapping[str, ast.ClassDef], path: Path) -> str:
    configs = [name for name in classes if _is_config(name, classes, ())]
    roots = [name for name in configs if not any(base in configs for base in _bases(classes[name]))]
    if len(roots) != 1:
        listed = ", ".join(configs) or "none"
        raise ConfigError(
            f"{path}: has not one class that inherits from Config ({listed}); name it: {path.name}:NAME"
            if configs
            else f"{path}: has no class that inherits from Matterport's Config; give the file with yours"
        )
    return roots[0]


def _is_config(name: str, classes: Mapping[str, ast.ClassDef], above: tuple[str, ...]) -> bool:
    if name not in classes:
        return name in KNOWN_BASES
    return name not in above and any(_is_config(base, classes, (*above, name)) for base in _bases(classes[name]))


def _bases(node: ast.ClassDef) -> list[str]:
    """`coco.CocoConfig` -> CocoConfig."""
    return [ast.unparse(base).rpartition(".")[2] for base in node.bases]


def _attributes(
    name: str, classes: Mapping[str, ast.ClassDef], module: Mapping[str, Any], path: Path, above: tuple[str, ...]
) -> dict[str, Any]:
    if name not in classes:
        if name not in KNOWN_BASES and name != "object":
            raise ConfigError(
                f"{path}: inherits from {name}, which is in another file; copy its attributes into this one"
            )
        return dict(KNOWN_BASES.get(name, {}))
    if name in above:
        raise ConfigError(f"{path}: class {name} is its own base")
    values: dict[str, Any] = {}
    for base in reversed(_bases(classes[name])):
        values |= _attributes(base, classes, module, path, (*above, name))
    own: dict[str, Any] = {}
    for statement in classes[name].body:
        if isinstance(statement, ast.Assign):
            _assign(statement, own, {**module, **own})
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            own[statement.target.id] = value_or_unread(statement.value, {**module, **own})
    return values | own
