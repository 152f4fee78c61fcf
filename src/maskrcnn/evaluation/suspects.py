"""Which images to look at first: those with the most errors, and annotations that are likely wrong themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskrcnn.evaluation.items import Items
from maskrcnn.evaluation.matching import Pairs
from maskrcnn.evaluation.tide import ERRORS, Decided

ALONE = 0.1
"""A result that overlaps nothing by more may show an object that nobody annotated."""
CONFIDENT = 0.7
"""Least score of a result that is held against an annotation."""
CLOSE = 0.7
"""Least IoU of a result that may show an object's true class."""
_ENOUGH = 3  # similar objects that it takes to say that such objects are found
_SIZES = np.array([32.0**2, 96.0**2])


@dataclass(frozen=True)
class Shown:
    """One result or one true object, ready to draw.

    Attributes:
        name: its class.
        box: x0, y0, x1, y1 in pixels of the image.
        score: of a result; 1 for a true object.
        outcome: of a result "right", "ignored" or one of TIDE's errors; of an object "found", "missed" or "crowd".
        rle: the mask as `{"size", "counts"}`, or None.
        source: place in the list of results, or annotation id.
    """

    name: str
    box: list[float]
    score: float
    outcome: str
    rle: dict[str, Any] | None
    source: int


@dataclass(frozen=True)
class WorstImage:
    """An image, what is there, what was found and which of it is wrong.

    Attributes:
        image_id, path: which.
        cost: missed objects and false results together; a false result weighs as much as its score.
        right, missed, false: how many.
        errors: kind of error -> how many, among the results shown.
        truth, results: what is there and what was found, both among results with at least the score threshold.
    """

    image_id: int
    path: str
    cost: float
    right: int
    missed: int
    false: int
    errors: dict[str, int]
    truth: list[Shown] = field(default_factory=list)
    results: list[Shown] = field(default_factory=list)


@dataclass(frozen=True)
class Suspect:
    """An annotation that may be wrong.

    Attributes:
        problem: "missing": a confident result where nothing is annotated; "class": a confident result of another class
            on an object whose own class nobody finds; "extra": an object that nothing overlaps, though most of its
            class and size are found.
        image_id, path: where.
        confidence: score of the result; for "extra" the part of similar objects that is found.
        result, truth: what it is about; None where there is none.
    """

    problem: str
    image_id: int
    path: str
    confidence: float
    result: Shown | None = None
    truth: Shown | None = None


class Album:
    """Turns rows of truth and results into what can be drawn.

    Args:
        truth, found: objects and results.
        decided: what became of them.
        names: of the classes.
        image_ids, paths: of each image.
        annotation_ids: of each object of the data set, in its order.
    """

    def __init__(
        self,
        truth: Items,
        found: Items,
        decided: Decided,
        names: Sequence[str],
        image_ids: Sequence[int],
        paths: Sequence[str],
        annotation_ids: np.ndarray,
    ) -> None:
        self.truth, self.found, self.decided, self.names = truth, found, decided, names
        self.image_ids, self.paths, self.annotation_ids = image_ids, paths, annotation_ids

    def object(self, row: int, found: np.ndarray | None = None) -> Shown:
        """A true object; `found` (G,) bool: the objects that count as found, None: those that any result found."""
        found = self.decided.found if found is None else found
        crowd, was_found = bool(self.truth.crowd[row]), bool(found[row])
        outcome = "crowd" if crowd else "found" if was_found else "missed"
        return self._shown(self.truth, row, outcome, int(self.annotation_ids[self.truth.source[row]]))

    def result(self, row: int) -> Shown:
        """A result."""
        return self._shown(self.found, row, outcome_name(int(self.decided.outcome[row])), int(self.found.source[row]))

    def _shown(self, items: Items, row: int, outcome: str, source: int) -> Shown:
        x, y, width, height = items.boxes[row].tolist()
        rle = None if items.rles is None else _text(items.rles[row])
        box = [round(v, 2) for v in (x, y, x + width, y + height)]
        return Shown(self.names[items.labels[row]], box, float(items.scores[row]), outcome, rle, source)


def outcome_name(outcome: int) -> str:
    """The number in `Decided.outcome` as a word."""
    return ERRORS[outcome] if outcome >= 0 else {-1: "right", -2: "ignored", -3: "beyond 100"}[outcome]


def worst_images(album: Album, score: float, most: int) -> list[WorstImage]:
    """The `most` images with the highest cost, among results with at least this score."""
    described = _Errors(album, score)
    worst = np.argsort(-described.cost, kind="stable")[:most]
    return [described.image(row) for row in worst[described.cost[worst] > 0].tolist()]


def all_images(album: Album, score: float) -> list[WorstImage]:
    """Every image in the same way, in ascending order of ids."""
    described = _Errors(album, score)
    return [described.image(row) for row in range(len(album.image_ids))]


