"""`maskrcnn.export`: a model to a file that other programs run, checked before it is reported."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, ExportError
from maskrcnn.exporting.quantise import need_nncf
from maskrcnn.exporting.traced import Traced, check_size, trace
from maskrcnn.exporting.verify import Agreement, verify
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.exported.model import SUFFIXES, open_run, sized_files, sized_path
from maskrcnn.predict.exported.packages import need
from maskrcnn.weights.load import load_weights

Precision = Literal["float32", "float16", "int8"]
PACKAGES: dict[str, tuple[str, ...]] = {
    ".onnx": ("onnx", "onnxscript", "onnxruntime"),
    ".xml": ("onnx", "onnxscript", "openvino"),
    ".pt2": (),
}
PRECISIONS = {".onnx": ("float32",), ".xml": ("float32", "float16", "int8"), ".pt2": ("float32",)}


@dataclass(frozen=True)
class Exported:
    """One written file; printed, it is a few lines.

    Attributes:
        path: the file.
        agreement: how it compares with the model, a row an image and number of detections.
    """

    path: Path
    agreement: list[Agreement]

    def __str__(self) -> str:
        megabytes = sum(file.stat().st_size for file in written_files(self.path)) / 1e6
        lines = [f"{self.path}: {megabytes:.0f} MB, run and compared with the model"]
        return "\n".join([*lines, *(f"  {row}" for row in self.agreement)])


def export(
    model: MaskRCNN | str | Path,
    path: str | Path,
    *,
    precision: Precision = "float32",
    size: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    batch: int | None = 1,
    opset: int | None = None,
    calibrate: Any = None,
    compiled: bool = False,
) -> list[Exported]:
    """Write a model for other runtimes, run what was written, and compare it with the model.

    Args:
        model: the model, or a checkpoint.
        path: `.onnx`; `.xml` (OpenVINO, with `.bin` beside it); `.pt2` (`torch.export`).
        precision: "float32"; for OpenVINO also "float16" (weights) and "int8" (needs `calibrate`).
        size: (height, width) of the network's input, multiples of 32: photos of any size go in and are resized inside.
            Several sizes give a file each, NAME-HxW; `Predictor.load` of `path` picks the fitting one for each photo.
            None: tensors of all sizes, resized outside.
        batch: images at a time; None: any number.
        opset: of the ONNX file; None: the default.
        calibrate: a data set, a folder or a list of images, typical ones, for int8.
        compiled: a `.pt2` with machine code (AOTInductor): faster, for this kind of processor alone.

    Returns:
        One for each file.

    Raises:
        ExportError: an unknown ending, a precision that the format lacks, a missing package, no calibration images, or
            a file that does not agree with the model.
        WeightsError: the checkpoint cannot be read.
    """
    path = Path(path)
    _check_format(path, precision, opset, calibrate, compiled)
    if not isinstance(model, MaskRCNN):
        model = load_weights(model)
    sizes = _sizes(size)
    for one in sizes:
        check_size(one, model.config)
    if calibrate is not None and not isinstance(calibrate, (str, Path, Dataset)):
        calibrate = list(calibrate)  # gone through once for each size
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    names, files = _names(path, sizes), []
    for file, one in zip(names, sizes, strict=True):
        traced = trace(model, size=one, batch=batch)
        traced = dataclasses.replace(traced, info=dataclasses.replace(traced.info, precision=precision))
        with _beside(file) as fresh:  # what was there stays until the new file is known to be good
            _write(traced, fresh, precision, opset, calibrate, compiled)
            run = open_run(fresh, torch.device("cpu"), trust=compiled)[1]
            agreement = verify(traced, run, file)
            del run
        files.append(Exported(file, agreement))
    return files


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file of the same name in a folder of its own beside it; moved to its place when all went well."""
    with _writing(path):
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-")
    with folder:
        fresh = Path(folder.name, path.name)
        yield fresh
        for file in written_files(fresh):
            file.replace(path.with_name(file.name))


def _names(path: Path, sizes: Sequence[tuple[int, int] | None]) -> list[Path]:
    """A file for each size. Raises `ExportError` for a file that would then be opened in their place or with them."""
    if len(sizes) == 1:
        return [path]
    names = [sized_path(path, size) for size in sizes]
    others = [file for file in [path, *sized_files(path)] if file.exists() and file not in names]
    if others:
        raise ExportError(
            f"{others[0]} is of an earlier export and would be opened too; remove it, or choose another name"
        )
    return names


def written_files(path: Path) -> list[Path]:
    """The file and those that belong to it."""
    return [file for file in (path, path.with_suffix(".bin"), Path(f"{path}.data")) if file.is_file()]


def _write(traced: Traced, path: Path, precision: Precision, opset: int | None, calibrate: Any, compiled: bool) -> None:
    with _writing(path):
        if path.suffix == ".onnx":
            from maskrcnn.exporting.onnx import DEFAULT_OPSET, to_onnx, write_onnx

            write_onnx(to_onnx(traced, opset or DEFAULT_OPSET), path)
        elif path.suffix == ".xml":
            from maskrcnn.exporting.calibrate import calibration_inputs
            from maskrcnn.exporting.openvino import write_openvino

            images = calibration_inputs(traced.info, calibrate) if calibrate is not None else None
            write_openvino(traced, path, precision, images)
        else:
            from maskrcnn.exporting.torch_export import write_aot_inductor, write_torch_export

            (write_aot_inductor if compiled else write_torch_export)(traced, path)


def _check_format(path: Path, precision: str, opset: int | None, calibrate: Any, compiled: bool) -> None:
    suffix = path.suffix
    if suffix not in SUFFIXES:
        raise ExportError(f"{path}: unknown ending {suffix or '(none)'}; use .onnx, .xml (OpenVINO) or .pt2 (PyTorch)")
    if precision not in PRECISIONS[suffix]:
        raise ExportError(f"{path}: {suffix} is written in {' or '.join(PRECISIONS[suffix])}, not in {precision}")
    if precision == "int8" and calibrate is None:
        raise ExportError("int8 needs typical images to measure value ranges on; give some: --calibrate FOLDER")
    if precision != "int8" and calibrate is not None:
        raise ExportError(f"calibration images are for int8, not for {precision}; add --precision int8")
    if opset is not None and suffix != ".onnx":
        raise ExportError(f"{path}: only .onnx files have an opset")
    if compiled and suffix != ".pt2":
        raise ExportError(f"{path}: only .pt2 files can be compiled")
    for package in PACKAGES[suffix]:  # before the long work
        need(package)
    if precision == "int8":
        need_nncf()


def _sizes(size: Any) -> list[tuple[int, int] | None]:
    """None, one pair, or several -> a list."""
    sizes = [None] if size is None else [size] if isinstance(size[0], int) else list(size)
    if len(set(sizes)) < len(sizes):
        raise ConfigError("the same size is given twice", field="size")
    return sizes
