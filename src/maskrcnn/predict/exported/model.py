"""An exported file that answers to the names of a `MaskRCNN`, so that a `Predictor` need not know the difference."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import Config, DataConfig, ModelConfig
from maskrcnn.data.resize import resized_size
from maskrcnn.errors import ConfigError, ExportError, WeightsError
from maskrcnn.predict.exported.info import LARGEST, MOST_IMAGES, SMALLEST, ExportInfo
from maskrcnn.structures import Detections, KeypointSchema

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
"""Inputs by name -> outputs by name, those of `ExportInfo.outputs`."""

SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch_export"}
"""File endings and the module beside this one that opens them: `open_file(path, device) -> (text, Run)`."""
OVERRIDES = ("box.score_threshold", "mask.threshold", "mask.paste")
"""What can still be changed after the export."""


class ExportedModel:
    """A graph in a file and its description.

    Attributes:
        path: the file.
        info: its description.
        classes, category_ids, config, data, keypoints: as of a `MaskRCNN`.
    """

    def __init__(self, path: Path, info: ExportInfo, run: Run) -> None:
        self.path, self.info, self.run = path, info, run
        self.classes, self.category_ids = info.classes, info.category_ids
        self.config: ModelConfig = info.model
        self.data: DataConfig = info.data
        self.keypoints: KeypointSchema | None = info.keypoints

    def __call__(self, images: Tensor, sizes: Tensor) -> Detections:
        """As `MaskRCNN`: images (B, C, H, W), sizes (B, 2) of their content -> detections, on the CPU.

        Raises:
            ExportError: sides or more images than the graph was exported for.
        """
        info, count = self.info, len(images)
        height, width = int(images.shape[2]), int(images.shape[3])
        fits = all(SMALLEST <= side <= LARGEST and side % info.unit == 0 for side in (height, width))
        if info.takes == "tensor" and not fits:
            raise ExportError(
                f"{self.path}: takes sides that are multiples of {info.unit} from {SMALLEST} to {LARGEST}, got "
                f"{height}x{width}; resize the image, or export with --size"
            )
        if info.batch is None and count > MOST_IMAGES:
            raise ExportError(f"{self.path}: takes at most {MOST_IMAGES} images at a time, got {count}; give fewer")
        if info.batch is not None and count > info.batch:
            raise ExportError(
                f"{self.path}: exported for {info.batch} images at a time, got {count}; "
                "export again with --batch, or without it for any number"
            )
        missing = (info.batch or count) - count  # a last, smaller batch is filled with black images
        inputs = {
            "images": np.pad(images.numpy().astype(info.image_dtype, copy=False), [(0, missing)] + 3 * [(0, 0)]),
            "score_threshold": np.asarray(self.config.box.score_threshold, np.float32),
        }
        if info.takes == "tensor":
            inputs["sizes"] = np.pad(sizes.numpy().astype(np.int64), [(0, missing), (0, 0)], constant_values=SMALLEST)
        outputs = self.run(inputs)
        return Detections(**{name: torch.from_numpy(value[:count]) for name, value in outputs.items()})


def is_exported(path: str | Path) -> bool:
    """Whether the name ends like that of an exported file."""
    return Path(path).suffix in SUFFIXES


def open_exported(
    path: str | Path, device: torch.device, overrides: Mapping[str, Any] | None = None, *, trust: bool = False
) -> ExportedModel:
    """Open what `export` wrote.

    Args:
        path: `.onnx`, `.xml` or `.pt2`; where it was exported for several sizes, the name that was given then.
        device: where to run it.
        overrides: dotted fields of the model config, those of `OVERRIDES`.
        trust: run a file that holds machine code.

    Raises:
        WeightsError: nothing there, not one of ours, or damaged.
        ExportError: the package that runs it is not installed; machine code that is not trusted.
        ConfigError: an override of something that is fixed in the graph; a device that the runtime does not have.
    """
    path = Path(path)
    files = [path] if path.is_file() else sized_files(path)
    if not files:
        raise WeightsError(f"{path}: no such file")
    opened = [open_run(file, device, trust=trust) for file in files]
    info = opened[0][0]
    for file, (other, _) in zip(files, opened, strict=True):
        if dataclasses.replace(other, size=info.size) != info:
            raise WeightsError(f"{file} and {files[0]} hold different models; remove what is left of an earlier export")
    for name in overrides or {}:
        if name not in OVERRIDES:
            raise ConfigError(f"fixed when the model was exported; only {', '.join(OVERRIDES)} can change", field=name)
    model = (
        Config(model=info.model).replace(**{f"model.{name}": value for name, value in (overrides or {}).items()}).model
    )
    run = opened[0][1] if len(opened) == 1 else _fitting(opened)
    return ExportedModel(path, dataclasses.replace(info, model=model), run)


def open_run(path: Path, device: torch.device, *, trust: bool = False) -> tuple[ExportInfo, Run]:
    """The description of one file, and what runs it. Raises as `open_exported`."""
    runtime = importlib.import_module(f"maskrcnn.predict.exported.{SUFFIXES[path.suffix]}")
    text, run = runtime.open_file(path, device, trust) if path.suffix == ".pt2" else runtime.open_file(path, device)
    return ExportInfo.from_json(text, path), run


def sized_path(path: Path, size: tuple[int, int] | None) -> Path:
    """The file for one of several sizes: NAME-HxW.onnx."""
    return path if size is None else path.with_stem(f"{path.stem}-{size[0]}x{size[1]}")


def sized_files(path: Path) -> list[Path]:
    """The files for several sizes that lie beside each other, in order."""
    named = re.compile(re.escape(path.stem) + r"-\d+x\d+" + re.escape(path.suffix))
    return sorted(file for file in path.parent.glob(f"*{path.suffix}") if named.fullmatch(file.name))


def _fitting(opened: Sequence[tuple[ExportInfo, Run]]) -> Run:
    """Of graphs with different sizes, run the one in which a photo keeps most of its pixels, with least padding."""

    def run(inputs: Arrays) -> Arrays:
        height, width = inputs["images"].shape[2:]

        def loss(one: tuple[ExportInfo, Run]) -> tuple[float, int]:
            rows, columns = one[0].size or (0, 0)
            wanted = resized_size(height, width, one[0].data)[0] / height
            return -min(rows / height, columns / width, wanted), rows * columns

        return min(opened, key=loss)[1](inputs)

    return run
