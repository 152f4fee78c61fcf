"""Scoring beside training: what the model found is measured in a thread while the next steps run.

Prediction needs the device and stays where it is; scoring is matching of masks on the host. Weights move on meanwhile,
so those that were evaluated are kept until it is known whether they are the best.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.findings import Findings, score
from maskrcnn.evaluation.metrics import Metrics


@dataclass(frozen=True)
class Evaluated:
    """What is being scored.

    Attributes:
        step, epoch: of the weights.
        weights: a copy of them on the CPU; empty where nobody will save them.
        seconds: that finding took.
        pictures: validation images to draw.
    """

    step: int
    epoch: int
    weights: dict[str, Tensor]
    seconds: float
    pictures: int = 0


@dataclass(frozen=True)
class Scored:
    """What came out.

    Attributes:
        evaluated, findings, metrics: what was scored, and how good it is.
        pictures: validation images by name, see `validation_pictures`.
        note: why there are none, or "".
    """

    evaluated: Evaluated
    findings: Findings
    metrics: Metrics
    pictures: dict[str, np.ndarray]
    note: str


class Scoring:
    """At most one evaluation on its way."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._future: Future[Scored] | None = None

    def start(self, findings: Findings, dataset: Dataset, evaluated: Evaluated) -> None:
        """Begin to score. The one before must have been taken."""
        assert self._future is None
        self._future = self._pool.submit(_scored, findings, dataset, evaluated)

    @property
    def ready(self) -> bool:
        """Whether an answer waits; `take` then costs nothing."""
        return self._future is not None and self._future.done()

    def take(self) -> Scored | None:
        """The answer, waiting for it; None where nothing is being scored. Raises what scoring raised."""
        future, self._future = self._future, None
        return future.result() if future else None

    def close(self) -> None:
        """Wait for the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _scored(findings: Findings, dataset: Dataset, evaluated: Evaluated) -> Scored:
    metrics, pictures, note = score(findings, dataset), {}, ""
    if evaluated.pictures:
        from maskrcnn.training.figures import validation_pictures

        try:
            pictures = validation_pictures(findings, dataset, evaluated.pictures)
        except ImportError as error:
            note = no_pictures(error)
    return Scored(evaluated, findings, metrics, pictures, note)


def no_pictures(error: ImportError) -> str:
    """Training goes on without them."""
    return f"note: no pictures for the trackers ({error}); pip install supervision, or set train.log_images to 0"


def weights_on_cpu(model: nn.Module) -> dict[str, Tensor]:
    """A copy of parameters and buffers that training does not touch."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
