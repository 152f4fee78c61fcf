"""The figures: each is drawn by its script, small, and used."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES

IMAGES = DOCS / "images"
SCRIPTS = sorted(path.stem for path in (DOCS / "figures").glob("*.py") if path.stem not in ("canvas", "draw_all"))


def test_each_picture_that_a_page_names_is_there_and_each_there_is_named() -> None:
    named = set()
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page}: {target}"
            named.add((page.parent / target).resolve())
    assert {path for path in named if path.parent == IMAGES.resolve()} == {path.resolve() for path in IMAGES.iterdir()}


def test_figures_are_small() -> None:
    assert all(path.stat().st_size < 100_000 for path in IMAGES.glob("*.svg"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_draw_what_is_in_the_repository(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    canvas, module = importlib.import_module("canvas"), importlib.import_module(script)
    monkeypatch.setattr(canvas, "IMAGES", tmp_path)
    module.main()
    (drawn,) = tmp_path.iterdir()
    assert (IMAGES / drawn.name).is_file(), f"run python docs/figures/{script}.py"
