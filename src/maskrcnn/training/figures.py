"""Pictures for trackers: a few validation images after each evaluation, and figures of the last one.

TensorBoard, Weights & Biases and MLflow take pictures, each by a call of its own. The drawing libraries are imported
here only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.explain import explain_findings, look_at
from maskrcnn.evaluation.findings import Findings

TAKE_PICTURES = ("tensorboard", "wandb", "mlflow")
SCORE = 0.5
"""Least score of a result that is drawn."""
GAP = 8  # pixels between truth and results


def validation_pictures(findings: Findings, dataset: Dataset, count: int) -> dict[str, np.ndarray]:
    """`validation/1` ... -> (h, w, 3) uint8: truth left, results right; always the same images, spread over the data.

    Raises:
        ImportError: a drawing library is missing.
    """
    from maskrcnn.view.evaluation_draw import draw_worst

    looked_at = {*findings.image_ids}
    annotated = np.flatnonzero(dataset.table.counts > 0)
    rows = annotated if len(annotated) else np.arange(len(dataset))
    rows = rows[np.linspace(0, len(rows), min(count, len(rows)), endpoint=False).astype(int)]
    chosen = dataset.take([row for row in rows.tolist() if int(dataset.table.image_ids[row]) in looked_at])
    pictures = {}
    for number, (record, image) in enumerate(zip(chosen.records, look_at(findings, chosen, SCORE), strict=True), 1):
        truth, results = draw_worst(image, record)
        gap = np.full((len(truth), GAP, 3), 255, np.uint8)
        pictures[f"validation/{number}"] = np.concatenate([truth, gap, results], axis=1)
    return pictures


def final_figures(findings: Findings, dataset: Dataset) -> dict[str, np.ndarray]:
    """`evaluation/precision_recall` ... -> (h, w, 3) uint8, see `evaluation_plots`. Raises `ImportError` as above."""
    from maskrcnn.view.evaluation_plots import evaluation_plots

    explained = explain_findings(findings, dataset, samples=0, worst=0)
    return {f"evaluation/{name}": pixels for name, pixels in evaluation_plots(explained).items()}


def send_pictures(
    trackers: Sequence[Any], pictures: Mapping[str, np.ndarray], step: int, *, late: bool = False
) -> None:
    """Give pictures to the trackers that take some.

    Args:
        trackers: Accelerate's.
        pictures: name -> (h, w, 3) uint8.
        step: of the weights.
        late: later steps have been logged; Weights & Biases then gets them with its next line.
    """
    for tracker in trackers:
        if tracker.name == "tensorboard":
            images = {name: pixels[None] for name, pixels in pictures.items()}
            tracker.log_images(images, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            options: dict[str, Any] = {"step": None, "commit": False} if late else {"step": step}
            tracker.log_images({name: [pixels] for name, pixels in pictures.items()}, **options)
        elif tracker.name == "mlflow":
            import mlflow

            for name, pixels in pictures.items():
                mlflow.log_image(pixels, f"{name}/{step:07d}.png")