class _Errors:
    """What is right, missed and false in each image, among results with at least this score.

    Attributes:
        cost: (I,) missed objects, and the scores of false results.
    """

    def __init__(self, album: Album, score: float) -> None:
        truth, found, outcome = album.truth, album.found, album.decided.outcome
        images = len(album.image_ids)
        self.album, self.sure = album, found.scores >= score
        self.right = self.sure & (outcome == -1)
        self.false = self.sure & ((outcome >= 0) | (outcome == -3))
        self.seen = np.zeros(len(truth), bool)
        self.seen[album.decided.object_of[self.right]] = True
        self.missed = np.bincount(truth.images[~truth.crowd & ~self.seen], minlength=images)
        self.cost = self.missed + np.bincount(found.images[self.false], found.scores[self.false], minlength=images)
        self.truth_at, self.found_at = truth.spans(images), found.spans(images)

    def image(self, row: int) -> WorstImage:
        """One image with all that is in it."""
        album = self.album
        rows = [place for place in range(self.found_at[row], self.found_at[row + 1]) if self.sure[place]]
        kinds = [outcome_name(int(album.decided.outcome[place])) for place in rows if self.false[place]]
        return WorstImage(
            album.image_ids[row],
            album.paths[row],
            round(float(self.cost[row]), 4),
            int(self.right[rows].sum()),
            int(self.missed[row]),
            len(kinds),
            {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            [album.object(place, self.seen) for place in range(self.truth_at[row], self.truth_at[row + 1])],
            [album.result(place) for place in rows],
        )


def label_errors(album: Album, pairs: Pairs, score: float, most: int) -> list[Suspect]:
    """Annotations that are likely wrong, the surest first, at most `most` of each problem.

    Args:
        album: truth and results.
        pairs: overlaps of at least `ALONE`, of any two classes.
        score: the score threshold; results are held against annotations from `CONFIDENT`, or this if it is higher.
        most: how many.
    """
    truth, found = album.truth, album.found
    bar = max(score, CONFIDENT)
    touched = np.zeros(len(found), bool)
    touched[pairs.found[pairs.iou > ALONE]] = True
    alone = np.flatnonzero((found.scores >= bar) & ~touched)
    alone = alone[np.argsort(-found.scores[alone], kind="stable")][:most]
    suspects = [_suspect(album, "missing", float(found.scores[row]), result=int(row)) for row in alone]
    suspects += [
        _suspect(album, "class", float(found.scores[row]), result=row, truth=object_)
        for row, object_ in _other_class(album, pairs, bar)[:most]
    ]
    recall = _recall_of_similar(truth, album.decided.found)
    near = np.zeros(len(truth), bool)
    near[pairs.truth[(pairs.iou >= ALONE) & (found.scores[pairs.found] >= min(0.05, score))]] = True
    lost = np.flatnonzero(~truth.crowd & ~near & ~album.decided.found & (recall >= 0.5))
    lost = lost[np.argsort(-recall[lost], kind="stable")][:most]
    return suspects + [_suspect(album, "extra", float(recall[row]), truth=int(row)) for row in lost]


def _other_class(album: Album, pairs: Pairs, bar: float) -> list[tuple[int, int]]:
    """(result, object): sure, close, of another class, on an object that its own class does not find; by score."""
    truth, found = album.truth, album.found
    rows = np.flatnonzero(
        (found.scores[pairs.found] >= bar)
        & (pairs.iou >= CLOSE)
        & (found.labels[pairs.found] != truth.labels[pairs.truth])
        & ~album.decided.found[pairs.truth]
        & ~truth.crowd[pairs.truth]
    )
    rows = rows[np.argsort(-found.scores[pairs.found[rows]], kind="stable")]
    first: dict[int, int] = {}
    for row in rows.tolist():
        first.setdefault(int(pairs.truth[row]), int(pairs.found[row]))
    return [(result, object_) for object_, result in first.items()]


def _recall_of_similar(truth: Items, found: np.ndarray) -> np.ndarray:
    """(G,) the part of the other objects of the same class and size (small, medium, large) that is found; 0 for few."""
    group = truth.labels * 3 + np.searchsorted(_SIZES, truth.areas, side="right")
    real = ~truth.crowd
    size = int(group.max(initial=0)) + 1
    objects = np.bincount(group[real], minlength=size)
    hits = np.bincount(group[real & found], minlength=size)
    others = objects[group] - 1
    return np.where(others >= _ENOUGH, (hits[group] - found) / np.maximum(others, 1), 0.0)


def _suspect(
    album: Album, problem: str, confidence: float, *, result: int | None = None, truth: int | None = None
) -> Suspect:
    image = int(album.found.images[result] if result is not None else album.truth.images[truth])
    return Suspect(
        problem,
        album.image_ids[image],
        album.paths[image],
        round(confidence, 4),
        None if result is None else album.result(result),
        None if truth is None else album.object(truth),
    )


def _text(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": [*map(int, rle["size"])], "counts": counts if isinstance(counts, str) else counts.decode("ascii")}
