"""Instances of one frame after the other -> the same, numbered: an object keeps its number through a film.

The trackers are those of the `trackers` library (the extra `video`), see `association` for what is added to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from maskrcnn.data.sample import to_display
from maskrcnn.errors import ConfigError
from maskrcnn.instances import Instances, Place
from maskrcnn.predict.items import Names
from maskrcnn.tracks import Tracks

if TYPE_CHECKING:
    from maskrcnn.predict.association import Associator
    from maskrcnn.predict.counting import Counting

Method = Literal["bytetrack", "sort", "botsort"]
Overlap = Literal["box", "mask"]
RATE = 30.0
"""Frames a second of images that say nothing about it."""
LONGEST = 3600.0


@dataclass(frozen=True)
class Tracking:
    """How objects are followed.

    Attributes:
        method: ByteTrack (arXiv 2110.06864), SORT (1602.00763) or BoT-SORT (2206.14651, without its appearance model),
            which also follows the movement of the camera.
        overlap: an object is found again by the overlap of its box, or of its mask, moved to where it is expected.
        score: from this score on an instance begins a track.
        weak_score: instances between this and `score` only continue one; "sort" leaves them out.
        patience: seconds that an object out of sight is waited for.
        confirm: frames in a row before an object gets its number, at least 2; instances without a number are left out.
            "botsort" numbers those of the first frame at once.
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
        """Raises `ConfigError` for what cannot be, and where the `trackers` library is missing."""
        for name, kind in (("method", Method), ("overlap", Overlap)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{getattr(self, name)!r} is not one of {', '.join(get_args(kind))}", field=name)
        if not 0 <= self.weak_score <= self.score <= 1:
            raise ConfigError(f"{self.weak_score:g} and score {self.score:g} must rise from 0 to 1", field="weak_score")
        for name in ("patience", "trail"):
            if not 0 <= getattr(self, name) <= LONGEST:
                raise ConfigError(f"{getattr(self, name):g} seconds must lie between 0 and {LONGEST:g}", field=name)
        if not isinstance(self.confirm, int) or self.confirm < 2:
            raise ConfigError(f"{self.confirm} must be a number of frames, at least 2", field="confirm")
        for name, ends in self.lines.items():
            if not _are_numbers(ends) or len(ends) != 4:
                raise ConfigError(f"line {name}: needs x0, y0, x1, y1, not {ends!r}", field="lines")
        for name, corners in self.zones.items():
            if len(corners) < 3 or not all(_are_numbers(corner) and len(corner) == 2 for corner in corners):
                raise ConfigError(f"zone {name}: needs three corners (x, y) or more, not {corners!r}", field="zones")
        try:
            import maskrcnn.predict.association  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"tracking needs the trackers library ({error}); pip install 'maskrcnn[video]'"
            ) from error


