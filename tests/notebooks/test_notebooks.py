"""Every notebook runs with tiny pictures and few steps, and its page shows its code; slow: all of it, in a kernel."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import jupytext
import pytest
from PIL import Image

from maskrcnn.memory import keep_memory

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
PAGES = ROOT / "docs" / "notebooks"
FIRST = {"STEPS": 2, "IMAGES": 10, "SIZE": 64, "WORKERS": 0}
SMALL = {
    "nuclei": {
        "STEPS": 2,
        "IMAGES": 6,
        "SIZE": 64,
        "WORKERS": 0,
        "FIRST_STEPS": 2,
        "FIRST_IMAGES": 10,
        "FIRST_SIZE": 64,
    },
    "keypoints": {"STEPS": 2, "IMAGES": 8, "SIZE": 64, "WORKERS": 0, "FIRST_STEPS": 2, "FIRST_IMAGES": 10},
    "new-classes": {**FIRST, "NEW_STEPS": 2, "NEW_IMAGES": 8},
    "video": {**FIRST, "FRAMES": 6},
    "inspect-data": {"IMAGES": 10, "SIZE": 64},
    "from-matterport": {"STEPS": 4, "IMAGES": 4, "SIZE": 64},
    "from-tensorflow": {"STEPS": 15, "IMAGES": 4, "SIZE": 64},
    "from-torchvision-and-detectron2": {**FIRST, "MORE_STEPS": 1},
}
MOST_BYTES = 150_000
MOST_IN_ALL = 4_000_000


def stem(path: Path) -> str:
    return path.stem


def cells(path: Path) -> list:
    return jupytext.read(path, fmt="py:percent").cells


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in cells(path) if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them run, so that the small model of the first serves the others."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_runs(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pyplot, "show", lambda *a, **k: None)
    pyplot.switch_backend("agg")
    keep_memory()
    if path.stem == "train":  # it makes the run that the others use, and another worker may have been first
        shutil.rmtree("runs/notebooks/shapes", ignore_errors=True)
    names: dict = {"__name__": "__main__"}
    shown = []
    for cell in cells(path):
        if cell.cell_type == "code":
            shown.append(run(cell.source, path.stem, names))
            if "parameters" in cell.metadata.get("tags", []):
                small = SMALL.get(path.stem, FIRST)
                assert small.keys() <= names.keys()
                names.update(small)
            shown += [pyplot.figure(number) for number in pyplot.get_fignums()]
            pyplot.close("all")
    assert any(isinstance(value, Image.Image) and min(value.size) > 32 for value in shown), "shows no picture"


def run(source: str, name: str, names: dict) -> object:
    """Run a cell. Returns the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names) if last else None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_says_what_will_be_seen_and_what_comes_next(path: Path) -> None:
    words = [cell.source for cell in cells(path) if cell.cell_type == "markdown"]
    assert words[0].startswith("# ")
    assert "You will" in words[0]
    assert "## What next" in words[-1]
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert "OUT = " in tagged[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in cells(path):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source) if cell.cell_type == "markdown" else []:
            assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=stem)
def test_its_page_is_not_stale(path: Path) -> None:
    page = (PAGES / f"{path.stem}.md").read_text(encoding="utf-8")
    written = re.findall(r"^```python\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    assert written == code_of(path), f"run scripts/render-notebooks {path.stem}"
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert pictures, "no picture"
    for name in pictures:
        assert (PAGES / name).stat().st_size <= MOST_BYTES, name


def test_pages_are_those_of_the_notebooks_and_small() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == {path.stem for path in NOTEBOOKS}
    named = {name for path in PAGES.glob("*.md") for name in re.findall(r"!\[[^]]+\]\(([^)]+)\)", path.read_text())}
    pictures = {path.name for path in PAGES.iterdir() if path.suffix in (".jpg", ".png")}
    assert pictures == named
    assert sum((PAGES / name).stat().st_size for name in pictures) < MOST_IN_ALL


def test_what_the_pages_print_names_no_folder_of_a_machine() -> None:
    for path in PAGES.glob("*.md"):
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", path.read_text()), path.name


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_run_in_a_kernel_as_they_are(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for path in sorted(NOTEBOOKS, key=lambda path: path.stem != "train"):
        notebook = jupytext.read(path, fmt="py:percent")
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
