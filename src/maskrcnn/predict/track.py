"""Instances of one frame after the other -> the same, numbered: an object keeps its number through a film.

The trackers are those of the `trackers` library (the extra `video`), see `association` for what is added to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from maskrcnn.data.sample import to_display
from maskrcnn.errors import ConfigError
from maskrcnn.instances import Instances
from maskrcnn.predict.items import Names
from maskrcnn.tracks import Tracks

if TYPE_CHECKING:
    from maskrcnn.predict.association import Associator
    from maskrcnn.predict.counting import Counting

Method = Literal["bytetrack", "ocsort", "sort", "botsort"]
Overlap = Literal["box", "mask"]
RATE = 30.0
"""Frames a second of images that say nothing about it."""


@dataclass(frozen=True)
class Tracking:
    """How objects are followed.

    Attributes:
        method: ByteTrack (arXiv 2110.06864), OC-SORT (2203.14360), SORT (1602.00763) or BoT-SORT (2206.14651, without
            its appearance model); the last one also follows the movement of the camera.
        overlap: an object is found again by the overlap of its box, or of its mask, moved to where it is expected.
        score: from this score on an instance begins a track.
        weak_score: instances between this and `score` only continue one.
        patience: seconds that an object out of sight is waited for.
        confirm: frames in a row before an object gets its number, at least 2; instances without a number are left out.
            "ocsort" and "botsort" wait less in the first frames.
        trail: seconds that a drawn trail reaches back.
        lines: name -> (x0, y0, x1, y1): crossings are counted.
        zones: name -> corners (x, y): who is in them is counted.
    """

    method: Method = "bytetrack"
    overlap: Overlap = "box"
    score: float = 0.5
    weak_score: float = 0.1
    patience: float = 1.0
    confirm: int = 2
    trail: float = 1.0
    lines: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    zones: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises `ConfigError` for what cannot be."""
        for name, kind in (("method", Method), ("overlap", Overlap)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{getattr(self, name)!r} is not one of {', '.join(get_args(kind))}", field=name)
        if not 0 <= self.weak_score <= self.score <= 1:
            raise ConfigError(f"{self.weak_score:g} and score {self.score:g} must rise from 0 to 1", field="weak_score")
        for name in ("patience", "trail"):
            if not 0 <= getattr(self, name) <= 3600:
                raise ConfigError(f"{getattr(self, name):g} seconds must lie between 0 and 3600", field=name)
        if self.confirm < 2:
            raise ConfigError(f"{self.confirm} frames must be at least 2", field="confirm")
        for name, ends in self.lines.items():
            if len(ends) != 4:
                raise ConfigError(f"line {name}: needs x0, y0, x1, y1, not {len(ends)} numbers", field="lines")
        for name, corners in self.zones.items():
            if len(corners) < 3:
                raise ConfigError(f"zone {name}: needs three corners or more, not {len(corners)}", field="zones")


class Tracker:
    """Follows the objects of one film, or of one folder of images.

    Args:
        tracking: how.
        rate: frames a second.
        name: of the sequence.

    Raises:
        ConfigError: settings that cannot be; the `trackers` library is missing.
    """

    def __init__(self, tracking: Tracking | None = None, rate: float = RATE, name: str = "") -> None:
        self.tracking, self.name = tracking or Tracking(), name
        self.tracking.check()
        self._rate, self._frame = rate, -1
        self._associator: Associator = self._library()
        self._counting: Counting | None = None

    def update(self, instances: Instances, image: Any = None, seconds: float | None = None) -> Instances:
        """Those of the next frame that belong to an object with a number, with `tracks`.

        Args:
            instances: down to `Tracking.weak_score`.
            image: (H, W, 3) uint8 RGB, for "botsort"; None: read from `instances.path`.
            seconds: time of the frame, where they do not come at `rate`; later than that of the last one.

        Raises:
            ConfigError: masks are to be compared, and there are none; a line or zone that is not in the picture.
            DataError: the image cannot be read.
        """
        self._frame += 1
        if self.tracking.overlap == "mask" and not instances.has_masks:
            raise ConfigError("this model has no masks; compare boxes", field="overlap")
        frame = None
        if self._associator.wants_frames and (image is not None or instances.path):
            frame = to_display(instances.path if image is None else image)
        numbers = self._associator.update(instances, frame, seconds)
        keep = np.flatnonzero(numbers >= 0)
        kept, ids = instances[keep], numbers[keep] + 1
        if self._counting is None:
            self._counting = self._begin(instances)
        trails, counts = self._counting.add(kept, ids, self._frame)
        return replace(kept, tracks=Tracks(ids, trails, self.name, self._frame, counts))

    def _library(self) -> Associator:
        try:
            from maskrcnn.predict.association import Associator
        except ImportError as error:
            raise ConfigError(
                f"tracking needs the trackers library ({error}); pip install 'maskrcnn[video]'"
            ) from error
        tracking = self.tracking
        return Associator(
            tracking.method, tracking.overlap == "mask", self._rate, tracking.score, tracking.patience, tracking.confirm
        )

    def _begin(self, instances: Instances) -> Counting:
        from maskrcnn.predict.counting import Counting

        tracking = self.tracking
        trail, forget = (1 + round(seconds * self._rate) for seconds in (tracking.trail, tracking.patience))
        return Counting(instances.classes, instances.size, tracking.lines, tracking.zones, trail, forget)


def track(results: Iterable[Instances], tracking: Tracking | None = None) -> Iterator[Instances]:
    """The same instances with `tracks`, those without a number left out.

    Each film, each folder of images, and each TIFF with pages is a sequence with numbers from 1; what comes from
    memory, one after the other, is one too. A score threshold of at most `Tracking.weak_score` is right for `results`.

    Raises:
        ConfigError: as `Tracker`.
    """
    return (instances for instances, _ in track_items(((instances, None) for instances in results), tracking))


def track_items(
    results: Iterable[tuple[Instances, Any]], tracking: Tracking | None = None
) -> Iterator[tuple[Instances, Any]]:
    """`track` for what `Predictor.stream_items` gives: instances, each with what was read."""
    (tracking := tracking or Tracking()).check()
    tracker, current, names = None, None, Names()
    for instances, image in results:
        place, sequence = instances.place, _sequence(instances)
        if tracker is None or sequence != current:
            tracker = Tracker(tracking, (place and place.rate) or RATE, names.free(_name(instances)))
            current = sequence
        # Frames of a camera are left out while the network works.
        live = place is not None and place.film and not place.key
        yield tracker.update(instances, image, place.seconds if live and place else None), image


def _sequence(instances: Instances) -> tuple[str, str]:
    place = instances.place
    if place is not None and place.file is not None:
        # A camera that is opened again begins anew.
        return place.file, place.name.rpartition("_")[0]
    return (str(Path(instances.path).parent), "") if instances.path else ("", "")


def _name(instances: Instances) -> str:
    place = instances.place
    if place is not None and place.file is not None:
        return place.name.rpartition("_")[0] or "film"
    return Path(instances.path).absolute().parent.name or "images" if instances.path else "images"
