"""Tracked instances counted: different objects, those that cross lines, those in zones. Original frame.

An object is where the middle of its mask is. Memory follows the objects that are in sight, not the length of a film.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import supervision as sv

from maskrcnn.errors import ConfigError
from maskrcnn.instances import Instances
from maskrcnn.tracks import Counts, LineCount, ZoneCount

Ends = tuple[float, float, float, float]
STEADY = 2
"""Frames on the other side of a line before that counts: one that stands on it shakes."""


@dataclass(eq=False)
class _Life:
    """One object from when it came to when it is given up."""

    trail: deque[tuple[float, float]]
    labels: Counter[int] = field(default_factory=Counter)
    zones: set[str] = field(default_factory=set)
    last: int = 0  # frame

    @property
    def label(self) -> int:
        """What it was most often; of two the one that came first."""
        return self.labels.most_common(1)[0][0]


class Counting:
    """What happens in one film.

    Args:
        classes: names.
        size: (height, width) of its frames.
        lines: name -> (x0, y0, x1, y1).
        zones: name -> (x, y) of three corners or more.
        trail: frames that a trail reaches back.
        forget: frames after which an object out of sight has its number no more.

    Raises:
        ConfigError: a line or zone that is not in the picture, or has no length or area.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        size: tuple[int, int],
        lines: Mapping[str, Ends],
        zones: Mapping[str, tuple[tuple[float, float], ...]],
        trail: int,
        forget: int,
    ) -> None:
        self._classes, self._trail, self._forget = classes, trail, forget
        self._lives: dict[int, _Life] = {}
        self._gone: Counter[int] = Counter()
        self._lines = {name: _line(name, ends, size) for name, ends in lines.items()}
        self._zones = {name: _zone(name, corners, size) for name, corners in zones.items()}
        self._ends, self._corners = dict(lines), dict(zones)
        self._most: Counter[str] = Counter()
        self._entered: dict[str, Counter[int]] = {name: Counter() for name in zones}

    def add(self, instances: Instances, ids: np.ndarray, frame: int) -> tuple[list[np.ndarray], Counts]:
        """(trails, counts) after one more frame; `ids` (N,) from 1, each once."""
        middles = instances.centroids
        for number, label, middle in zip(ids.tolist(), instances.labels.tolist(), middles.tolist(), strict=True):
            life = self._lives.setdefault(number, _Life(deque(maxlen=self._trail)))
            life.trail.append((middle[0], middle[1]))
            life.labels[label] += 1
            life.last = frame
        for number in [number for number, life in self._lives.items() if frame - life.last > self._forget]:
            self._gone[self._lives.pop(number).label] += 1
        self._cross()
        inside = {name: self._enter(name, ids) for name in self._zones}
        trails = [np.array(self._lives[number].trail, np.float32) for number in ids.tolist()]
        return trails, self._counts(inside)

    def _cross(self) -> None:
        """Those out of sight stand where they were, so that one who is hidden on the line is counted too."""
        everybody = self._points(list(self._lives))
        for line in self._lines.values():
            line.trigger(everybody)

    def _enter(self, name: str, ids: np.ndarray) -> Counter[int]:
        """Labels of those of this frame that are in the zone."""
        within = self._zones[name].trigger(self._points(ids.tolist()))
        inside: Counter[int] = Counter()
        for number in ids[within].tolist():
            life = self._lives[number]
            inside[life.label] += 1
            if name not in life.zones:
                life.zones.add(name)
                self._entered[name][life.label] += 1
        self._most[name] = max(self._most[name], inside.total())
        return inside

    def _points(self, ids: list[int]) -> sv.Detections:
        """The middles as boxes without extent."""
        points = np.array([self._lives[number].trail[-1] for number in ids], np.float32).reshape(-1, 2)
        labels = np.array([self._lives[number].label for number in ids], int)
        return sv.Detections(np.concatenate([points, points], axis=1), class_id=labels, tracker_id=np.array(ids, int))

    def _counts(self, inside: Mapping[str, Counter[int]]) -> Counts:
        objects = self._gone + Counter(life.label for life in self._lives.values())
        lines = tuple(
            LineCount(
                name, self._ends[name], self._named(line.in_count_per_class), self._named(line.out_count_per_class)
            )
            for name, line in self._lines.items()
        )
        zones = tuple(
            ZoneCount(
                name, self._corners[name], self._named(inside[name]), self._most[name], self._named(self._entered[name])
            )
            for name in self._zones
        )
        return Counts(self._named(objects), lines, zones)

    def _named(self, counts: Mapping[Any, int]) -> dict[str, int]:
        """In the order of the classes."""
        return {self._classes[label]: counts[label] for label in sorted(counts)}


def _line(name: str, ends: Ends, size: tuple[int, int]) -> sv.LineZone:
    start, end = ends[:2], ends[2:]
    _check_inside("line", name, (start, end), size)
    if start == end:
        raise ConfigError(f"line {name}: has no length; give two different points", field="lines")
    return sv.LineZone(
        sv.Point(*start), sv.Point(*end), triggering_anchors=[sv.Position.CENTER], minimum_crossing_threshold=STEADY
    )


def _zone(name: str, corners: tuple[tuple[float, float], ...], size: tuple[int, int]) -> sv.PolygonZone:
    _check_inside("zone", name, corners, size)
    zone = sv.PolygonZone(np.rint(np.array(corners)).astype(int), triggering_anchors=[sv.Position.CENTER])
    if not zone.mask.any():
        raise ConfigError(f"zone {name}: has no area; give the corners in their order", field="zones")
    return zone


def _check_inside(kind: str, name: str, points: tuple, size: tuple[int, int]) -> None:
    height, width = size
    for x, y in points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise ConfigError(
                f"{kind} {name}: {x:g},{y:g} is not in the picture, which has {width} x {height} pixels",
                field=f"{kind}s",
            )
