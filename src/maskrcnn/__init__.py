"""The complete Mask R-CNN. Public names load on first use, so that `import maskrcnn` costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Batch": "maskrcnn.structures",
    "Config": "maskrcnn.config",
    "ConfigError": "maskrcnn.errors",
    "DataError": "maskrcnn.errors",
    "Dataset": "maskrcnn.dataset",
    "Detections": "maskrcnn.structures",
    "Explanation": "maskrcnn.evaluation.explain",
    "ExportError": "maskrcnn.errors",
    "Instances": "maskrcnn.instances",
    "MaskRCNN": "maskrcnn.model.mask_rcnn",
    "MaskRCNNError": "maskrcnn.errors",
    "Metrics": "maskrcnn.evaluation.metrics",
    "Predictor": "maskrcnn.predict.predictor",
    "Problem": "maskrcnn.data.check",
    "Proposals": "maskrcnn.structures",
    "Record": "maskrcnn.structures",
    "Run": "maskrcnn.training.loop",
    "Targets": "maskrcnn.structures",
    "Tracker": "maskrcnn.predict.track",
    "Tracking": "maskrcnn.predict.track",
    "TrainingError": "maskrcnn.errors",
    "WeightsError": "maskrcnn.errors",
    "build_model": "maskrcnn.model.build",
    "check_dataset": "maskrcnn.data.check",
    "compare": "maskrcnn.evaluation.explain",
    "evaluate": "maskrcnn.evaluation.evaluate",
    "explain": "maskrcnn.evaluation.explain",
    "export": "maskrcnn.exporting.export",
    "inspect_model": "maskrcnn.inspection.model",
    "inspect_run": "maskrcnn.inspection.run",
    "inspect_weights": "maskrcnn.inspection.weights",
    "keep_memory": "maskrcnn.memory",
    "load_weights": "maskrcnn.weights.load",
    "open_dataset": "maskrcnn.data.open",
    "preset": "maskrcnn.presets",
    "track": "maskrcnn.predict.track",
    "train": "maskrcnn.training.loop",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from maskrcnn.config import Config as Config
    from maskrcnn.presets import preset as preset


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maskrcnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