class Tracker:
    """Follows the objects of one film, or of one folder of images.

    Args:
        tracking: how.
        rate: frames a second.
        name: of the sequence; the files about it are called so.

    Raises:
        ConfigError: settings that cannot be; the `trackers` library is missing.
    """

    def __init__(self, tracking: Tracking | None = None, rate: float = RATE, name: str = "film") -> None:
        self.tracking, self.name = tracking or Tracking(), name
        self.tracking.check()
        if not 0 < rate < math.inf:
            raise ConfigError(f"{rate} frames a second must be more than 0", field="rate")
        from maskrcnn.predict.association import Associator

        t = self.tracking
        self._associator: Associator = Associator(t.method, t.overlap == "mask", rate, t.score, t.patience, t.confirm)
        self._counting: Counting | None = None
        self._rate, self._frame, self._seconds = rate, -1, -math.inf

    def update(
        self, instances: Instances, image: Any = None, seconds: float | None = None, frame: int | None = None
    ) -> Instances:
        """Those of the next frame that belong to an object with a number, with `tracks`.

        Args:
            instances: down to `Tracking.weak_score`.
            image: (H, W, 3) uint8 RGB, for "botsort"; None: read from `instances.path`.
            seconds: time of the frame, where they do not come at `rate`; one that is not later than that of the last
                frame counts as the next at `rate`.
            frame: its number in the film, from 0; None: the next one.

        Raises:
            ConfigError: masks are to be compared, and there are none; "botsort" without an image; a line or zone that
                is not in the picture.
            DataError: the image cannot be read.
        """
        if self.tracking.overlap == "mask" and not instances.has_masks:
            raise ConfigError("objects cannot be followed by their masks, this model has none; follow their boxes")
        pixels = None
        if self._associator.wants_frames:
            if image is None and not instances.path:
                raise ConfigError("botsort looks at the frames too; use Predictor.track, or give Tracker.update images")
            pixels = to_display(instances.path if image is None else image)
        if seconds is not None and not seconds > self._seconds:
            seconds = self._seconds + 1 / self._rate
        self._frame = self._frame + 1 if frame is None else frame
        self._seconds = self._frame / self._rate if seconds is None else seconds
        numbers = self._associator.update(instances, pixels, seconds)
        keep = np.flatnonzero(numbers >= 0)
        kept, ids = instances[keep], numbers[keep] + 1
        if self._counting is None:
            self._counting = self._begin(instances)
        alive = {number + 1 for number in self._associator.alive()}
        trails, counts = self._counting.add(kept, ids, alive, self._seconds)
        return replace(kept, tracks=Tracks(ids, trails, self.name, self._frame, counts))

    def _begin(self, instances: Instances) -> Counting:
        from maskrcnn.predict.counting import Counting

        tracking = self.tracking
        return Counting(instances.classes, instances.size, tracking.lines, tracking.zones, tracking.trail)


def track(results: Iterable[Instances], tracking: Tracking | None = None) -> Iterator[Instances]:
    """The same instances with `tracks`, those without a number left out.

    Each film, each folder of images, and each TIFF with pages is a sequence with numbers from 1; what comes from
    memory is one too. A score threshold of at most `Tracking.weak_score` is right for `results`.

    Raises:
        ConfigError: as `Tracker`.
    """
    items = track_items(((instances, None) for instances in results), tracking)
    return (instances for instances, _ in items)


def track_items(
    results: Iterable[tuple[Instances, Any]], tracking: Tracking | None = None, names: Names | None = None
) -> Iterator[tuple[Instances, Any]]:
    """`track` for what `Predictor.stream_items` gives: instances, each with what was read.

    Args:
        results: instances with their image, or None where they have a `path`.
        tracking: how.
        names: those that are taken already, by the films among the sources.
    """
    (tracking := tracking or Tracking()).check()
    return _track(results, tracking, Names() if names is None else names)


def _track(
    results: Iterable[tuple[Instances, Any]], tracking: Tracking, names: Names
) -> Iterator[tuple[Instances, Any]]:
    folders: dict[str, Tracker] = {}
    film: Tracker | None = None
    films, last = Names(), Place()
    for instances, image in results:
        place = instances.place
        if place is None or place.file is None:
            folder = str(Path(instances.path).absolute().parent) if instances.path else ""
            if folder not in folders:
                name = names.free(Path(folder).name or "images")
                folders[folder] = Tracker(tracking, name=name)
            yield folders[folder].update(instances, image), image
            continue
        if film is None or _begins(place, last):
            film = Tracker(tracking, place.rate or RATE, films.free(_stem(place) or "film"))
        last = place
        yield film.update(instances, image, place.seconds, place.frame), image


def _begins(place: Place, last: Place) -> bool:
    """Whether it is the first frame that comes of a film: another one, or the same once more."""
    again = place.frame is not None and last.frame is not None and place.frame <= last.frame
    return again or (place.file, _stem(place)) != (last.file, _stem(last))


def _stem(place: Place) -> str:
    """The name of a film or TIFF, from that of one of its frames or pages."""
    return place.name.rpartition("_")[0]


def _are_numbers(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and all(isinstance(value, (int, float)) for value in values)
