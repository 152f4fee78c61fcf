"""The HTML page of `maskrcnn evaluate --explain --out DIR`: the numbers, why they are so, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.bootstrap import Difference, Interval
from maskrcnn.evaluation.explain import Explanation, Part
from maskrcnn.evaluation.explained_text import MEANING, verdict
from maskrcnn.evaluation.metrics import Metrics
from maskrcnn.evaluation.tide import ERRORS
from maskrcnn.view.charts import bars, line_chart
from maskrcnn.view.evaluation_charts import MOST_ROWS, heat_map, intervals, reliability, shown_classes, small_curve
from maskrcnn.view.evaluation_pictures import suspects, worst
from maskrcnn.view.report import Html, folded, heading, page, paragraph, row, section, table, tiles, write_page

MOST_LINES = 4  # classes in one chart, beside all of them together
MOST_INTERVALS = 40
MOST_CLASSES = 2000  # of a table
_COLUMNS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
}
REMEDIES = {
    "Cls": "Look at the confusion matrix: join classes that people mix up too, or give more images of them.",
    "Loc": "Take larger images or a stronger trunk, and look whether the annotations themselves are tight.",
    "Both": "These look like nothing that was learnt: more images, and longer training.",
    "Dupe": "Lower model.box.nms_iou, or raise the score threshold.",
    "Bkg": "Look at the annotations below first: they may be objects that nobody marked. Else add images without any.",
    "Miss": "If they are small, take larger images and smaller anchors; if they are rare, more images of that class.",
}


def evaluation_report(
    explanation: Explanation,
    metrics: Metrics,
    dataset: Dataset,
    path: str | Path,
    *,
    comparison: Mapping[str, Difference] | None = None,
    names: tuple[str, str] = ("", ""),
) -> Path:
    """Write the page, one file of a few megabytes at most; images are shown small, with a link to their file.

    Args:
        explanation, metrics: of the same results.
        dataset: what they were measured on; its images are drawn, on grey where they cannot be read.
        path: of the page; its folder is made.
        comparison: see `maskrcnn.compare`.
        names: of what was measured, and of what it was compared with.

    Returns:
        The path.

    Raises:
        OSError: the page cannot be written.
    """
    kind, part = _chief(explanation)
    parts = [_numbers(explanation, metrics, kind)]
    parts += [_comparison(comparison, names)] if comparison else []
    parts += [_errors(explanation, kind), _classes(explanation, metrics), _curves(explanation), _confusion(explanation)]
    parts += [_calibration(explanation), worst(part, dataset, Path(path)), suspects(part, dataset, Path(path))]
    subtitle = f"{names[0]} on {explanation.name}" if names[0] else explanation.name
    title = f"Evaluation: {explanation.images:,} images, {explanation.objects:,} objects"
    return write_page(path, page(title, *parts, subtitle=subtitle))


def _chief(explanation: Explanation) -> tuple[str, Part]:
    """Masks where there are any."""
    kind = "mask" if "mask" in explanation.parts else "box"
    return kind, explanation.parts[kind]


# ---------------------------------------------------------------- numbers


def _numbers(explanation: Explanation, metrics: Metrics, chief: str) -> Html:
    note = (
        "AP is the area under the precision-recall curve, averaged over IoU thresholds from 0.5 to 0.95 and over the "
        "classes: 1 is perfect, and the range says where it would lie with other images of the same kind. Compare two "
        "models by AP only when the difference is larger than that range, or ask --compare, which knows better."
    )
    best = explanation.parts[chief].overall
    shown: dict[str, object] = {f"{kind} AP": _value(part.ap.value) for kind, part in explanation.parts.items()}
    shown |= {"results": f"{explanation.results:,}", "best score threshold": f"{best.best_score:.2f}"}
    shown |= {"precision there": f"{best.best_precision:.2f}", "recall there": f"{best.best_recall:.2f}"}
    sure = {f"{kind} AP": part.ap for kind, part in explanation.parts.items() if part.ap.value >= 0}
    last = metrics.limits[-1]
    head = ["", *_COLUMNS.values(), *(f"AR{limit}" for limit in metrics.limits)]
    keys = [*_COLUMNS, *(f"ar_{limit}" for limit in metrics.limits)]
    rows = [
        [kind, *(_value(numbers.get(key)) for key in keys)]
        for kind, numbers in metrics.kinds().items()
        if "ap_small" in numbers and f"ar_{last}" in numbers
    ]
    others = {kind: numbers for kind, numbers in metrics.kinds().items() if kind not in [name for name, *_ in rows]}
    more = [
        folded(kind, table(["number", "value"], [[name, _value(value)] for name, value in numbers.items()]))
        for kind, numbers in others.items()
    ]
    sizes = "Small, medium and large: areas below 32 x 32, up to 96 x 96 and above, in pixels."
    return section(
        "Numbers",
        paragraph(note),
        tiles(shown),
        intervals(sure, "", label="AP"),
        table(head, rows),
        paragraph(sizes, kind="soft"),
        *more,
        _counts(metrics),
    )


def _counts(metrics: Metrics) -> Html:
    if not metrics.by_count:
        return Html("")
    kinds = [kind for kind in ("box", "mask") if any(kind in one for one in metrics.by_count.values())]
    rows = [
        [name, int(one["images"]), int(one["objects"]), *(_value(one.get(kind)) for kind in kinds)]
        for name, one in metrics.by_count.items()
    ]
    note = "AP of images with so many objects. Where it falls with the number, objects hide each other, or the limits "
    note += "of proposals and detections are too low."
    head = ["objects in the image", "images", "objects", *(f"{kind} AP" for kind in kinds)]
    return Html(heading("By the number of objects") + paragraph(note) + table(head, rows))


def _comparison(comparison: Mapping[str, Difference], names: tuple[str, str]) -> Html:
    note = (
        "AP of the second model less that of the first, on the same draws of images, so that hard images are hard for "
        "both. Take the second where its range lies right of the dashed line; where it crosses the line, more images "
        "would be needed to tell."
    )
    rows = [
        [kind, _value(one.first), _value(one.second), _signed(one.difference), f"{one.p:.3f}", verdict(one)]
        for kind, one in comparison.items()
    ]  # fmt: skip
    head = ["", Path(names[0]).name or "first", Path(names[1]).name or "second", "difference", "p", ""]
    chart = intervals({f"{kind} AP": one.difference for kind, one in comparison.items()}, "", label="difference of AP",
                      zero=True)  # fmt: skip
    return section("Comparison", paragraph(note), row(chart, table(head, rows)))


# ---------------------------------------------------------------- errors


def _errors(explanation: Explanation, chief: str) -> Html:
    note = (
        f"Every wrong result and every object that is not found has one reason, at IoU {explanation.iou:g} (TIDE); the "
        "bar is the AP that would be gained if errors of that kind alone were put right. Begin with the longest bar: "
        "the table says what helps against it."
    )
    parts = explanation.parts
    longest = max(0.01, *(part.tide.costs[name] for part in parts.values() for name in ERRORS))
    series = {kind if len(parts) > 1 else "": [part.tide.costs[name] for name in ERRORS]
              for kind, part in parts.items()}  # fmt: skip
    chart = bars(ERRORS, series, "AP lost by kind of error", longest=longest)
    tide = parts[chief].tide
    rows = [
        [name, f"{MEANING[name][0].upper()}{MEANING[name][1:]}", tide.counts[name], f"{tide.costs[name]:.3f}",
         REMEDIES[name]]
        for name in sorted(ERRORS, key=lambda name: -tide.costs[name])
    ]  # fmt: skip
    both = (
        f"AP{100 * explanation.iou:.0f} of the {chief} results is {tide.ap:.3f}; without any false result it would be "
        f"{tide.costs['FalsePos']:.3f} higher, with every object found {tide.costs['FalseNeg']:.3f}."
    )
    head = ["error", "what it is", "how often", "AP lost", "what helps"]
    return section("What costs AP", paragraph(note), chart, table(head, rows), paragraph(both, kind="soft"))


def _classes(explanation: Explanation, metrics: Metrics) -> Html:
    note = (
        "Classes by AP, the weakest first, with the range that other images would give. Weak classes with few objects "
        "need more images; weak ones with many objects are hard, or annotated in different ways."
    )
    body: list[object] = []
    for kind, part in explanation.parts.items():
        order = sorted(part.class_ap, key=lambda name: part.class_ap[name].value)
        ranges = {name: part.class_ap[name] for name in order[:MOST_INTERVALS]}
        title = f"{kind} AP" + (f", the {MOST_INTERVALS} weakest classes" if len(order) > MOST_INTERVALS else "")
        body.append(intervals(ranges, title, label="AP"))
    for kind, part in explanation.parts.items():
        body.append(folded(f"{kind}: all classes as a table", _class_table(part, metrics.by_class.get(kind, {}))))
    return section("Classes", paragraph(note), row(*body[: len(explanation.parts)]), *body[len(explanation.parts) :])


def _class_table(part: Part, numbers: Mapping[str, Mapping[str, float]]) -> Html:
    head = ["class", "objects", "results", *_COLUMNS.values(), "range of AP", "best threshold", "precision", "recall",
            "F1", "precision over recall", "F1 over threshold"]  # fmt: skip
    rows = []
    for curve in part.curves[:MOST_CLASSES]:
        of_class, sure = numbers.get(curve.name, {}), part.class_ap.get(curve.name)
        rows.append(
            [curve.name, curve.objects, curve.results, *(_value(of_class.get(key)) for key in _COLUMNS),
             f"{sure.low:.2f} to {sure.high:.2f}" if sure else "", f"{curve.best_score:.2f}",
             f"{curve.best_precision:.2f}", f"{curve.best_recall:.2f}", f"{curve.best_f1:.2f}",
             small_curve(curve.precision, f"{curve.name}: precision over recall"),
             small_curve(curve.f1, f"{curve.name}: F1 over the score threshold", curve.best_score)]
        )  # fmt: skip
    return table(head, rows)


def _curves(explanation: Explanation) -> Html:
    note = (
        f"Left, how precision falls as more objects are found, at IoU {explanation.iou:g}; right, F1, the mean of both "
        "for each score threshold. Use the threshold with the highest F1 in maskrcnn predict --score-threshold, a "
        "higher one where false results are worse than missed objects."
    )
    body: list[object] = []
    for kind, part in explanation.parts.items():
        frequent = sorted((c for c in part.curves if c.objects), key=lambda curve: -curve.objects)[:MOST_LINES]
        shown = [part.overall, *(frequent if len(part.curves) > 1 else [])]
        steps = np.linspace(0, 1, 101)
        precision = {curve.name: (steps, np.array(curve.precision)) for curve in shown}
        f1 = {curve.name: (steps, np.array(curve.f1)) for curve in shown}
        mark = ((part.overall.best_score, f"{part.overall.best_score:.2f}"),)
        left = line_chart(precision, f"{kind}: precision over recall", label="recall")
        right = line_chart(f1, f"{kind}: F1 over score threshold", label="score threshold", marks=mark)
        body.append(row(left, right))
        if len([c for c in part.curves if c.objects]) > MOST_LINES:
            body.append(
                paragraph(
                    f"The {MOST_LINES} most frequent classes, and all together; the others are in the table above.",
                    kind="soft",
                )
            )
    _, part = _chief(explanation)
    rows = [
        [
            c.name,
            c.objects,
            f"{c.best_score:.2f}",
            f"{c.best_precision:.2f}",
            f"{c.best_recall:.2f}",
            f"{c.best_f1:.2f}",
        ]
        for c in [part.overall, *part.curves][:MOST_CLASSES]
    ]
    head = ["class", "objects", "best threshold", "precision", "recall", "F1"]
    best = folded("Best threshold of each class", table(head, rows))
    return section("Curves", paragraph(note), *body, best)


def _confusion(explanation: Explanation) -> Html:
    kind, part = _chief(explanation)
    matrix = part.confusion
    note = (
        f"Rows are what is there, columns what was found, for results with a score of {matrix.score:.2f} or more and "
        f"an IoU of {matrix.iou:g}; a row's background is objects that are missed, a column's results where nothing "
        "is. Green should be full: a dark cell beside it names two classes to look at together."
    )
    classes = len(matrix.names) - 1
    chart = heat_map(matrix, f"{kind}: true class against found class")
    more: object = ""
    if len(shown_classes(matrix)) <= classes:
        told = f"The {MOST_ROWS} classes that are mixed up most, of {classes}; shares are of all results."
        more = paragraph(told, kind="soft")
    return section("Confusion", paragraph(note), chart, more)


def _calibration(explanation: Explanation) -> Html:
    note = (
        "Of results with a score of 0.8, 8 in 10 should be right, so that the columns reach the dashed line; orange "
        "ones are off by more than 0.1, and the number at a foot is how many results there are. Where they stay below, "
        "the model is too sure: choose thresholds from the curves above, not by what the score says."
    )
    charts = [
        reliability(part.calibration.bins, f"{kind}: right results by score, off by {part.calibration.ece:.3f}")
        for kind, part in explanation.parts.items()
    ]
    return section("Calibration", paragraph(note), row(*charts))


def _value(value: float | None) -> str:
    """-1 is "nothing to find"."""
    return "" if value is None else "-" if value < 0 else f"{value:.3f}"


def _signed(one: Interval) -> str:
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
