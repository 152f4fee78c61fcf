"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.training.loop import train
from tests.model.tiny import tiny_config

README = Path(__file__).parents[1] / "README.md"


def test_five_lines_of_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(write_shapes(tmp_path / "runs/demo/data", train=8, val=2, size=(64, 64)))
    config = tiny_config(**{"train.steps": 2, "train.trackers": (), "data.workers": 0})
    train(config, train=dataset, out=tmp_path / "runs/demo/run", device="cpu", progress=False)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["picture"].dtype == np.uint8
    assert names["picture"].shape[2] == 3


def test_every_file_that_the_readme_names_is_there():
    root = README.parent
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text()):
        assert (root / target).exists(), target
    for room in re.findall(r"^  (\w+(?:/|\.py))", README.read_text(), re.MULTILINE):
        assert (root / "src" / "maskrcnn" / room).exists(), room
