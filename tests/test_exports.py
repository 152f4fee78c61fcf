"""What `import maskrcnn` offers, and that the lists of versions agree with each other."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

import maskrcnn

ROOT = Path(__file__).parents[1]


def test_public_names_are_sorted() -> None:
    names = [name for name in maskrcnn.__all__ if not name.startswith("__")]
    assert names == sorted(names)
    assert set(maskrcnn.__all__) <= set(dir(maskrcnn))


@pytest.mark.parametrize("name", maskrcnn.__all__)
def test_public_name_resolves(name: str) -> None:
    value = getattr(maskrcnn, name)
    assert isinstance(value, str) or value.__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mask'"):
        _ = maskrcnn.Mask  # type: ignore[attr-defined]


def test_version_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == maskrcnn.__version__


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"^([\w.-]+)==([\d.]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {normal(name): numbers(version) for name, version in found}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in f"{version}.0.0".split(".")[:3])


def lower_bounds() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in lines]
    assert all(found), "every dependency has one lower bound and nothing else"
    return {normal(match[1]): numbers(match[2]) for match in found if match}


def test_lowest_constraints_are_the_lower_bounds() -> None:
    wanted = {name: bound for name, bound in lower_bounds().items() if name not in ("ruff", "mypy")}
    assert pins("constraints-lowest.txt") == wanted


def test_constraints_pin_every_dependency() -> None:
    pinned = pins("constraints.txt")
    for name, bound in lower_bounds().items():
        assert pinned[name] >= bound, name


def test_the_command_is_installed() -> None:
    commands = importlib.metadata.entry_points(group="console_scripts", name="maskrcnn")
    assert [command.value for command in commands] == ["maskrcnn.cli:main"]
