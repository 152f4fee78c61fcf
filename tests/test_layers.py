"""The architecture, checked: who imports whom, how long files are, what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "maskrcnn"
FILES = sorted(SOURCE.rglob("*.py"))

# Imports only point up this list; rooms on one line are neighbours that may see each other.
STREET = [
    ["errors", "memory"],
    ["fields", "file_kinds", "text_proto"],
    ["config"],
    ["presets"],
    ["structures"],
    ["table"],
    ["dataset"],
    ["ops"],
    ["tracks"],
    ["instances"],
    ["data"],
    ["pipeline"],
    ["model"],
    ["weights"],
    ["predict"],
    ["inspection"],
    ["evaluation"],
    ["view"],
    ["training"],
    ["exporting"],
    ["benchmark"],
    ["serve"],
    ["options", "plan", "doctor", "demo"],
    ["cli"],
]
HOUSE_NUMBER = {room: number for number, rooms in enumerate(STREET) for room in rooms}
STRANGERS = {("model", "data")}  # data is above model on the street, but they meet in structures
LONGEST = 400


def name(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST, *, lazy: bool = True) -> Iterator[tuple[str, int]]:
    """Rooms imported by a syntax tree, with the line; not under `if TYPE_CHECKING`, in functions only if `lazy`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in line {node.lineno}: write the full name"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            yield from imported_rooms(node, lazy=lazy)
            continue
        for module in modules:
            package, _, rest = module.partition(".")
            room = rest.partition(".")[0]
            if package == "maskrcnn" and room in HOUSE_NUMBER:
                yield room, node.lineno


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_point_up_the_street(file: Path) -> None:
    room = room_of(file)
    if room in ("__init__", "__main__"):
        return
    assert room in HOUSE_NUMBER, f"{name(file)}: a new room needs its place on the street"
    # The one exception: methods of Instances open the rooms that draw and save.
    lazy = room != "instances"
    for other, line in imported_rooms(ast.parse(file.read_text()), lazy=lazy):
        assert HOUSE_NUMBER[other] <= HOUSE_NUMBER[room], f"{name(file)}:{line} imports {other}, which is further down"
        assert (room, other) not in STRANGERS, f"{name(file)}:{line}: {room} and {other} meet in structures only"


def test_the_check_sees_a_wrong_import() -> None:
    tree = ast.parse("def f():\n    from maskrcnn.training.loop import train\nimport maskrcnn.cli\n")
    assert list(imported_rooms(tree)) == [("training", 2), ("cli", 3)]
    assert list(imported_rooms(tree, lazy=False)) == [("cli", 3)]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_files_are_short(file: Path) -> None:
    lines = len(file.read_text().splitlines())
    assert lines < LONGEST, f"{name(file)} has {lines} lines: split it where it has two nouns or two verbs"


def modules_after(*imports: str) -> set[str]:
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, *imports], capture_output=True, text=True, check=True)
    return {module.partition(".")[0] for module in result.stdout.split()}


def test_the_command_line_starts_without_torch() -> None:
    light = ["errors", "config", "options", "plan", "doctor", "demo", "cli"]
    loaded = modules_after("maskrcnn", *(f"maskrcnn.{module}" for module in light))
    assert loaded.isdisjoint({"torch", "torchvision", "accelerate", "supervision", "matplotlib", "scipy"})


def test_drawing_libraries_load_only_when_something_is_drawn_or_tracked() -> None:
    tracking = {"predict/association.py", "predict/counting.py"}  # built on those libraries; track.py loads them late
    modules = [
        ".".join(("maskrcnn", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for file in FILES
        if file.name != "__main__.py" and name(file) not in tracking
    ]
    ours = modules_after(*modules) - modules_after("torchvision")  # old torchvision loads av by itself
    assert ours.isdisjoint({"supervision", "matplotlib", "cv2", "av", "trackers"})
