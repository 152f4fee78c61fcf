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
MOST_VALUES, DEEPEST_VALUE = 50_000, 40  # with all that aliases repeat


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
        return self._usual(name, value)

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

    def numbers(self, name: str, count: int | None = None, *, none: bool = False) -> tuple[float, ...]:
        """A list of numbers; `none`: it can be empty."""
        row = self.row(name)
        return () if none and not row else self._numbers(name, row, count)

    def rows(self, name: str, count: int | None = None) -> tuple[tuple[float, ...], ...]:
        """A list of lists of numbers."""
        found = self.row(name)
        if not found:
            raise self.error(name, "expected a list of lists of numbers, got an empty one")
        return tuple(self._numbers(name, tuple(r) if isinstance(r, list | tuple) else (r,), count) for r in found)

    def error(self, name: str, message: str) -> ConfigError:
        """`message` with the file and the key in front."""
        return ConfigError(f"{self.path}: {self._full(name)}: {message}")

    def _full(self, name: str) -> str:
        return f"{self.name}.{name}" if self.name else name

    def _numbers(self, name: str, values: tuple, count: int | None) -> tuple[float, ...]:
        good = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not good or not values or (count is not None and len(values) != count):
            raise self.error(name, f"expected {count or 'a list of'} numbers, got {list(values)!r}")
        return tuple(float(self._usual(name, v)) for v in values)

    def _usual(self, name: str, value: float) -> float:
        if not -1e15 < value < 1e15:  # not a number, too
            raise self.error(name, "expected a number of a usual size")
        return value


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
        text = path.read_text(encoding="utf-8")
        _check_size(text, path)
        values = yaml.safe_load(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep for a config of Detectron2") from error
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


def _check_size(text: str, path: Path) -> None:
    """Bounds the values, each alias counted as all that it stands for: dumps have some, and a few can mean billions."""
    sizes: dict[str, int] = {}
    anchors: list[str | None] = [None]
    counts = [0]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(
                    f"{path}: the alias {event.anchor!r:.40} stands for what it is part of, or for nothing"
                )
            counts[-1] += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            counts[-1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
            counts.append(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            count, anchor = counts.pop(), anchors.pop()
            counts[-1] += count
            if anchor:
                sizes[anchor] = count
        if sum(counts) > MOST_VALUES or len(counts) > DEEPEST_VALUE:
            raise ConfigError(f"{path}: too many values or nested too deep for a config of Detectron2")


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
