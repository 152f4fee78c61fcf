"""The Python of the tutorials and guides runs, page by page, beside a small run and small data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.training.loop import train
from tests.docs.pages import DOCS, PAGES, fences, name
from tests.model.tiny import tiny_config

LESSONS = [page for room in ("tutorials", "how-to") for page in sorted((DOCS / room).glob("*.md"))]
RUN = [page for page in LESSONS if [*fences(page, "python")]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `maskrcnn demo` leaves, and the data of the second lesson; small."""
    folder = tmp_path_factory.mktemp("lessons")
    write_shapes(folder / "shapes", train=6, val=2, size=(64, 64))
    data = open_dataset(write_shapes(folder / "runs/demo/data", train=8, val=2, size=(64, 64)))
    config = tiny_config(**{"train.steps": 2, "train.trackers": (), "data.workers": 0})
    train(config, train=data, out=folder / "runs/demo/run", device="cpu", progress=False)
    return folder


@pytest.mark.parametrize("page", RUN, ids=name)
def test_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict = {}
    for code in fences(page, "python"):
        exec(compile(code.replace("train=400, val=40", "train=6, val=2"), name(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_is_python(page: Path) -> None:
    for code in fences(page, "python"):
        ast.parse(code)
