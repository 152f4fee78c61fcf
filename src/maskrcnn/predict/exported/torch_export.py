"""PyTorch packages (.pt2): the graph that `torch.export` wrote, or machine code of it (AOTInductor)."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from maskrcnn.errors import ConfigError, ExportError, WeightsError
from maskrcnn.predict.exported.info import KEY, ExportInfo
from maskrcnn.predict.exported.model import Arrays, Run
from maskrcnn.predict.exported.torch_graph import Archive, Graph

DESCRIPTION = f"{KEY}.json"
"""Name of the description among the package's extra files."""
COMPILED = "data/aotinductor/"
"""Where machine code lies in a package."""
DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError, struct.error),
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError),
)


def open_file(path: Path, device: torch.device, trust: bool = False) -> tuple[str, Run]:
    """The description's text, and what runs the graph.

    Args:
        path: the package.
        device: where to run it; machine code runs on the CPU.
        trust: run machine code that is in the file.

    Raises:
        WeightsError: no such package, damaged, or with operators that no exported model has.
        ExportError: machine code without `trust`.
        ConfigError: machine code on another device than the CPU.
    """
    try:
        archive = Archive(path)
        if f"extra/{DESCRIPTION}" not in archive:
            raise WeightsError(f"{path}: a PyTorch package, but not one that `maskrcnn export` wrote")
        text = archive.read(f"extra/{DESCRIPTION}").decode()
        names = ExportInfo.from_json(text, path).outputs
        if any(name.startswith(COMPILED) for name in archive.members):
            return text, _open_compiled(path, device, trust, names)
        return text, _run(Graph(archive, path, device), names)
    except DAMAGED as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise WeightsError(f"{path}: damaged, or no PyTorch package ({reason[0]}); export the model again") from error
    except RuntimeError as error:
        raise WeightsError(f"{path}: PyTorch cannot open it: {str(error).splitlines()[0]}") from error


def _run(graph: Graph, names: Sequence[str]) -> Run:
    def run(inputs: Arrays) -> Arrays:
        outputs = graph({name: torch.from_numpy(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    return run


def _open_compiled(path: Path, device: torch.device, trust: bool, names: Sequence[str]) -> Run:
    if not trust:
        raise ExportError(
            f"{path}: holds machine code, which could do anything; if you made it yourself, open it with --trust, in "
            "Python Predictor.load(path, trust=True), else ask for an .onnx"
        )
    if device.type != "cpu":
        raise ConfigError(f"compiled .pt2 files run on the CPU, not on {device.type}", field="device")
    compiled = torch._inductor.aoti_load_package(str(path))

    @torch.inference_mode()
    def run(inputs: Arrays) -> Arrays:
        outputs = compiled(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    return run
