"""A config of MMDetection as nested dicts, from its text: never run, with its `_base_` files where they lie beside."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import MOST_TEXT, NotData, parse, value_of, value_or_unread

MOST_BASES = 50
BASE_IN_STRING = re.compile(r"\{\{\s*(_base_\.[\w.]+)\s*\}\}")


def read_config_file(path: str | Path) -> dict[str, Any]:
    """A config file with everything that it inherits. Raises `ConfigError`."""
    return _read(Path(path), [])


def config_of_text(text: str, where: str, folder: Path | None = None) -> dict[str, Any]:
    """The settings of a config's text, name -> value. What is more than data becomes `Unread`.

    Args:
        text: Python, as in a config file or in a checkpoint, where nothing is inherited any more.
        where: for messages.
        folder: where `_base_` files are looked for; None: nowhere.

    Raises:
        ConfigError: no Python, or a `_base_` that is not there.
    """
    return _evaluate(text, where, folder, [])


def _read(path: Path, above: list[Path]) -> dict[str, Any]:
    path = path.resolve()
    if path in above or len(above) >= MOST_BASES:
        raise ConfigError(f"{path}: is its own base, through {above[-1].name}; mend _base_")
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_TEXT + 1)
    except FileNotFoundError:
        asked = f", which {above[-1].name} inherits from" if above else ""
        raise ConfigError(f"{path}: no such file{asked}; give the config that mmdet dumped into the work dir") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error}); give a config of MMDetection") from error
    return _evaluate(text, str(path), path.parent, [*above, path])


def _evaluate(text: str, where: str, folder: Path | None, above: list[Path]) -> dict[str, Any]:
    try:
        tree = parse(text)
    except NotData as error:
        raise ConfigError(f"{where}: {error}; give a config of MMDetection") from None
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
        value = value_or_unread(statement.value, {**base, **names, "_base_": base})
        if name != "_base_":
            names[name] = _without_templates(value, base, where)
            continue
        for file in _bases(value, where):
            if folder is None:
                raise ConfigError(f"{where}: inherits from {file}, which a checkpoint does not hold; give config=")
            base = merged(base, _read(folder / file, above))
    return merged(base, names)


def _bases(value: Any, where: str) -> list[str]:
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, (list, tuple)) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"{where}: _base_ is no list of file names")
    if remote := [file for file in files if "::" in file or "://" in file]:
        raise ConfigError(f"{where}: inherits from {remote[0]}, in another package; give the config that mmdet dumped")
    return list(files)


def _without_templates(value: Any, base: Mapping[str, Any], where: str) -> Any:
    """ "{{_base_.name}}" as a string -> what it stands for."""
    if isinstance(value, dict):
        return {key: _without_templates(item, base, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_templates(item, base, where) for item in value)
    if isinstance(value, str) and (match := BASE_IN_STRING.fullmatch(value)):
        try:
            return value_of(parse(match[1]).body[0].value, {"_base_": base})  # type: ignore[attr-defined]
        except NotData as error:
            raise ConfigError(f"{where}: {error}") from None
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
