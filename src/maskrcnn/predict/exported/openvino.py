"""OpenVINO IR files (.xml with .bin beside it)."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.predict.exported.info import KEY
from maskrcnn.predict.exported.model import Arrays, Run
from maskrcnn.predict.exported.packages import need


def open_file(path: Path, device: torch.device) -> tuple[str, Run]:
    """The description's text, and what runs the graph. Raises `ExportError`, `WeightsError`, `ConfigError`."""
    ov = need("openvino")
    if device.type != "cpu":
        raise ConfigError(f"OpenVINO files run on the CPU, not on {device.type}", field="device")
    core = ov.Core()
    # Without the hint, OpenVINO computes in bf16 where the CPU can, and the masks' borders move.
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        model = core.read_model(path)
        if not model.has_rt_info([KEY]):
            raise WeightsError(f"{path}: an OpenVINO file, but not one that `maskrcnn export` wrote")
        text = model.get_rt_info([KEY]).astype(str)
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise WeightsError(f"{path}: OpenVINO cannot open it: {str(error).splitlines()[-1]}") from error
    names = [output.get_any_name() for output in model.outputs]
    lock = threading.Lock()  # the request has one set of outputs, whoever asks

    def run(inputs: Arrays) -> Arrays:
        with lock:
            outputs = request.infer(inputs)
            return {name: outputs[index].copy() for index, name in enumerate(names)}

    return text, run
