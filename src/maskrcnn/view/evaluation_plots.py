"""Figures of an evaluation as pixels, for trackers: curves, confusion, kinds of error, calibration. By matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.evaluation.confusion import Confusion
from maskrcnn.evaluation.explain import Explanation
from maskrcnn.evaluation.tide import ERRORS
from maskrcnn.view.draw import COLORS
from maskrcnn.view.evaluation_charts import shown_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 8  # classes in one plot, beside all of them together
_DPI = 100


def evaluation_plots(explanation: Explanation) -> dict[str, np.ndarray]:
    """Name -> (h, w, 3) uint8, of the masks where there are any: `precision_recall`, `confusion`, `errors` (what each
    kind costs), `calibration`."""
    part = explanation.parts["mask" if "mask" in explanation.parts else "box"]
    drawn = {}
    figure, (left, right) = _figure(9, 4, 2)
    frequent = sorted((c for c in part.curves if c.objects), key=lambda curve: -curve.objects)[:MOST_LINES]
    grid = np.linspace(0, 1, 101)
    for index, curve in enumerate([part.overall, *(frequent if len(part.curves) > 1 else [])]):
        color = "black" if not index else COLORS[(index - 1) % len(COLORS)]
        left.plot(grid, curve.precision, color=color, label=curve.name)
        right.plot(grid, curve.f1, color=color)
    right.axvline(part.overall.best_score, color="grey", linestyle="--")
    _titled(left, f"precision over recall at IoU {explanation.iou:g}", "recall", "precision")
    _titled(right, f"F1, best at a score of {part.overall.best_score:.2f}", "score threshold", "F1")
    left.legend(fontsize=8)
    drawn["precision_recall"] = _pixels(figure)
    drawn["confusion"] = _confusion(part.confusion)
    figure, (axes,) = _figure(6, 3.5)
    for index, (kind, one) in enumerate(explanation.parts.items()):
        places = np.arange(len(ERRORS)) + 0.4 * index
        axes.bar(places, [one.tide.costs[name] for name in ERRORS], 0.38, label=kind, color=COLORS[1 + 3 * index])
    axes.set_xticks(np.arange(len(ERRORS)) + 0.2 * (len(explanation.parts) - 1), ERRORS)
    _titled(axes, "AP lost by kind of error", "", "AP")
    axes.legend(fontsize=8)
    drawn["errors"] = _pixels(figure)
    figure, (axes,) = _figure(5, 4)
    bins = [one for one in part.calibration.bins if one.count]
    axes.bar([one.low + 0.05 for one in bins], [one.right for one in bins], 0.09, color=COLORS[1])
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--")
    _titled(axes, f"right results by score, off by {part.calibration.ece:.3f}", "score", "right")
    drawn["calibration"] = _pixels(figure)
    return drawn


def _confusion(confusion: Confusion) -> np.ndarray:
    chosen = shown_classes(confusion)
    counts = np.array(confusion.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.35 * len(chosen) + 1.5)
    figure, (axes,) = _figure(side + 0.5, side)
    axes.imshow(shares[np.ix_(chosen, chosen)], cmap="Blues", vmin=0, vmax=1)
    names = [confusion.names[index] for index in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(chosen)), names, fontsize=8)
    for y, row in enumerate(chosen):
        for x, column in enumerate(chosen):
            if counts[row, column]:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(x, y, str(counts[row, column]), ha="center", va="center", fontsize=7, color=color)
    _titled(axes, f"true class against found, score {confusion.score:.2f} or more", "found", "true")
    return _pixels(figure)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Without pyplot, which keeps a global state and picks a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(1, columns)))


def _titled(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
