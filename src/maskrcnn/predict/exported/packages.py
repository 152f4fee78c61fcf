"""Packages that only exports need, imported when they are, with the line that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from maskrcnn.errors import ExportError

EXTRA = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export", "openvino": "openvino", "nncf": "openvino"}


def need(name: str) -> ModuleType:
    """The module. Raises `ExportError` with the pip line when it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed; pip install 'maskrcnn[{EXTRA[name]}]'") from error
