"""How the time of a call grows with proposals, detections, classes and image area: lines through a few points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.infer import network_input, results
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.subject import CLASSES as DEFAULT_CLASSES
from maskrcnn.benchmark.subject import DEFAULT_PHOTO, Subject, photo, photo_size, random_subject, sized
from maskrcnn.benchmark.timing import measure
from maskrcnn.config import Config
from maskrcnn.predict.predictor import Predictor

PROPOSALS = (100, 300, 1000)
DETECTIONS = (10, 50, 100)
CLASSES = (2, 20, 80, 320)
AREAS = (0.25, 0.5, 1.0)  # of the input's own
BUDGET = 12.0  # seconds a sweep


@dataclass(frozen=True)
class Line:
    """time = intercept + slope * x, by least squares.

    Attributes:
        slope, intercept: milliseconds per x, milliseconds.
        r2: part of the variance that the line explains; 1 where it is exact.
    """

    slope: float
    intercept: float
    r2: float


def fit(x: list[float], y: list[float]) -> Line:
    """Least squares through two or more different x."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.array(y) - (slope * np.array(x) + intercept)
    variance = float(np.var(y) * len(y))
    return Line(float(slope), float(intercept), 1.0 - float(rest @ rest) / variance if variance else 1.0)


def run(context: Context, subject: Subject) -> list[Row]:
    """A row for each of the four: milliseconds per unit. All with random weights, at the first size, one image."""
    size = context.settings.sizes[0] if context.settings.sizes else None
    picture = photo(photo_size(size) if size else DEFAULT_PHOTO, subject.config.model, subject.config.data)
    base = subject.config
    if size is not None:
        base = base.replace(data=sized(base.data, size))

    def points(field: str, values: tuple[int, ...]) -> list[Predictor]:
        return [_predictor(context, subject, base.replace(**{field: value})) for value in values]

    def with_classes() -> list[Predictor]:
        return [_predictor(context, subject, base, classes) for classes in CLASSES]

    def with_area() -> list[Predictor]:
        height, width = _predictor(context, subject, base).fit((picture.shape[1], picture.shape[2]))[0]
        sides = [(round(height * part**0.5), round(width * part**0.5)) for part in AREAS]
        return [_predictor(context, subject, base.replace(data=sized(base.data, side))) for side in sides]

    sweeps: dict[str, tuple[Callable[[], list[Predictor]], Callable[[Predictor, Tensor], float], float, str]] = {
        "proposals": (lambda: points("model.rpn.post_nms_test", PROPOSALS), _proposals, 100, "100 proposals"),
        "detections": (lambda: points("model.box.detections_per_image", DETECTIONS), _detections, 10, "10 detections"),
        "classes": (with_classes, lambda predictor, _: float(len(predictor.model.classes)), 10, "10 classes"),
        "image area": (with_area, _megapixels, 0.1, "0.1 megapixels of the padded input"),
    }
    rows = []
    for name, (make, count, unit, text) in sweeps.items():
        context.say(f"infer: scaling with {name}")
        predictors = make()
        rows.append(_row(context, subject.name, name, predictors, picture, count, unit, text))
    return rows


def _predictor(context: Context, subject: Subject, config: Config, classes: int = DEFAULT_CLASSES) -> Predictor:
    model = random_subject(subject.name, config, classes).model
    return Predictor(model, context.device, context.settings.precision)


def _row(
    context: Context,
    model: str,
    name: str,
    predictors: list[Predictor],
    picture: Tensor,
    count: Callable[[Predictor, Tensor], float],
    unit: float,
    text: str,
) -> Row:
    def calling(predictor: Predictor) -> Callable[[], int]:
        return lambda: results([predictor(picture, 0.0)])

    jobs = {str(number): calling(predictor) for number, predictor in enumerate(predictors)}
    times = measure(jobs, context.device, repeat=context.settings.repeat, budget=BUDGET)
    x = [count(predictor, picture) for predictor in predictors]
    milliseconds = [1e3 * times[number].median for number in jobs]
    # Background work adds up to a run; the lines through each round tell how sure the slope is.
    rounds = [fit(x, [1e3 * value for value in one]) for one in zip(*(t.seconds for t in times.values()), strict=True)]
    slopes = unit * np.array([line.slope for line in rounds])
    line = fit(x, milliseconds)
    return Row(
        part="infer",
        name=f"scaling: {name}",
        model=model,
        batch=1,
        size=None,
        median_ms=unit * line.slope,
        p90_ms=float(np.percentile(slopes, 90)),
        spread_ms=float(np.ptp(slopes)),
        repeat=len(slopes),
        extra={"per": text, "x": x, "ms": milliseconds, "intercept_ms": line.intercept, "r2": line.r2},
    )


@torch.inference_mode()
def _proposals(predictor: Predictor, picture: Tensor) -> float:
    """Those that are left after NMS, which may be fewer than asked for."""
    model = predictor.model
    assert isinstance(model, torch.nn.Module)
    images, sizes = (tensor.to(predictor.device) for tensor in network_input(predictor, [picture]))
    features = model.features(images, sizes)
    anchors = model.anchors(features, (images.shape[-2], images.shape[-1]))
    logits, deltas = model.rpn(features)
    found = model.rpn.decode(logits, deltas, anchors, sizes, train=False)
    return float(found.valid.sum())


def _detections(predictor: Predictor, picture: Tensor) -> float:
    return float(len(predictor(picture, 0.0)))


def _megapixels(predictor: Predictor, picture: Tensor) -> float:
    height, width = predictor.fit((picture.shape[1], picture.shape[2]))[1]
    return height * width / 1e6
