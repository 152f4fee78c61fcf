"""Charts of an evaluation as inline SVG: confusion as a heat map, intervals, reliability, a curve in a table's cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from maskrcnn.evaluation.bootstrap import Interval
from maskrcnn.evaluation.calibration import Bin
from maskrcnn.evaluation.confusion import Confusion
from maskrcnn.view.charts import (
    WIDTH,
    Axis,
    block,
    bottom_axis,
    drawing,
    left_axis,
    series_color,
    short_number,
    shortened,
    words,
)
from maskrcnn.view.report import Html, element, text

MOST_ROWS = 24  # of a confusion matrix
_LEFT = 190  # room for names
_RIGHT, _WRONG = 2, 1  # colours of the style


def shown_classes(confusion: Confusion, most: int = MOST_ROWS) -> list[int]:
    """Rows and columns to show: all, or of many classes those that are mixed up most; background last."""
    counts = np.array(confusion.counts)
    classes = len(counts) - 1
    if classes <= most:
        return list(range(classes + 1))
    mixed = counts[:classes, :classes] * (1 - np.eye(classes, dtype=int))
    weight = (mixed.sum(axis=0) + mixed.sum(axis=1)) * counts.sum() + counts[:classes].sum(axis=1)
    return [*sorted(np.argsort(-weight, kind="stable")[:most].tolist()), classes]


def heat_map(confusion: Confusion, title: str) -> Html:
    """True class (row) against found class (column): the number, and its part of the row as the depth of colour."""
    chosen = shown_classes(confusion)
    counts = np.array(confusion.counts)
    rows = counts.sum(axis=1)
    names = [confusion.names[index] for index in chosen]
    cell = float(np.clip((WIDTH - _LEFT) / len(chosen), 14, 46))
    tall = min(cell, 30.0)
    top = 12 + 6.5 * max(len(shortened(name)) for name in names)
    parts: list[Html] = []
    for at, name in enumerate(names):
        x = _LEFT + (at + 0.5) * cell + 4
        turned = f"translate({x:.1f} {top - 6:.1f}) rotate(-90)"
        parts.append(element("g", words(shortened(name), 0, 0, hint=name), transform=turned))
        y = top + (at + 0.5) * tall + 4
        parts.append(words(shortened(name), _LEFT - 8, y, anchor="end", class_="name", hint=name))
    for i, row in enumerate(chosen):
        for j, column in enumerate(chosen):
            number = int(counts[row, column])
            if row == column == len(counts) - 1:
                continue
            share = number / rows[row] if rows[row] else 0.0
            hint = f"{confusion.names[row]} found as {confusion.names[column]}: {number:,}"
            if row < len(counts) - 1:
                hint += f", {share:.0%} of them"
            place = (
                f'x="{_LEFT + j * cell:.1f}" y="{top + i * tall:.1f}" width="{cell - 1:.1f}" height="{tall - 1:.1f}"'
            )
            color = series_color(_RIGHT if row == column else _WRONG)
            style = f"fill: {color}; fill-opacity: {0.06 + 0.94 * share:.2f}"
            parts.append(Html(f'<rect {place} style="{style}"><title>{text(hint)}</title></rect>'))
            if number and cell >= 18:
                middle = _LEFT + (j + 0.5) * cell, top + (i + 0.5) * tall + 4
                parts.append(words(short_number(number), *middle, anchor="middle", class_="name", hint=hint))
    return drawing(parts, top + len(chosen) * tall + 6, title, [])


def intervals(values: Mapping[str, Interval], title: str, *, label: str = "", zero: bool = False) -> Html:
    """A dot and a line from low to high for each name; with `zero` a line where nothing differs."""
    step = 22
    bottom = 12 + step * len(values)
    ends = [end for one in values.values() for end in (one.low, one.high, one.value)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = (high - low) * 0.06 or 0.05
    axis = Axis(low - room if low < 0 else 0.0, high + room, _LEFT, WIDTH - 60)
    parts = bottom_axis(axis, bottom, label)
    if zero:
        x = float(axis.at(0.0))
        parts.append(Html(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>'))
    for number, (name, one) in enumerate(values.items()):
        y = 14 + step * number
        first, stop, at = axis.at(np.array([one.low, one.high, one.value])).tolist()
        hint = f"{name}: {one.value:.3f}, {one.low:.3f} to {one.high:.3f}"
        parts.append(words(shortened(name), _LEFT - 8, y + 4, anchor="end", class_="name", hint=name))
        wide = f'width="{max(stop - first, 1):.1f}" height="4" rx="2"'
        style = f"fill: {series_color(0)}; fill-opacity: .35"
        said = element("title", hint)
        parts.append(Html(f'<rect x="{first:.1f}" y="{y - 2}" {wide} style="{style}">{said}</rect>'))
        parts.append(Html(f'<circle cx="{at:.1f}" cy="{y}" r="4" style="fill: {series_color(0)}">{said}</circle>'))
        parts.append(words(f"{one.value:.3f}", max(stop, at) + 8, y + 4))
    return drawing(parts, bottom + 40, title, [])


def reliability(bins: Sequence[Bin], title: str, height: int = 300) -> Html:
    """The part of right results of each bin of scores as a column; dashed where score and part would be equal."""
    bottom, left = height - 40, 60
    x, y = Axis(0, 1, left, WIDTH - 15), Axis(0, 1, bottom, 10)
    parts = [*left_axis(y, left), *bottom_axis(x, bottom, "score")]
    for one in bins:
        if not one.count:
            continue
        first, stop = x.at(np.array([one.low, one.high])).tolist()
        hint = f"{one.count:,} results with scores of {one.score:.2f} on average: {one.right:.0%} are right"
        series = 0 if abs(one.score - one.right) < 0.1 else 1
        parts.append(block(first + 1, float(y.at(one.right)), stop - first - 2, bottom - float(y.at(one.right)), series,
                           hint))  # fmt: skip
        parts.append(words(short_number(one.count), (first + stop) / 2, bottom - 5, "middle", "name", hint))
    ends = f'x1="{left}" y1="{bottom}" x2="{WIDTH - 15}" y2="10"'
    parts.append(Html(f'<line class="mark" {ends}/>'))
    return drawing(parts, height, title, [])


def small_curve(values: Sequence[float], hint: str, mark: float | None = None) -> Html:
    """A curve of values 0..1 over 0..1 in a table's cell; a dashed line at `mark`."""
    width, height = 90, 26
    points = np.stack([np.linspace(0, width, len(values)), height - 1 - np.asarray(values) * (height - 2)], axis=1)
    path = " ".join(f"{a:.0f},{b:.1f}" for a, b in points[::3].tolist())
    line = (
        "" if mark is None else f'<line class="mark" x1="{mark * width:.1f}" x2="{mark * width:.1f}" y1="0" y2="26"/>'
    )
    return Html(
        f'<svg viewBox="0 0 {width} {height}" style="width: {width}px; height: {height}px" role="img" '
        f'aria-label="curve"><title>{text(hint)}</title><polyline points="0,{height} {path} {width},{height}" '
        f'style="fill: {series_color(0)}; fill-opacity: .3; stroke: {series_color(0)}"/>{line}</svg>'
    )
