"""Exported files next to torchvision: the whole call, from the uint8 photograph to masks in its own pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _infer import same_detections
from _timing import Row, compare
from _torchvision import build_pair, picture

from maskrcnn import Predictor, export

# name of the row -> (file name, options of `export`)
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenVINO float32": ("float32.xml", {}),
    "ONNX Runtime float32": ("float32.onnx", {}),
    "OpenVINO int8": ("int8.xml", {"precision": "int8"}),
}


def run(repeat: int, photo: tuple[int, int], sizes: tuple[int, int]) -> list[Row]:
    """One row per kind of file, on the CPU; `photo` is (height, width), `sizes` the network's (min, max) side.

    int8 is calibrated on the photo and its mirror image: enough for speed, not for accuracy.
    """
    device = torch.device("cpu")
    image = picture(*photo)
    pair = build_pair(*sizes, image, device)
    array = image.permute(1, 2, 0).contiguous().numpy()

    @torch.inference_mode()
    def theirs() -> dict[str, torch.Tensor]:
        return pair.theirs([image.float() / 255])[0]

    def their_masks() -> np.ndarray:
        return (theirs()["masks"][:, 0] > 0.5).numpy()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, options) in FILES.items():
            calibrate = {"calibrate": [array, np.ascontiguousarray(array[:, ::-1])]} if "precision" in options else {}
            export(pair.ours, Path(folder, file), **options, **calibrate)
            predictor = Predictor.load(Path(folder, file))
            if "precision" not in options:
                same_detections(predictor, image, theirs())

            def ours(predictor: Predictor = predictor) -> np.ndarray:
                return predictor(array, 0.0).masks

            rows.append(compare("exported", name, ours, their_masks, repeat=repeat, device=device))
    return rows
