"""An `Explanation` as lines for the terminal: what is wrong most, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskrcnn.evaluation.bootstrap import Difference
from maskrcnn.evaluation.tide import ERRORS

if TYPE_CHECKING:
    from maskrcnn.evaluation.explain import Explanation, Part

MEANING = {
    "Cls": "found, but under the wrong class",
    "Loc": "right class, badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "something found where nothing is",
    "Miss": "not found at all",
}
MOST = 8


def lines(explanation: Explanation) -> list[str]:
    """The text of an explanation."""
    head = f"{explanation.images} images, {explanation.objects} objects, {explanation.results} results"
    found = [head]
    for kind, part in explanation.parts.items():
        found += ["", *_part_lines(kind, part, explanation.iou)]
    return found


def _part_lines(kind: str, part: Part, iou: float) -> list[str]:
    interval = f", with other images like these {part.ap.low:.3f} to {part.ap.high:.3f}"
    found = [f"{kind} AP " + (f"{part.ap.value:.3f}{interval}" if part.ap.value >= 0 else "-: no objects to find")]
    found.append(f"what costs AP at IoU {iou:g} (AP {part.tide.ap:.3f})")
    for name in sorted(ERRORS, key=lambda name: -part.tide.costs[name]):
        cost, count = part.tide.costs[name], part.tide.counts[name]
        found.append(f"  {name:5} {cost:6.3f}  {count:7} times  {MEANING[name]}")
    best = part.overall
    found.append(
        f"best score threshold {best.best_score:.2f}: precision {best.best_precision:.3f}, recall "
        f"{best.best_recall:.3f}, F1 {best.best_f1:.3f}; scores are off by {part.calibration.ece:.3f} on average"
    )
    found += _confused(part)
    if part.worst:
        ids = ", ".join(f"{image.path or image.image_id} ({image.cost:.1f})" for image in part.worst[:3])
        found.append(f"worst images (errors): {ids}")
    problems = [suspect.problem for suspect in part.suspects]
    if problems:
        counts = ", ".join(f"{problems.count(name)} {name}" for name in ("missing", "class", "extra"))
        found.append(f"annotations to look at: {counts}")
    return found


def _confused(part: Part) -> list[str]:
    """The class pairs that are mixed up most."""
    names, counts = part.confusion.names, part.confusion.counts
    pairs = [
        (counts[row][column], names[row], names[column])
        for row in range(len(names) - 1)
        for column in range(len(names) - 1)
        if row != column and counts[row][column]
    ]
    if not pairs:
        return []
    top = sorted(pairs, key=lambda pair: -pair[0])[:MOST]
    return ["taken for another class: " + ", ".join(f"{true} as {found} {count}" for count, true, found in top)]


def difference_line(kind: str, found: Difference) -> str:
    """One sentence about two models."""
    interval = found.difference
    if min(found.first, found.second) < 0:
        return f"{kind} AP -: no objects to find"
    return (
        f"{kind} AP {found.first:.3f} -> {found.second:.3f}: {interval.value:+.3f} "
        f"({interval.low:+.3f} to {interval.high:+.3f}, p {found.p:.3f}), {verdict(found)}"
    )


def verdict(found: Difference) -> str:
    """Whether the difference stands out."""
    return "clear" if found.is_clear else "within the noise of these images"
