"""The HTML page of `maskrcnn inspect weights`: every layer's numbers, what is odd about them, and a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskrcnn.inspection.weights import Difference, Layer, Weights, change_of, part_rows, rank_of
from maskrcnn.view.charts import histogram, line_chart, spark
from maskrcnn.view.report import Html, folded, page, paragraph, row, section, table, tiles, write_page

MOST_ROWS = 2000  # tensors in the tables
KINDS = {
    "equal": "equal bit for bit",
    "changed": "changed",
    "shape": "of another shape",
    "missing": "only in the first",
    "extra": "only in the second",
}


def weights_report(weights: Weights, path: str | Path) -> Path:
    """Write the page.

    Args:
        weights: see `inspect_weights`.
        path: of the page; its folder is made.

    Returns:
        The path.

    Raises:
        OSError: the page cannot be written.
    """
    parts = [_summary(weights), _spread(weights), _statistics(weights)]
    parts += [_comparison(weights)] if weights.differences else []
    parts += [_layers(weights)]
    classes = ", ".join(weights.classes[:12]) + (" ..." if len(weights.classes) > 12 else "")
    subtitle = f"{len(weights.classes)} classes: {classes}" + (
        f"; compared with {weights.other}" if weights.other else ""
    )
    return write_page(path, page(f"Weights: {weights.name}", *parts, subtitle=subtitle))


def _summary(weights: Weights) -> Html:
    layers = weights.layers
    total, trained = sum(layer.size for layer in layers), sum(layer.size for layer in layers if layer.trains)
    numbers = {
        "tensors": f"{len(layers):,}",
        "numbers": f"{total / 1e6:.1f} M",
        "of them train": f"{100 * trained / max(total, 1):.0f} %",
        "dead channels": f"{sum(len(layer.dead) for layer in layers if layer.kind == 'weight'):,}",
        "exploded channels": f"{sum(len(layer.exploded) for layer in layers):,}",
        "NaN or infinite": f"{sum(layer.nan + layer.inf for layer in layers):,}",
    }
    notes = [paragraph(f"{note[0].upper()}{note[1:]}.", kind="warning") for note in weights.notes]
    if not notes:
        notes = [paragraph("Nothing is odd: no NaN, no dead and no exploded channel.")]
    head = ["part", "tensors", "numbers", "train", "std of weights", "dead", "exploded", "NaN, Inf"]
    frozen = (
        "What does not train is frozen: the first stages of a pretrained trunk and its norms as a rule "
        "(model.backbone.frozen_stages, model.backbone.norm)."
    )
    return section("Summary", tiles(numbers), *notes, table(head, part_rows(weights)), paragraph(frozen, kind="soft"))


def _spread(weights: Weights) -> Html:
    """Std and largest weight of each layer from the first to the last."""
    layers = [layer for layer in weights.layers if layer.kind == "weight"]
    if not layers:
        return Html("")
    places = np.arange(1, len(layers) + 1)
    largest = np.array([max(abs(layer.low), abs(layer.high)) for layer in layers])
    series = {
        "standard deviation": (places, np.array([layer.std for layer in layers])),
        "largest in size": (places, largest),
    }
    starts = [(float(i + 1), layer.part) for i, layer in enumerate(layers) if not i or layers[i - 1].part != layer.part]
    chart = line_chart(series, "Weights of each layer", label="layer, first to last", log=True, marks=starts)
    share = sum(layer.trains for layer in layers)
    note = (
        "A healthy network changes slowly from layer to layer. A layer far below its neighbours passes nothing on; one "
        f"far above, or whose largest weight is hundreds of times its deviation, has a few wild channels. {share} of "
        f"these {len(layers)} layers train."
    )
    return section("From layer to layer", paragraph(note), chart)


def _statistics(weights: Weights) -> Html:
    """Running means and variances of norms."""
    rows = [
        [layer.name, int(layer.size), *(f"{value:.3g}" for value in (layer.mean, layer.low, layer.high)), _marks(layer)]
        for layer in weights.layers
        if layer.kind == "statistics"
    ]
    if not rows:
        return Html("")
    note = (
        "Batch norms keep the mean and the variance that each channel had in training; predictions depend on them. A "
        "variance of nearly 0 belongs to a channel that is always silent; a huge one to a layer before it that has "
        "exploded."
    )
    return section("Norm statistics", paragraph(note), folded(f"{len(rows):,} tensors", table(
        ["tensor", "channels", "mean", "min", "max", ""], rows[:MOST_ROWS])))  # fmt: skip


def _layers(weights: Weights) -> Html:
    note = (
        "Each histogram runs from the smallest to the largest number, its height is the square root of the "
        "count. A bell "
        "around 0 is what training makes of weights. One column: all numbers are equal, the layer was never trained."
    )
    parts: list[Html] = []
    head = ["tensor", "shape", "", "mean", "std", "min", "max", "zeros", "trains", "odd"]
    room = MOST_ROWS
    for part in weights.parts:
        layers = [layer for layer in weights.layers if layer.part == part and layer.kind != "statistics"]
        rows = [_row(layer) for layer in layers[:room]]
        room -= len(rows)
        odd = sum(bool(_marks(layer)) for layer in layers)
        title = f"{part}: {len(layers):,} tensors" + (f", {odd} with something odd" if odd else "")
        if rows:
            parts.append(folded(title, table(head, rows)))
    return section("Layers", paragraph(note), *parts)


def _row(layer: Layer) -> list[object]:
    hint = f"{layer.name}: {layer.low:.3g} to {layer.high:.3g}"
    return [
        layer.name,
        " x ".join(map(str, layer.shape)) or "1",
        spark(layer.counts, hint),
        *(f"{value:.3g}" for value in (layer.mean, layer.std, layer.low, layer.high)),
        f"{100 * layer.zeros:.0f} %" if layer.zeros else "",
        "yes" if layer.trains else "no",
        _marks(layer),
    ]


def _marks(layer: Layer) -> str:
    found = []
    if layer.nan or layer.inf:
        found.append(f"{layer.nan:,} NaN, {layer.inf:,} infinite")
    if layer.dead:
        found.append(f"{'shut' if layer.kind == 'norm' else 'dead'}: {_listed(layer.dead)}")
    if layer.exploded:
        found.append(f"exploded: {_listed(layer.exploded)}")
    return "; ".join(found)


def _listed(channels: tuple[int, ...]) -> str:
    return ", ".join(map(str, channels[:6])) + (f" and {len(channels) - 6:,} more" if len(channels) > 6 else "")


# ---------------------------------------------------------------- comparison


def _comparison(weights: Weights) -> Html:
    found = weights.differences
    counts = [[title, sum(d.kind == kind for d in found)] for kind, title in KINDS.items()]
    changed = [d for d in found if d.kind == "changed" and np.isfinite(d.change)]
    parts: list[Html] = [table(["tensors", "number"], [row for row in counts if row[1]])]
    note = (
        "Change: the norm of the difference as a part of the norm of the first. After fine-tuning, heads change "
        "much and "
        "the first stages little or not at all; a frozen part is equal bit for bit. A trunk that changed by half "
        "or more "
        "has forgotten what it was pretrained for: lower the learning rate."
    )
    if changed:
        layers = [d for d in changed if len(d.shape) > 1] or changed
        series = {"": (np.arange(1, len(layers) + 1), np.array([d.change for d in layers]))}
        chart = line_chart(
            series, "Change of each layer's weights", label="layer, first to last", dots=len(layers) < 200
        )
        edges = np.linspace(0, max(d.change for d in changed) * 1.0001 + 1e-12, 31)
        spread = histogram(edges, {"": np.histogram([d.change for d in changed], edges)[0]}, "How much tensors changed",
                           label="relative change", height=260)  # fmt: skip
        parts.append(row(chart, spread))
    order = sorted(found, key=_rank)
    rows = [
        [d.name, KINDS[d.kind], _shape(d.shape), _shape(d.other) if d.kind in ("shape", "extra") else "",
         change_of(d) if d.kind == "changed" else "", f"{d.largest:.3g}" if d.kind == "changed" else ""]
        for d in order[:MOST_ROWS]
    ]  # fmt: skip
    head = ["tensor", "", "shape", "other shape", "change", "largest difference"]
    return section(
        "Comparison", paragraph(note), *parts, folded("All tensors, the most changed first", table(head, rows))
    )


def _rank(difference: Difference) -> tuple[int, float]:
    """Those without a partner first, then by change."""
    order = ["shape", "missing", "extra", "changed", "equal"]
    return order.index(difference.kind), -rank_of(difference) if difference.kind == "changed" else 0.0


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
