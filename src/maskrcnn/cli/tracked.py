"""`maskrcnn predict --track`: its options, and what it tells at the end of a film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskrcnn import options
from maskrcnn.errors import ConfigError

if TYPE_CHECKING:
    from maskrcnn.predict.track import Tracking
    from maskrcnn.tracks import Tracks

METHODS = ("bytetrack", "sort", "botsort")
OVERLAPS = ("box", "mask")
SAVES = ("mot", "mots", "counts")
_ALONE = ("track_overlap", "patience", "line", "zone")


def tracking_of(given: Any) -> Tracking | None:
    """What `--track`, `--line` and `--zone` ask for; None without `--track`. Raises `ConfigError`."""
    if given.track is None:
        for name in _ALONE:
            if getattr(given, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} is of tracked objects; give --track too")
        return None
    for name, value, known in (("track", given.track, METHODS), ("track-overlap", given.track_overlap, OVERLAPS)):
        if value is not None and value not in known:
            hint = options.nearest(value, known)
            raise ConfigError(f"--{name} {value!r} is not one of {', '.join(known)}{hint}; give sources before it")
    from maskrcnn.predict.track import Tracking

    tracking = Tracking(
        given.track,
        given.track_overlap or "box",
        score=given.score_threshold,
        weak_score=min(Tracking.weak_score, given.score_threshold),
        patience=Tracking.patience if given.patience is None else given.patience,
        lines=dict(_named("line", given.line, 4)),
        zones={
            name: tuple(zip(numbers[::2], numbers[1::2], strict=True))
            for name, numbers in _named("zone", given.zone, 6)
        },
    )
    tracking.check()
    return tracking


def _named(kind: str, texts: Sequence[str] | None, least: int) -> Iterator[tuple[str, Any]]:
    """Texts like door=10,20,300,20; without a name they are called line 1, line 2 ..."""
    taken: set[str] = set()
    for number, text in enumerate(texts or (), 1):
        name, _, values = text.rpartition("=")
        name = name or f"{kind} {number}"
        try:
            numbers = tuple(float(value) for value in values.split(","))
        except ValueError:
            numbers = ()
        right = len(numbers) == least if kind == "line" else len(numbers) >= least and len(numbers) % 2 == 0
        if not right:
            wanted = "X0,Y0,X1,Y1" if kind == "line" else "X0,Y0,X1,Y1,X2,Y2 or more corners"
            raise ConfigError(f"--{kind} {text!r}: expected {wanted} in pixels, with NAME= in front if you like")
        if name in taken:
            raise ConfigError(f"--{kind} {name!r} is there twice; give another name")
        taken.add(name)
        yield name, numbers


def told(results: Iterator[Any]) -> Iterator[Any]:
    """The same results; what was counted is printed at the end."""
    last: dict[str, Tracks] = {}
    try:
        for instances, image in results:
            last[instances.tracks.sequence] = instances.tracks
            yield instances, image
    finally:
        for tracks in last.values():
            print(sentence(tracks))


def sentence(tracks: Tracks) -> str:
    """One line on a sequence: objects, lines, zones."""
    counts = tracks.counts
    number = tracks.frame + 1
    parts = [f"{tracks.sequence}: {_listed(counts.objects)} in {number} frame{'s' * (number > 1)}"]
    parts += [f"{line.name}: {_listed(line.to_left)} to the left, {_listed(line.to_right)} to the right"
              for line in counts.lines]  # fmt: skip
    parts += [f"{zone.name}: {_listed(zone.entered)} in all, {zone.most} at most" for zone in counts.zones]
    return "; ".join(parts)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no objects"
