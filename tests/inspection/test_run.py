"""Runs read from their own files, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import TrainingError
from maskrcnn.inspection.run import inspect_run
from maskrcnn.training.loop import train
from tests.training.tiny_run import tiny_backbone, tiny_config, write_squares


def write(folder: Path, rows: list[dict], **state) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if state:
        (folder / "checkpoints" / "last").mkdir(parents=True)
        (folder / "checkpoints" / "last" / "state.json").write_text(json.dumps(state))
    return folder


def steps(losses, **more) -> list[dict]:
    return [
        {"step": 10 * (i + 1), "epoch": (i + 1) / 2, "loss/total": loss, "learning_rate": 0.1,
         "gradient_norm": 1.0, "images_per_second": 4.0, "data_wait": 0.01}
        | {key: values[i] for key, values in more.items()}
        for i, loss in enumerate(losses)
    ]  # fmt: skip


FALLING = [float(value) for value in np.linspace(4, 1, 12)]


def evaluated(*values: float) -> list[dict]:
    return [{"step": 20 * (i + 1), "box/ap": value / 2, "mask/ap": value} for i, value in enumerate(values)]


def test_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setattr("maskrcnn.model.build.build_backbone", tiny_backbone)
    dataset = write_squares(tmp_path / "data", 8)
    result = train(tiny_config(), train=dataset, val=dataset[:4], out=tmp_path / "run", device="cpu", progress=False)
    run = inspect_run(tmp_path / "run")
    assert run.curves["loss/total"].steps.tolist() == [2, 4, 6]
    assert (run.steps, run.finished, run.watched) == (6, True, "mask/ap")
    assert run.best == pytest.approx(result.metrics["mask"]["ap"])
    assert run.epochs.tolist() == [1, 2, 3]
    assert run.seconds > 0
    assert run.settings["train.batch_size"] == 4


def test_a_calm_run_has_no_notes(tmp_path):
    run = inspect_run(write(tmp_path / "run", steps(FALLING) + evaluated(0.1, 0.3, 0.3), finished=True, seconds=60.0))
    assert run.notes == ()
    assert (run.best, run.best_step, run.name) == (0.3, 40, "run")
    assert run.curves["mask/ap"].steps.tolist() == [20, 40, 60], "lines are put in order"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (steps(FALLING) + evaluated(0.1, 0.5, 0.4, 0.3), "overfitting"),
        (steps(FALLING) + evaluated(0.1, 0.5, 0.4), "may be chance"),
        (steps(FALLING) + evaluated(0.1, 0.2, 0.4), "was still rising at the end (0.200, 0.400)"),
        (steps(FALLING) + evaluated(0.0, 0.0), "mask AP is 0 at every evaluation"),
        (steps(FALLING) + evaluated(-1.0, -1.0), "mask AP is not defined: the validation images hold no objects"),
        (steps(FALLING), "there was no validation"),
        (steps([3.0] * 12), "the loss does not fall: 3 at the start, 3 at the end"),
        (steps(FALLING, data_wait=[0.5] * 12), "the model waited 50% of the time for data: set data.workers higher"),
        (steps(FALLING, gradient_norm=[1.0] * 6 + [99.0] + [1.0] * 5), "99 times its median at step 70"),
        (steps(FALLING, images_per_second=[4.0] * 6 + [1.0] * 6), "the speed fell from 4 to 1 images/s"),
        (steps([*FALLING[:6], None, *FALLING[7:]]), "not finite at step 70"),
    ],
)
def test_what_is_odd_is_said(tmp_path, rows, sentence):
    if any(row.get("loss/total", 0) is None for row in rows):
        assert np.isnan(inspect_run(write(tmp_path / "run", rows)).curves["loss/total"].values[6])
    assert any(sentence in note for note in inspect_run(write(tmp_path / "run", rows)).notes)


def test_an_unfinished_run_with_a_cut_line(tmp_path):
    folder = write(tmp_path / "run", steps(FALLING) + evaluated(0.1, 0.2), finished=False, step=120)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 130, "loss/to')
    run = inspect_run(folder)
    assert run.finished is False
    assert run.steps == 120
    assert any("not finished (step 120)" in note for note in run.notes)


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(TrainingError, match="no such folder; give the --out"):
        inspect_run(tmp_path / "gone")
    with pytest.raises(TrainingError, match=r"no metrics.jsonl in it"):
        inspect_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(TrainingError, match="nothing is logged yet"):
        inspect_run(tmp_path)


def test_lines_that_are_odd(tmp_path):
    """No line of the file, whatever it holds, keeps the others from being read; a step written twice counts once."""
    folder = write(tmp_path / "run", steps(FALLING) + evaluated(0.1, 0.2) + evaluated(0.1, 0.3))
    odd = [
        {"step": 10**30, "loss/total": 1},
        {"step": -5, "loss/total": 1},
        {"step": 5, "loss/total": "x", "epoch": []},
        {"step": 7, "learning_rate": 10**400},
    ]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in odd) + "[" * 100_000 + "\n[]\n")
    run = inspect_run(folder)
    assert run.steps == 120
    assert run.curves["mask/ap"].values.tolist() == [0.1, 0.3]
    assert len(run.epochs) == len(run.curves["loss/total"]) == 12
    assert np.isnan(run.curves["learning_rate"].values[0])


def test_nothing_but_nan_warns_of_nothing_else(tmp_path):
    rows = steps([None] * 12, gradient_norm=[None] * 12, images_per_second=[None] * 12, data_wait=[None] * 12)
    assert "not finite at step 10, 20" in inspect_run(write(tmp_path / "run", rows)).notes[0]
