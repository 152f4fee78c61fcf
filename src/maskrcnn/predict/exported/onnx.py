"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import torch

from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.predict.exported.info import KEY
from maskrcnn.predict.exported.model import Arrays, Run
from maskrcnn.predict.exported.packages import need


def open_file(path: Path, device: torch.device) -> tuple[str, Run]:
    """The description's text, and what runs the graph. Raises `ExportError`, `WeightsError`, `ConfigError`."""
    ort = need("onnxruntime")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device.type)
    if provider not in ort.get_available_providers():
        raise ConfigError(
            f"this ONNX Runtime has no {device.type}; use cpu, or install onnxruntime-gpu", field="device"
        )
    chosen = provider if device.type == "cpu" else (provider, {"device_id": device.index or 0})
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = ort.InferenceSession(str(path), options, providers=[chosen])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this
        raise WeightsError(f"{path}: ONNX Runtime cannot open it: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != provider:  # it goes on with the CPU when the libraries of CUDA are missing
        raise ConfigError(
            f"ONNX Runtime cannot use {device}; use cpu, or install the CUDA libraries that it names", field="device"
        )
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise WeightsError(f"{path}: an ONNX file, but not one that `maskrcnn export` wrote")
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return text, run
