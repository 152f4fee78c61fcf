"""The GPU script end to end on the CPU: that its sections run and report, not how fast anything is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=290)


@pytest.mark.slow
def test_every_section_runs_on_the_cpu(tmp_path):
    done = run("--smoke", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["smoke"]
    assert any("no number here is a measurement" in note for note in saved["notes"])
    assert {row["section"] for row in saved["rows"]} == {"inference", "training", "parts", "batches"}
    assert all(row["ours"] > 0 for row in saved["rows"] if "memory" not in row["name"])
    assert [check["name"] for check in saved["checks"] if check["passed"]] == [
        "NMS",
        "same arithmetic",
        "losses",
        "prefetch",
    ]
    assert {"device", "torch", "torchvision", "date"} <= saved["machine"].keys()


@pytest.mark.slow
def test_a_section_that_fails_does_not_lose_the_rest(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})
import gpu, _gpu_sections
def broken(settings, report): raise RuntimeError("no such kernel")
def hangs(settings, report):
    import time
    time.sleep(60)
_gpu_sections.checks, _gpu_sections.inference = broken, hangs
gpu.SECTIONS = {{"checks": 1, "inference": 1, "parts": 1}}
_gpu_sections.parts = lambda settings, report: report.row("parts", "a", "ms", 2.0, 4.0)
sys.argv = ["gpu.py", "--smoke", "--only", "checks,inference,parts", "--json", {str(tmp_path / "o")!r}]
real = gpu.run_section
gpu.run_section = lambda name, settings, report, left: real(name, settings, report, min(left, 2.0))
gpu.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    saved = json.loads((tmp_path / "o").read_text())
    assert "checks failed: RuntimeError: no such kernel" in saved["notes"]
    assert "inference: the budget of time ended here" in saved["notes"]
    assert [row["ratio"] for row in saved["rows"]] == [2.0]


def test_bad_options_end_in_one_sentence():
    done = run("--only", "chekcs")
    assert done.returncode == 2
    assert "unknown section chekcs; known: checks, inference" in done.stderr


def test_without_a_gpu_it_says_so():
    code = f"import sys, torch; torch.cuda.is_available = lambda: False; sys.path.insert(0, {str(SCRIPT.parent)!r})"
    code += "; sys.argv = ['gpu.py']; import gpu; gpu.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "no CUDA device: this script measures a GPU; --smoke tries the script itself on the CPU"
    )
