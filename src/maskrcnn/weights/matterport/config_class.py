"""A `Config` class out of a Python file that is never run."""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import MOST_TEXT, Budget, NotData, TooMuch, Unread, parse, value_or_unread

# Classes of other files that a Config may inherit from: Matterport's own.
KNOWN_BASES: dict[str, dict[str, Any]] = {"Config": {}, "CocoConfig": {"NAME": "coco", "NUM_CLASSES": 81}}
MOST_BASES = 100  # of a class, all levels together
Known = Mapping[str, Any]


def read_class(source: str | Path) -> dict[str, Any]:
    """The attributes of a Config class, those of its bases in the file included; more than data is `Unread`.

    Args:
        source: `config.py`, or `config.py:NAME`. Without a name: the only class there that is a Config, or the one that
            the others inherit from.

    Raises:
        ConfigError: nothing there, no Python, no Config in it, several, or too many values.
    """
    file, _, name = str(source).partition(".py:")
    path = Path(f"{file}.py") if name else Path(source)
    try:
        module = _Module(parse(_text(path)))
    except (NotData, TooMuch) as error:
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    if not name:
        name = _chosen(module, path)
    elif name not in module.classes:
        listed = ", ".join(module.classes) or "none"
        raise ConfigError(f"{path}: has no class {name!r} on its top level; there are {listed}")
    return _attributes(name, module, path)


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(MOST_TEXT + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; give the Python file with your Config class, or file.py:NAME"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error})") from error


class _Module:
    """What a file sets, in its order.

    Attributes:
        names: those of the module.
        classes: empty stand-ins that inherit as the file's classes do: Python finds the order of their bases.
        own: attributes of each class.
        later: those that its methods set on `self`, which hide attributes of every class below.
        unknown: stand-ins of bases in other files.
    """

    def __init__(self, tree: ast.Module) -> None:
        """Raises `TooMuch`."""
        self.names: dict[str, Any] = {}
        self.classes: dict[str, type] = {}
        self.own: dict[type, dict[str, Any]] = {}
        self.later: dict[type, dict[str, Any]] = {}
        self.unknown: dict[type, str] = {}
        self.known: dict[str, type] = {"object": object}
        self.config = type("Config", (), {})
        self.known |= {"Config": self.config, "CocoConfig": type("CocoConfig", (self.config,), {})}
        self.own |= {self.known[name]: values for name, values in KNOWN_BASES.items()}
        self.budget = Budget()
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                self._class(statement)
            else:
                self._statement(statement, self.names, self.names)

    def _class(self, node: ast.ClassDef) -> None:
        names = [ast.unparse(base).rpartition(".")[2] for base in node.bases]  # coco.CocoConfig -> CocoConfig
        bases = tuple(self._base(name) for name in names)
        try:
            made = type(node.name, bases, {})
        except TypeError:  # twice the same base, or bases in an order that cannot be
            made = type(node.name, (self._unknown(", ".join(names)),), {})
        if len(made.__mro__) > MOST_BASES:
            raise TooMuch(f"has a class that inherits from more than {MOST_BASES} others")
        own: dict[str, Any] = {}
        self.later[made] = {}
        for statement in node.body:
            self._statement(statement, own, ChainMap(own, self.names))
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.later[made] |= _set_on_self(statement)
        self.own[made], self.classes[node.name] = own, made

    def _base(self, name: str) -> type:
        return self.classes.get(name) or self.known.get(name) or self._unknown(name)

    def _unknown(self, name: str) -> type:
        made = type("Unknown", (), {})
        self.unknown[made] = name
        return made

    def _statement(self, node: ast.stmt, values: dict[str, Any], known: Known) -> None:
        """Sets in `values` what the statement sets; what cannot be told without running it becomes `Unread`."""
        if isinstance(node, ast.Assign):
            value = self._value(node.value, known)
            for target in node.targets:
                self._assign(target, value, values)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._assign(node.target, self._value(node.value, known), values)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            read = ast.Name(node.target.id, ast.Load())
            total = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
            values[node.target.id] = self._value(ast.fix_missing_locations(total), known)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            values[node.name] = Unread(node.lineno, "makes a function or class of it")
        else:
            for target in _changed(node):
                self._assign(target, Unread(node.lineno, "sets it in a statement that is not run"), values)

    def _value(self, node: ast.expr, known: Known) -> Any:
        value = value_or_unread(node, known, self.budget)
        self.budget.take_value(value)
        return value

    def _assign(self, target: ast.expr, value: Any, values: dict[str, Any]) -> None:
        """To a name, to several, to an attribute of a class above; to an entry of a name, which is not read then."""
        if isinstance(target, ast.Name):
            values[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            fits = isinstance(value, (list, tuple)) and len(value) == len(target.elts)
            fits = fits and not any(isinstance(item, ast.Starred) for item in target.elts)
            unread = value if isinstance(value, Unread) else Unread(target.lineno, "sets several names at once")
            for i, item in enumerate(target.elts):
                self._assign(item, value[i] if fits else unread, values)
        elif isinstance(target, ast.Starred):
            self._assign(target.value, value, values)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            if target.value.id in self.classes:
                self.own[self.classes[target.value.id]][target.attr] = value
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            values[target.value.id] = Unread(target.lineno, "changes an entry of it only")


def _changed(node: ast.stmt) -> Iterator[ast.expr]:
    """Names and attributes that a statement with others inside sets, or calls a method of."""
    for part in ast.walk(node):
        if isinstance(part, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(part.ctx, ast.Load):
            yield part
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and isinstance(node, ast.Expr):
            yield part.func.value  # LIST.append(1)


def _set_on_self(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    """`self.NAME = ...` anywhere in a method."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    return {
        part.attr: Unread(part.lineno, f"sets it in {function.name}, which is not run")
        for part in ast.walk(function)
        if isinstance(part, ast.Attribute)
        and not isinstance(part.ctx, ast.Load)
        and isinstance(part.value, ast.Name)
        and arguments
        and part.value.id == arguments[0].arg
    }


def _chosen(module: _Module, path: Path) -> str:
    configs = {name: made for name, made in module.classes.items() if issubclass(made, module.config)}
    roots = [name for name, made in configs.items() if not any(base in configs.values() for base in made.__bases__)]
    if len(roots) != 1:
        listed = ", ".join(configs) or "none"
        raise ConfigError(
            f"{path}: has not one class that inherits from Config ({listed}); name it: {path.name}:NAME"
            if configs
            else f"{path}: has no class that inherits from Matterport's Config; give the file with yours"
        )
    return roots[0]


def _attributes(name: str, module: _Module, path: Path) -> dict[str, Any]:
    """Of a class and its bases, the nearest first."""
    order = module.classes[name].__mro__
    for made in order:
        if made in module.unknown:
            raise ConfigError(
                f"{path}: inherits from {module.unknown[made]}, which is in another file; copy its attributes into "
                "this one"
            )
    values: dict[str, Any] = {}
    for made in reversed(order):
        values |= module.own.get(made, {})
    for made in reversed(order):
        values |= module.later.get(made, {})
    return values
