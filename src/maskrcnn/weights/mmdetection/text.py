"""A config of MMDetection as nested dicts, from its text: never run, with its `_base_` files where they lie beside."""

from __future__ import annotations

import ast
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import MOST_TEXT, Budget, NotData, TooMuch, parse, value_of, value_or_unread

MOST_BASES = 50
BASE_IN_STRING = re.compile(r"\{\{\s*(_base_\.[\w.]+)\s*\}\}")


@dataclass
class _Reading:
    """What is left for a config and all that it inherits.

    Attributes:
        budget: items of their values.
        files: bases that were opened.
    """

    budget: Budget = field(default_factory=Budget)
    files: int = 0


def read_config_file(path: str | Path) -> dict[str, Any]:
    """A config file with everything that it inherits. Raises `ConfigError`."""
    return _read(Path(path), [], _Reading())


def config_of_text(text: str, where: str, folder: Path | None = None) -> dict[str, Any]:
    """The settings of a config's text, name -> value. What is more than data becomes `Unread`.

    Args:
        text: Python, as in a config file or in a checkpoint, where nothing is inherited any more.
        where: for messages.
        folder: where `_base_` files are looked for; None: nowhere.

    Raises:
        ConfigError: no Python, a `_base_` that is not there, or too many values.
    """
    return _evaluate(text, where, folder, [], _Reading())


def _read(path: Path, above: list[Path], reading: _Reading) -> dict[str, Any]:
    path = path.resolve()
    reading.files += 1
    if reading.files > MOST_BASES:
        raise ConfigError(f"{path}: is one of more than {MOST_BASES} files that are inherited; mend _base_")
    if path in above:
        raise ConfigError(f"{path}: is its own base, through {above[-1].name}; mend _base_")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_TEXT + 1)
    except FileNotFoundError:
        asked = f", which {above[-1].name} inherits from" if above else ""
        raise ConfigError(f"{path}: no such file{asked}; give the config that mmdet dumped into the work dir") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error}); give a config of MMDetection") from error
    return _evaluate(text, str(path), path.parent, [*above, path], reading)


def _evaluate(text: str, where: str, folder: Path | None, above: list[Path], reading: _Reading) -> dict[str, Any]:
    try:
        return _settings(parse(text), where, folder, above, reading)
    except (NotData, TooMuch) as error:
        raise ConfigError(f"{where}: {error}; give a config of MMDetection") from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply; give a config of MMDetection") from None


def _settings(
    tree: ast.Module, where: str, folder: Path | None, above: list[Path], reading: _Reading
) -> dict[str, Any]:
    """Statement by statement. Raises `TooMuch`."""
    base: dict[str, Any] = {}
    names: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.With) and "read_base" in ast.unparse(statement.items[0].context_expr):
            raise ConfigError(
                f"{where}: line {statement.lineno} inherits through imports (read_base), which are not run; give the "
                "config that mmdet dumped into the work dir, where everything is written out"
            )
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue  # imports, functions: whoever needs their names is Unread
        name = statement.targets[0].id
        known: Mapping[str, Any] = ChainMap({"_base_": base}, names, base)
        value = value_or_unread(statement.value, known, reading.budget)
        reading.budget.take_value(value)
        if name != "_base_":
            names[name] = _without_templates(value, base, where, reading.budget)
            continue
        for file in _bases(value, where):
            if folder is None:
                raise ConfigError(
                    f"{where}: inherits from {file}, which a checkpoint does not hold; give it with config= "
                    "(--model-config)"
                )
            base = merged(base, _read(folder / file, above, reading))
    return merged(base, names)


def _bases(value: Any, where: str) -> list[str]:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, (list, tuple)) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"{where}: _base_ is no list of file names")
    if remote := [file for file in files if "::" in file or "://" in file]:
        raise ConfigError(f"{where}: inherits from {remote[0]}, in another package; give the config that mmdet dumped")
    return list(files)


def _without_templates(value: Any, base: Mapping[str, Any], where: str, budget: Budget) -> Any:
    """ "{{_base_.name}}" as a string -> what it stands for."""
    if isinstance(value, dict):
        return {key: _without_templates(item, base, where, budget) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_templates(item, base, where, budget) for item in value)
    if isinstance(value, str) and (match := BASE_IN_STRING.fullmatch(value)):
        try:
            found = value_of(parse(match[1]).body[0].value, {"_base_": base}, budget)  # type: ignore[attr-defined]
        except NotData as error:
            raise ConfigError(f"{where}: {error}") from None
        budget.take_value(found)
        return found
    return value


def merged(base: Any, own: Any) -> Any:
    """A child's settings on those of its base: dicts entry by entry unless `_delete_` says otherwise, entries of a list
    by number where the child gives a dict of them, all else replaced."""
    if not isinstance(own, dict):
        return own
    fresh = {key: value for key, value in own.items() if key != "_delete_"}
    if isinstance(base, list) and fresh and all(str(key).isdigit() and int(key) < len(base) for key in fresh):
        return [merged(item, fresh[str(i)]) if str(i) in fresh else item for i, item in enumerate(base)]
    if own.get("_delete_") or not isinstance(base, dict):
        return {key: merged(None, value) for key, value in fresh.items()}
    return {**base, **{key: merged(base.get(key), value) for key, value in fresh.items()}}
