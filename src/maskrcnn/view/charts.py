"""Charts as inline SVG for `view/report.py`: bars, histograms, scatter plots, lines.

Colours come from the page's style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskrcnn.view.report import Html, element, joined, text

WIDTH = 560
SERIES = 5  # colours that the style knows
MOST_POINTS = 2000  # of a scatter plot
LONGEST = 26  # letters of a name beside a bar
LINE_POINTS = 300  # of a line; more are averaged
DASHES = ("none", "6 3", "2 3")  # of a line, when the colours are used up

Marks = Sequence[tuple[float, str]]
"""Lines across a chart: (value, name)."""


@dataclass(frozen=True)
class Axis:
    """Values -> pixels, linear or logarithmic.

    Attributes:
        low, high: values at the ends.
        start, stop: pixels at the ends.
        log: whether equal factors are equally far apart; then `low` must be positive.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def around(cls, values: np.ndarray, start: float, stop: float, log: bool = False) -> Axis:
        """An axis with room for all finite values; positive ones alone when it is logarithmic."""
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values) & ((values > 0) | (not log))]
        low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 2.0)
        if log:
            return cls(low / 1.2, high * 1.2, start, stop, log)
        low, high = min(low, 0.0), max(high, 0.0)
        return cls(low, high + (high - low) * 0.05 or 1.0, start, stop, log)

    def at(self, values: np.ndarray | float) -> np.ndarray:
        """Pixels of these values."""
        values = np.asarray(values, np.float64)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(values) if self.log else values
        return self.start + (values - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values, three to nine."""
        if self.log:
            return _log_ticks(self.low, self.high)
        rough = (self.high - self.low) / 5.5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
        return [n * step for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)
    inside = [2.0**power for power in powers if low <= 2.0**power <= high]
    inside = inside[:: max(1, -(-len(inside) // 9))]
    return inside if len(inside) > 1 else [low * 1.2, high / 1.2] if high > 1.5 * low else [math.sqrt(low * high)]


# ---------------------------------------------------------------- charts


def bars(
    names: Sequence[str], series: Mapping[str, Sequence[float]], title: str, *, longest: float | None = None
) -> Html:
    """A horizontal bar for each name and series, with its value at the end; `longest` is the value of a full bar."""
    thick, gap, left = (14, 10, 190) if len(series) == 1 else (12, 10, 190)
    height = len(names) * (thick * len(series) + gap)
    finite = [float(v) for values in series.values() for v in values if math.isfinite(v)]
    most = longest if longest and math.isfinite(longest) else max([1.0, *finite])
    axis = Axis(0, most, left, WIDTH - 70)
    parts = []
    for number, name in enumerate(names):
        top = number * (thick * len(series) + gap) + gap / 2
        middle = top + thick * len(series) / 2
        parts.append(words(shortened(name), left - 8, middle + 4, anchor="end", class_="name", hint=name))
        for index, (label, values) in enumerate(series.items()):
            y, end = top + index * thick, float(axis.at(values[number] if math.isfinite(values[number]) else 0.0))
            hint = (
                f"{name}, {label}: {short_number(values[number])}"
                if label
                else f"{name}: {short_number(values[number])}"
            )
            parts.append(block(left, y, end - left, thick - 1, index, hint))
            parts.append(words(short_number(values[number]), end + 5, y + thick - 3))
    return drawing(parts, height, title, list(series))


def histogram(
    edges: Sequence[float] | np.ndarray,
    series: Mapping[str, Sequence[float] | np.ndarray],
    title: str,
    *,
    label: str = "",
    log: bool = False,
    marks: Marks = (),
    height: int = 240,
) -> Html:
    """Counts between edges as columns, one series on the other.

    Args:
        edges: (B + 1,) ascending.
        series: (B,) counts by name; "" for a single one.
        label: what lies on the horizontal axis, with its unit.
        log: logarithmic horizontal axis; then edges must be positive.
        marks: lines across, such as the anchors.
    """
    edges = np.asarray(edges, np.float64)
    counts = np.array([np.asarray(values, np.float64) for values in series.values()]).reshape(-1, len(edges) - 1)
    bottom, left = height - 40, 55
    x = Axis(float(edges[0]), float(edges[-1]), left, WIDTH - 15, log)
    y = Axis.around(counts.sum(axis=0), bottom, 22 if marks else 10)
    parts = [*left_axis(y, left), *bottom_axis(x, bottom, label)]
    places, base = x.at(edges), np.zeros(counts.shape[1])
    for index, (name, values) in enumerate(zip(series, counts, strict=True)):
        for first, stop, low, value, at in zip(places[:-1], places[1:], base, values, range(len(values)), strict=True):
            if value:
                tops = y.at(np.array([low, low + value]))
                span = f"{short_number(edges[at])} to {short_number(edges[at + 1])}"
                hint = f"{name + ', ' if name else ''}{span}: {short_number(value)}"
                parts.append(block(first + 0.5, tops[1], max(stop - first - 1, 0.5), tops[0] - tops[1], index, hint))
        base += values
    parts += _marks(x, marks, bottom)
    return drawing(parts, height, title, list(series))


def scatter(
    x: np.ndarray,
    y: np.ndarray,
    title: str,
    *,
    labels: tuple[str, str],
    log: bool = False,
    weights: np.ndarray | None = None,
    shapes: np.ndarray | None = None,
    shapes_name: str = "",
    height: int = 360,
) -> Html:
    """Points (N,) and (N,), at most 2000 of them, and hollow squares at `shapes` (M, 2).

    `weights` (N,) are what the areas of the points stand for.
    """
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if len(x) > MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(x), MOST_POINTS, replace=False)
        x, y, weights = x[chosen], y[chosen], weights[chosen]
    shapes = np.zeros((0, 2)) if shapes is None else np.asarray(shapes, np.float64)
    left, bottom = 55, height - 40
    across = Axis.around(np.concatenate([x, shapes[:, 0]]), left, WIDTH - 15, log)
    up = Axis.around(np.concatenate([y, shapes[:, 1]]), bottom, 24, log)
    parts = [*left_axis(up, left), *bottom_axis(across, bottom, labels[0]), words(labels[1], 4, 14)]
    points = np.stack([across.at(x), up.at(y)], axis=1)
    radii = (
        np.clip(10 * np.sqrt(weights / weights.max(initial=1)), 2.2, None) if len(set(weights.tolist())) > 1 else 2.2
    )
    dots = [
        Html(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{r:.1f}"/>')
        for (a, b), r in zip(points.tolist(), np.broadcast_to(radii, len(points)).tolist(), strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    parts.append(element("g", *dots, style="fill: var(--series-0); fill-opacity: .4"))
    for a, b in np.stack([across.at(shapes[:, 0]), up.at(shapes[:, 1])], axis=1):
        parts.append(Html(f'<rect class="shape" x="{a - 4:.1f}" y="{b - 4:.1f}" width="8" height="8"/>'))
    if shapes_name and len(shapes):
        parts.append(Html(f'<rect class="shape" x="{WIDTH - 130}" y="6" width="8" height="8"/>'))
        parts.append(words(shapes_name, WIDTH - 117, 14))
    return drawing(parts, height, title, [])


def line_chart(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    *,
    label: str = "",
    log: bool = False,
    dots: bool = False,
    marks: Marks = (),
    height: int = 260,
) -> Html:
    """Lines through points, several in one chart.

    Args:
        series: x (N,) and y (N,) by name, x ascending; "" for a single one. What is not finite leaves a gap. Of more
            than 300 points means of neighbours are drawn.
        label: what lies on the horizontal axis, with its unit.
        log: logarithmic vertical axis, of positive numbers.
        dots: a dot at each point too.
        marks: lines across, such as the best step.
    """
    values = [np.asarray(y, np.float64) for _, y in series.values()]
    places = [np.asarray(x, np.float64) for x, _ in series.values()]
    bottom, left = height - 40, 60
    across = Axis.around(np.concatenate([*places, np.zeros(0)]), left, WIDTH - 15)
    up = Axis.around(np.concatenate([*values, np.zeros(0)]), bottom, 22 if marks else 10, log)
    parts = [*left_axis(up, left), *bottom_axis(across, bottom, label)]
    for index, (name, x, y) in enumerate(zip(series, places, values, strict=True)):
        y = np.where(y > 0, y, np.nan) if log else y
        parts += _line(*_thinned(across.at(x), up.at(y)), index)
        if dots:
            for a, b, at, value in zip(across.at(x), up.at(y), x, y, strict=True):
                if math.isfinite(b):
                    hint = f"{name + ', ' if name else ''}{short_number(at)}: {short_number(value)}"
                    parts.append(Html(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" style="fill: {series_color(index)}">'
                                      f"<title>{text(hint)}</title></circle>"))  # fmt: skip
    parts += _marks(across, marks, bottom)
    return drawing(parts, height, title, list(series))


def _line(x: np.ndarray, y: np.ndarray, index: int) -> list[Html]:
    dash = DASHES[index // SERIES % len(DASHES)]
    style = f"fill: none; stroke: {series_color(index)}; stroke-width: 1.6; stroke-dasharray: {dash}"
    runs = np.split(np.arange(len(x)), np.flatnonzero(~np.isfinite(y)))
    lines = []
    for run in runs:
        points = " ".join(f"{x[i]:.1f},{y[i]:.1f}" for i in run if math.isfinite(y[i]))
        if points:
            lines.append(Html(f'<polyline points="{points}" style="{style}"/>'))
    return lines


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 300 points: means of groups; a group without a finite number stays a gap."""
    if len(x) <= LINE_POINTS:
        return x, y
    groups = [group for group in np.array_split(np.arange(len(x)), LINE_POINTS) if len(group)]
    means = [y[group][np.isfinite(y[group])] for group in groups]
    return (
        np.array([x[group].mean() for group in groups]),
        np.array([some.mean() if len(some) else np.nan for some in means]),
    )


def spark(counts: Sequence[float] | np.ndarray, hint: str = "", width: int = 120, height: int = 26) -> Html:
    """A histogram (B,) as small as a word, for a table."""
    counts = np.asarray(counts, np.float64)
    tall = np.sqrt(counts / counts.max(initial=1e-12)) * (height - 2)  # rare numbers stay visible
    step = width / max(len(counts), 1)
    path = "".join(
        f"M{i * step:.1f} {height}v-{h:.1f}h{step:.1f}V{height}" for i, h in enumerate(tall.tolist()) if h > 0
    )
    return Html(
        f'<svg viewBox="0 0 {width} {height}" style="width: {width}px; height: {height}px" role="img" '
        f'aria-label="histogram"><title>{text(hint)}</title><path d="{path}" style="fill: {series_color(0)}"/></svg>'
    )


# ---------------------------------------------------------------- pieces


def series_color(series: int) -> str:
    """A colour of the page's style."""
    return f"var(--series-{series % SERIES})"


def drawing(parts: list[Html], height: float, title: str, series: list[str]) -> Html:
    """The drawing under its title and legend; the title is also what a screen reader says."""
    names = [name for name in series if name]
    top, key, x = 24 if title else 4, [], 0.0
    if len(names) > 1:
        for index, name in enumerate(names):
            wide = 15 + 7.5 * len(name) + 20
            if x and x + wide > WIDTH:
                x, top = 0.0, top + 18
            key += [block(x, top + 2, 10, 10, index, name), words(name, x + 15, top + 11)]
            x += wide
        top += 22
    inner = element("g", *parts, transform=f"translate(0 {top})")
    head = words(title, 0, 14, class_="title") if title else ""
    box = f"0 0 {WIDTH} {height + top:.0f}"
    width, name = f"max-width: {WIDTH}px", title or "bars"
    return element("svg", head, *key, inner, viewBox=box, role="img", aria_label=name, style=width)


def left_axis(axis: Axis, left: float) -> list[Html]:
    """Lines across and their numbers at the left."""
    parts = []
    for tick in axis.ticks():
        y = float(axis.at(tick))
        parts.append(Html(f'<line class="grid" x1="{left}" x2="{WIDTH - 15}" y1="{y:.1f}" y2="{y:.1f}"/>'))
        parts.append(words(short_number(tick), left - 6, y + 4, anchor="end"))
    return parts


def bottom_axis(axis: Axis, bottom: float, label: str) -> list[Html]:
    """The line below, its numbers and its name."""
    parts = [Html(f'<line class="grid" x1="{axis.start}" x2="{axis.stop}" y1="{bottom}" y2="{bottom}"/>')]
    parts += [words(short_number(tick), float(axis.at(tick)), bottom + 15, anchor="middle") for tick in axis.ticks()]
    return [*parts, words(label, (axis.start + axis.stop) / 2, bottom + 33, anchor="middle")]


def _marks(axis: Axis, marks: Marks, bottom: float) -> list[Html]:
    parts, last = [], -math.inf
    for value, name in sorted(marks):
        if not axis.low <= value <= axis.high:
            continue
        x = float(axis.at(value))
        parts.append(Html(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{bottom}"/>'))
        if x - last > 7 * len(name):  # names that would touch are left out
            parts.append(words(name, x, 11, anchor="middle"))
            last = x
    return parts


def block(x: float, y: float, width: float, height: float, series: int, hint: str) -> Html:
    """A filled rectangle that says what it is when pointed at."""
    color = f"fill: var(--series-{series % SERIES})"
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return Html(f'<rect {place} rx="1.5" style="{color}"><title>{text(hint)}</title></rect>')


def words(value: str, x: float, y: float, anchor: str = "start", class_: str | None = None, hint: str = "") -> Html:
    """Text with its left end, middle or right end at a place."""
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "class_": class_}
    return element("text", value, element("title", hint) if hint else joined([]), **place)


def shortened(name: str) -> str:
    """At most 26 letters."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def short_number(value: float) -> str:
    """12,345 or 0.25: whole numbers with commas, others with three digits."""
    value = float(value)
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
