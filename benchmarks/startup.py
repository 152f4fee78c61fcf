"""How long it takes to start: `maskrcnn --help`, and from a fresh process to the first prediction of a model, by part.

python benchmarks/startup.py [MODEL] [--repeat N]

MODEL is a run, a checkpoint or an exported file; without one only `--help` is measured. Every run is a new process;
wall and processor time (user and system, which other programs disturb less), medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

FIRST_PREDICTION = """
import json, sys, time
marks = [("start Python", float(sys.argv[2]), 0.0)]
def mark(name):
    marks.append((name, time.time(), time.process_time()))
mark("start Python")
import torch
mark("import torch")
import torchvision
mark("import torchvision")
from maskrcnn import Predictor
mark("import maskrcnn")
predictor = Predictor.load(sys.argv[1], device="cpu")
mark("load the model")
import numpy
photo = numpy.zeros((480, 640, 3), numpy.uint8)
predictor(photo)
mark("first prediction")
predictor(photo)
mark("second prediction")
parts = {b[0]: (b[1] - a[1], b[2] - a[2]) for a, b in zip(marks, marks[1:])}
print(json.dumps(parts))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a run, a checkpoint or an exported file")
    parser.add_argument("--repeat", type=int, default=10, help="processes")
    given = parser.parse_args()
    show("maskrcnn --help", [help_seconds() for _ in range(given.repeat)])
    if given.model:
        runs = [first_prediction(given.model) for _ in range(given.repeat)]
        for part in runs[0]:
            show(part, [run[part] for run in runs])
        show("to the first result", [total(run) for run in runs])


def help_seconds() -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, began = processor_seconds(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "maskrcnn", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, processor_seconds() - before


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_prediction(model: str) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of each part of one process."""
    command = [sys.executable, "-c", FIRST_PREDICTION, model, str(time.time())]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {name: tuple(seconds) for name, seconds in json.loads(done.stdout.splitlines()[-1]).items()}


def total(run: dict[str, tuple[float, float]]) -> tuple[float, float]:
    parts = [seconds for name, seconds in run.items() if name != "second prediction"]
    return sum(wall for wall, _ in parts), sum(processor for _, processor in parts)


def show(name: str, seconds: list[tuple[float, float]]) -> None:
    wall, processor = (statistics.median(column) for column in zip(*seconds, strict=True))
    print(f"{name:22} {wall:6.2f} s, processor {processor:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
