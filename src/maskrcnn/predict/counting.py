"""Tracked instances counted: different objects, those that cross lines, those in zones. Original frame.

An object is where the middle of its mask is. Memory follows the objects that are in sight, not the length of a film.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import supervision as sv

from maskrcnn.errors import ConfigError
from maskrcnn.instances import Instances
from maskrcnn.tracks import Counts, LineCount, ZoneCount

STEADY = 2
"""Frames on the other side of a line before that counts: one that stands on it shakes."""
Ends = tuple[float, float, float, float]
Corners = tuple[tuple[float, float], ...]


@dataclass(eq=False)
class _Life:
    """One object from when it came to when it is given up.

    Attributes:
        label: its class.
        trail: (x, y, seconds), the last one last.
        zones: names of those that it has been in.
        sides: of each line: whether it is on the left of it, and for how many frames it has been on the other side.
    """

    label: int
    trail: deque[tuple[float, float, float]] = field(default_factory=deque)
    zones: set[str] = field(default_factory=set)
    sides: dict[str, tuple[bool, int]] = field(default_factory=dict)


class Counting:
    """What happens in one film.

    Args:
        classes: names.
        size: (height, width) of its frames.
        lines: name -> (x0, y0, x1, y1).
        zones: name -> (x, y) of three corners or more.
        trail: seconds that a trail reaches back.

    Raises:
        ConfigError: a line or zone that is not in the picture, or has no length or area.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        size: tuple[int, int],
        lines: Mapping[str, Ends],
        zones: Mapping[str, Corners],
        trail: float,
    ) -> None:
        self._classes, self._trail = classes, trail
        self._lives: dict[int, _Life] = {}
        self._objects: Counter[int] = Counter()
        for name, ends in lines.items():
            _check_line(name, ends, size)
        self._lines, self._corners = dict(lines), dict(zones)
        self._zones = {name: _zone(name, corners, size) for name, corners in zones.items()}
        self._crossed: dict[tuple[str, bool], Counter[int]] = {
            (n, left): Counter() for n in lines for left in (False, True)
        }
        self._most: Counter[str] = Counter()
        self._entered: dict[str, Counter[int]] = {name: Counter() for name in zones}

    def add(
        self, instances: Instances, ids: np.ndarray, alive: Collection[int], seconds: float
    ) -> tuple[list[np.ndarray], Counts]:
        """(trails, counts) after one more frame.

        Args:
            instances: its tracked instances.
            ids: (N,) their numbers, each once.
            alive: numbers of the objects that are there or waited for.
            seconds: time of the frame.
        """
        for number in [number for number in self._lives if number not in alive]:
            del self._lives[number]
        for number, label, (x, y) in zip(
            ids.tolist(), instances.labels.tolist(), instances.centroids.tolist(), strict=True
        ):
            if number not in self._lives:
                self._lives[number] = _Life(label)
                self._objects[label] += 1
            trail = self._lives[number].trail
            trail.append((x, y, seconds))
            while trail[0][2] < seconds - self._trail:
                trail.popleft()
        for name, ends in self._lines.items():
            self._cross(name, ends)
        inside = {name: self._enter(name, ids) for name in self._zones}
        trails = [np.array(self._lives[number].trail, np.float32)[:, :2] for number in ids.tolist()]
        return trails, self._counts(inside)

    def _cross(self, name: str, ends: Ends) -> None:
        """Those out of sight stand where they were, so that one who is hidden at the line is counted too."""
        start, way = np.array(ends[:2]), np.subtract(ends[2:], ends[:2])
        for life in self._lives.values():
            step = np.array(life.trail[-1][:2]) - start
            if not 0 <= step @ way <= way @ way:
                continue  # beside the line, not before or behind it
            left = bool(way[0] * step[1] - way[1] * step[0] < 0)  # y points downwards
            was, other = life.sides.get(name, (left, 0))
            other = other + 1 if left != was else 0
            if other == STEADY:
                self._crossed[name, left][life.label] += 1
                was, other = left, 0
            life.sides[name] = was, other

    def _enter(self, name: str, ids: np.ndarray) -> Counter[int]:
        """Labels of those of this frame that are in the zone."""
        lives = [self._lives[number] for number in ids.tolist()]
        points = np.array([life.trail[-1][:2] for life in lives], np.float32).reshape(-1, 2)
        within = self._zones[name].trigger(sv.Detections(np.concatenate([points, points], axis=1)))
        inside: Counter[int] = Counter()
        for life in (life for life, there in zip(lives, within.tolist(), strict=True) if there):
            inside[life.label] += 1
            if name not in life.zones:
                life.zones.add(name)
                self._entered[name][life.label] += 1
        self._most[name] = max(self._most[name], inside.total())
        return inside

    def _counts(self, inside: Mapping[str, Counter[int]]) -> Counts:
        crossed = {key: self._named(counts) for key, counts in self._crossed.items()}
        lines = [LineCount(name, ends, crossed[name, True], crossed[name, False]) for name, ends in self._lines.items()]
        zones = [
            ZoneCount(name, corners, self._named(inside[name]), self._most[name], self._named(self._entered[name]))
            for name, corners in self._corners.items()
        ]
        return Counts(self._named(self._objects), tuple(lines), tuple(zones))

    def _named(self, counts: Mapping[int, int]) -> dict[str, int]:
        """In the order of the classes; two of one name are one."""
        named: dict[str, int] = {}
        for label in sorted(counts):
            named[self._classes[label]] = named.get(self._classes[label], 0) + counts[label]
        return named


def _check_line(name: str, ends: Ends, size: tuple[int, int]) -> None:
    _check_inside("line", name, (ends[:2], ends[2:]), size)
    if ends[:2] == ends[2:]:
        raise ConfigError(f"line {name}: has no length; give two different points", field="lines")


def _zone(name: str, corners: Corners, size: tuple[int, int]) -> sv.PolygonZone:
    _check_inside("zone", name, corners, size)
    zone = sv.PolygonZone(np.rint(np.array(corners)).astype(int), triggering_anchors=[sv.Position.CENTER])
    x, y = zone.polygon.T
    if x @ np.roll(y, -1) == y @ np.roll(x, -1):
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
