"""Detectron2's YAML files: base files, literals in quotes, defaults for what is not said. Nothing is run."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskrcnn.errors import ConfigError
from maskrcnn.weights.detectron2.defaults import BASES, DEFAULTS

BASE = "_BASE_"
MOST_BYTES = 2**20
DEEPEST = 10  # files that name each other


class Node:
    """A part of the values; what is missing or of another kind is an error that names the key.

    Args:
        values: of this part.
        name: dotted, "" for the whole.
        path: the file, for errors.
    """

    def __init__(self, values: Mapping[str, Any], name: str, path: Path) -> None:
        self.values, self.name, self.path = values, name, path

    def part(self, name: str) -> Node:
        """A part of this part."""
        inner = self.values.get(name)
        if not isinstance(inner, Mapping):
            raise self.error(name, f"expected a table of keys, got {inner!r}")
        return Node(inner, self._full(name), self.path)

    def number(self, name: str) -> float:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, f"expected a number, got {value!r}")
        return value

    def whole(self, name: str) -> int:
        value = self.number(name)
        if value != int(value):
            raise self.error(name, f"expected a whole number, got {value!r}")
        return int(value)

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self.error(name, f"expected True or False, got {value!r}")
        return value

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.error(name, f"expected a name, got {value!r}")
        return value

    def row(self, name: str) -> tuple:
        """A list; a single value is a list of one."""
        value = self.values.get(name)
        if isinstance(value, list | tuple):
            return tuple(value)
        if value is None or isinstance(value, Mapping):
            raise self.error(name, f"expected a list, got {value!r}")
        return (value,)

    def numbers(self, name: str, count: int | None = None) -> tuple[float, ...]:
        return self._numbers(name, self.row(name), count)

    def rows(self, name: str, count: int | None = None) -> tuple[tuple[float, ...], ...]:
        """A list of lists of numbers."""
        return tuple(
            self._numbers(name, tuple(r) if isinstance(r, list | tuple) else (r,), count) for r in self.row(name)
        )

    def error(self, name: str, message: str) -> ConfigError:
        """`message` with the file and the key in front."""
        return ConfigError(f"{self.path}: {self._full(name)}: {message}")

    def _full(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def _numbers(self, name: str, values: tuple, count: int | None) -> tuple[float, ...]:
        good = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not good or (count is not None and len(values) != count):
            raise self.error(name, f"expected {count or 'a list of'} numbers, got {list(values)!r}")
        return tuple(float(v) for v in values)


def read_yaml(path: str | Path) -> Node:
    """All values of a config: of the file, of the files it is based on, and Detectron2's defaults.

    Raises:
        ConfigError: no such file, not YAML or one with code in it, or a base file that is nowhere.
    """
    path = Path(path)
    values = copy.deepcopy(DEFAULTS)
    _merge(values, _values(path, 0), path, "")
    return Node(values, "", path)


def _values(path: Path, depth: int) -> dict[str, Any]:
    if depth > DEEPEST:
        raise ConfigError(f"{path}: its {BASE} files name each other")
    own = _parsed(path)
    base = own.pop(BASE, None)
    values: dict[str, Any] = {}
    for name in base if isinstance(base, list) else [base] if base is not None else []:
        _merge(values, _base(path, str(name), depth), path, "")
    _merge(values, own, path, "")
    return values


def _base(path: Path, name: str, depth: int) -> dict[str, Any]:
    target = Path(name) if Path(name).is_absolute() else path.parent / name
    if target.is_file():
        return _values(target, depth + 1)
    known = BASES.get(Path(name).name)
    if known is None:
        raise ConfigError(
            f"{path}: {BASE}: {name} is not there and no base file of Detectron2 ({', '.join(BASES)}); put it beside, "
            "or give the config.yaml that training wrote"
        )
    return copy.deepcopy(known)


def _parsed(path: Path) -> dict[str, Any]:
    if path.suffix == ".py":
        raise ConfigError(
            f"{path}: a lazy config is a program and is not run; give the zoo's name of it instead, such as "
            "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ"
        )
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: too large for a config of Detectron2")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not plain YAML ({first}); configs with Python tags are not run") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no table of keys")
    if "model" in values and "MODEL" not in values:
        raise ConfigError(
            f"{path}: a lazy config, not a YAML config of Detectron2; give the zoo's name of it instead, such as "
            "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ"
        )
    return values


def _merge(target: dict[str, Any], values: Mapping[str, Any], path: Path, where: str) -> None:
    """Write `values` over `target`, in place; text that reads as a Python literal is that value."""
    for name, value in values.items():
        full = f"{where}.{name}" if where else str(name)
        if isinstance(value, Mapping):
            inner = target.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{path}: {full}: expected a value, got a table of keys")
            _merge(inner, value, path, full)
        elif isinstance(target.get(name), dict):
            known = ", ".join(target[name]) if target[name] else ""
            raise ConfigError(f"{path}: {full}: expected a table of keys ({known}), got {value!r}")
        else:
            target[name] = _literal(value)


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
