"""Two processes with gloo do what one does with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.two_processes import main

ROOT = Path(__file__).parents[2]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss/total"] for line in lines if "loss/total" in line]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(tmp_path, monkeypatch, accumulate):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    main(tmp_path, tmp_path / "one", 1)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["-m", "tests.training.two_processes", str(tmp_path), str(tmp_path / "two"), str(accumulate)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one, two = (load_file(tmp_path / name / "checkpoints/last/model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-4, rtol=1e-4)
    headers = [json.loads((tmp_path / name / "checkpoints/last/model.json").read_text()) for name in ("one", "two")]
    for kind in ("box", "mask"):
        assert headers[0]["metrics"][kind] == pytest.approx(headers[1]["metrics"][kind], abs=1e-4)
