"""What a tracker knows about the instances of one frame: which object each is, where it was, what was counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class LineCount:
    """Objects that crossed a line, by the name of their class.

    Attributes:
        name: as the user calls it.
        ends: (x0, y0, x1, y1) original frame.
        to_left, to_right: how many crossed to each side, for someone who walks from the first end to the second as the
            picture shows it.
    """

    name: str
    ends: tuple[float, float, float, float]
    to_left: Mapping[str, int] = field(default_factory=dict)
    to_right: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ZoneCount:
    """Objects in a part of the picture, by the name of their class.

    Attributes:
        name: as the user calls it.
        corners: (x, y) of its polygon, original frame.
        now: how many are in it in this frame.
        most: how many were in it at once, all classes together.
        entered: how many different ones have been in it so far.
    """

    name: str
    corners: tuple[tuple[float, float], ...]
    now: Mapping[str, int] = field(default_factory=dict)
    most: int = 0
    entered: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """What was counted from the first frame to this one.

    Attributes:
        objects: different objects so far, by the name of the class that each was most often.
        lines, zones: in the order in which they were asked for.
    """

    objects: Mapping[str, int] = field(default_factory=dict)
    lines: tuple[LineCount, ...] = ()
    zones: tuple[ZoneCount, ...] = ()


@dataclass(frozen=True, eq=False)
class Tracks:
    """Which object each instance of a frame is.

    Attributes:
        ids: (N,) int64, from 1 in each film.
        trails: N of (T, 2) float32, x and y of the middle of the object in the last frames, this one last.
        sequence: name of the film, or of the folder of images.
        frame: number in the sequence, from 0.
        counts: of the sequence, up to this frame.
    """

    ids: np.ndarray
    trails: Sequence[np.ndarray] = ()
    sequence: str = ""
    frame: int = 0
    counts: Counts = Counts()

    def select(self, keep: np.ndarray) -> Tracks:
        """Those of some instances; what was counted stays. `keep`: (M,) indices."""
        trails = [self.trails[index] for index in keep] if self.trails else ()
        return replace(self, ids=self.ids[keep], trails=trails)

    def enlarged(self, scale: float) -> Tracks:
        """The same in a picture `scale` times as large."""
        counts = self.counts
        lines = []
        for line in counts.lines:
            x0, y0, x1, y1 = line.ends
            lines.append(replace(line, ends=(scale * x0, scale * y0, scale * x1, scale * y1)))
        zones = [replace(zone, corners=tuple((scale * x, scale * y) for x, y in zone.corners)) for zone in counts.zones]
        counts = replace(counts, lines=tuple(lines), zones=tuple(zones))
        return replace(self, trails=[scale * trail for trail in self.trails], counts=counts)
