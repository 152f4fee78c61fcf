"""The benchmark's own command, on small sizes: that it runs and checks both sides, not how fast they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "benchmark.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--repeat", "1", "--threads", "1", "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=580)


@pytest.mark.slow
def test_every_part_runs(tmp_path):
    small = ("--photo", "240", "320", "--sizes", "256", "400", "--train-side", "128", "--evaluate-images", "20")
    parts = ("infer", "train", "roi_align", "paste", "evaluate")
    done = run(*parts, *small, "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "out.json").read_text())
    assert {"cpu", "threads", "torch", "device", "date"} <= set(saved["machine"])
    groups = [row["group"].split(" ")[0] for row in saved["rows"]]
    assert groups == ["inference"] * 2 + ["part"] * 11 + ["training"] + ["RoIAlign"] * 8 + ["100"] * 2 + ["evaluation"]
    assert all(row["ours_ms"] > 0 and row["theirs_ms"] > 0 for row in saved["rows"])


@pytest.mark.slow
def test_exported_files_run(tmp_path):
    done = run("export", "--photo", "120", "160", "--sizes", "128", "200", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["OpenVINO float32", "ONNX Runtime float32", "OpenVINO int8"]
    assert all(row["ours_ms"] > 0 and row["theirs_ms"] > 0 for row in rows)


@pytest.mark.slow
def test_bad_options_end_in_one_sentence():
    done = run("paste", "--device", "tpu")
    assert done.returncode != 0
    assert "unknown device 'tpu'" in done.stderr
    assert "Traceback" not in done.stderr
