"""What a GPU has to tell about maskrcnn, in one call of under nine minutes: is it right, how fast, how large.

python benchmarks/gpu.py [--budget 520] [--json FILE] [--only checks,inference,...] [--smoke]

checks        kernels, CUDA graphs, precision and training against the CPU; synchronisations counted
inference     photo to masks, batch 1 and 8, against torchvision's maskrcnn_resnet50_fpn in float32 and under AMP
training      R50-FPN at 800 x 1333, batch 16 (less where that does not fit), against torchvision's reference step
parts         where the time of a call goes: stages, and the largest kernels
compiled      inference and training once more through Inductor (a minute or more to compile each)
batches       images a second for batches of 1 to 32, and for smaller and larger images

Needs torch, torchvision, accelerate, hotcoco, numpy, pillow, safetensors and this repository; downloads nothing. Each
section stands alone: a failure is reported and the next one runs. Results are printed, and written to --json, as soon
as they are there. The exit status is 1 where a check or a section failed.

--smoke runs the same code on the CPU with tiny images: it proves that the script works and measures nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # also where the package is not installed

# Section -> seconds that it takes, generously; a section is left out where less is left.
SECTIONS = {"checks": 90, "inference": 60, "training": 60, "parts": 40, "compiled": 150, "batches": 40}


class OutOfTime(Exception):
    """The budget ended inside a section."""


@dataclass(frozen=True)
class Settings:
    """How large everything is."""

    device: torch.device
    precision: Literal["float32", "bf16", "fp16"]
    photo: tuple[int, int]
    sizes: tuple[int, int]
    """(min, max) side of the network's input."""
    train_size: tuple[int, int]
    """(height, width) of training images."""
    objects: int
    batches: tuple[int, ...]
    train_batches: tuple[int, ...]
    """The first that fits."""
    throughput: tuple[int, ...]
    nms: tuple[int, ...]
    repeat: int
    steps: int
    """Training steps in one timed run."""


GPU = Settings(
    device=torch.device("cuda"),
    precision="bf16",
    photo=(480, 640),
    sizes=(800, 1333),
    train_size=(800, 1333),
    objects=8,
    batches=(1, 8),
    train_batches=(16, 8, 4, 2),
    throughput=(1, 2, 4, 8, 16, 32),
    nms=(1, 33, 1000, 4819, 8819),
    repeat=9,
    steps=3,
)
SMOKE = Settings(
    device=torch.device("cpu"),
    precision="float32",
    photo=(120, 160),
    sizes=(128, 208),
    train_size=(64, 64),
    objects=2,
    batches=(1,),
    train_batches=(2,),
    throughput=(1,),
    nms=(1, 33, 100),
    repeat=1,
    steps=1,
)


@dataclass
class Report:
    """Rows, checks and notes as they come; printed at once, and written to a file each time."""

    file: Path | None
    smoke: bool
    began: float = field(default_factory=time.monotonic)
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, section: str, name: str, unit: str, ours: float | None, theirs: float | None = None) -> None:
        """A number of each side; the ratio says how many times better we are."""
        ratio = None
        if ours and theirs:
            ratio = ours / theirs if unit == "img/s" else theirs / ours
        self.rows.append(
            {"section": section, "name": name, "unit": unit, "ours": ours, "torchvision": theirs, "ratio": ratio}
        )
        cells = ["-" if value is None else f"{value:.2f}" for value in (ours, theirs)]
        print(
            f"{name:<84} {cells[0]:>10} {cells[1]:>12} {unit:<6} {'' if ratio is None else f'{ratio:.2f}x'}", flush=True
        )
        self.write()

    def check(self, name: str, job: Callable[[], str]) -> None:
        """Run a check; a failure is a line, not the end."""
        began = time.monotonic()
        try:
            text, passed = job(), True
        except OutOfTime:
            raise
        except Exception as error:
            text, passed = f"{type(error).__name__}: {error}", False
        seconds = time.monotonic() - began
        self.checks.append({"name": name, "passed": passed, "text": text, "seconds": seconds})
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {text} ({seconds:.1f} s)", flush=True)
        self.write()

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"note: {text}", flush=True)
        self.write()

    def write(self) -> None:
        if self.file:
            values = asdict(self) | {"seconds": time.monotonic() - self.began}
            values.pop("began")
            self.file.write_text(json.dumps(values | {"file": str(self.file)}, indent=1) + "\n")

    @property
    def passed(self) -> bool:
        return all(check["passed"] for check in self.checks) and not any("failed" in note for note in self.notes)


def main() -> None:
    options = parse()
    if not options.smoke and not torch.cuda.is_available():
        sys.exit("no CUDA device: this script measures a GPU; --smoke tries the script itself on the CPU")
    settings = SMOKE if options.smoke else GPU
    report = Report(options.json, options.smoke)
    report.machine = machine(settings.device)
    print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    if options.smoke:
        report.note("--smoke: tiny sizes on the CPU; no number here is a measurement")
    print(f"{'':<84} {'ours':>10} {'torchvision':>12}")
    for name, needed in SECTIONS.items():
        left = options.budget - (time.monotonic() - report.began)
        if name not in options.only:
            continue
        if left < needed and not options.smoke:
            report.note(f"{name} left out: {left:.0f} s of the budget are left, it takes about {needed} s")
            continue
        print(f"--- {name}", flush=True)
        run_section(name, settings, report, left)
    print(f"{time.monotonic() - report.began:.0f} s; {'all passed' if report.passed else 'NOT ALL PASSED'}")
    sys.exit(not report.passed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=520, help="seconds for everything (default 520)")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    parser.add_argument("--only", type=names, default=tuple(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--smoke", action="store_true", help="try the script on the CPU with tiny sizes")
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"unknown section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    return chosen


def run_section(name: str, settings: Settings, report: Report, seconds: float) -> None:
    """One section, whose failure is a note: what is missing on a machine must not cost what is there."""
    try:
        with alarm(seconds):
            import _gpu_sections

            getattr(_gpu_sections, name)(settings, report)
    except OutOfTime:
        report.note(f"{name}: the budget of time ended here")
    except Exception as error:
        report.note(f"{name} failed: {type(error).__name__}: {error}")
        traceback.print_exc()
    if settings.device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` inside after so many seconds, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1.0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    found: dict[str, Any] = {"device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found = {"device": properties.name, "memory": f"{properties.total_memory / 2**30:.0f} GiB"}
        found |= {"capability": f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda}
        found["cudnn"] = torch.backends.cudnn.version()
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = "none"
    return found | {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "date": datetime.date.today().isoformat(),
    }


if __name__ == "__main__":
    main()
