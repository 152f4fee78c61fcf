"""What `maskrcnn doctor` prints: versions, devices, optional packages. Paste it into a bug report."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version

import maskrcnn

OPTIONAL = {
    "cv2": "opencv-python: faster drawing",
    "onnx": "onnx: export",
    "onnxruntime": "onnxruntime: run an export",
    "timm": "timm: more trunks",
    "wandb": "wandb: tracker",
    "mlflow": "mlflow: tracker",
}


def report() -> str:
    """Several lines, one fact each."""
    lines = [f"maskrcnn {maskrcnn.__version__}, Python {platform.python_version()}, {platform.platform()}"]
    return "\n".join([*lines, *_packages(), *_devices(), *_tools()])


def _packages() -> list[str]:
    lines = []
    for requirement in requires("maskrcnn") or []:
        if "extra ==" in requirement:
            continue
        name = requirement.partition(">=")[0].partition("[")[0].strip()
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name} MISSING: pip install '{requirement}'")
    return lines


def _devices() -> list[str]:
    import torch

    lines = [f"cpu: {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        lines.append(f"cuda: no device (torch built for CUDA {built})")
    if torch.backends.mps.is_available():
        lines.append("mps: available")
    return lines


def _tools() -> list[str]:
    compiler = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    lines = [f"C++ compiler: {compiler or 'none (train.compile on the CPU needs one)'}"]
    for module, purpose in OPTIONAL.items():
        lines.append(f"optional {purpose}: {'installed' if importlib.util.find_spec(module) else 'not installed'}")
    return lines
