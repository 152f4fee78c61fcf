"""`maskrcnn predict`: everything that sources stand for, through a model, into files; a bar, a window, a restart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn import options
from maskrcnn.cli import tracked
from maskrcnn.errors import ConfigError

if TYPE_CHECKING:
    from maskrcnn.cli.window import Window
    from maskrcnn.predict.items import Items

SAVES = ("overlay", "json", "masks", "coco", "labelme", "via", "yolo", "geojson", "csv", "cutouts", "splash",
         *tracked.SAVES)  # fmt: skip


def predict(given: Any) -> int:
    """Returns the exit code: 1 when some images could not be read."""
    kinds = tuple(dict.fromkeys(kind.strip() for kind in given.save.split(",") if kind.strip()))
    for kind in kinds:
        if kind not in SAVES:
            raise ConfigError(f"cannot save {kind!r}{options.nearest(kind, SAVES)}; kinds: {','.join(SAVES)}")
    if not 0 <= given.score_threshold <= 1:
        raise ConfigError(f"--score-threshold {given.score_threshold} must lie between 0 and 1")
    if given.batch_size is not None and given.batch_size < 1:
        raise ConfigError(f"--batch-size {given.batch_size} must be at least 1")
    wanted = next((kind for kind in kinds if kind in tracked.SAVES), None)
    if wanted and given.track is None:
        raise ConfigError(f"--save {wanted} is of objects with numbers; give --track too")
    from maskrcnn.cli.measured import choose_model, open_predictor, tell_tiling, tiling_of

    tiling, tracking = tiling_of(given), tracked.tracking_of(given)
    if note := choose_model(given):
        print(note, flush=True)
    window = _window() if given.show else None
    from maskrcnn.predict.journal import NAME, Journal
    from maskrcnn.predict.results import FILMS, save_results
    from maskrcnn.predict.tiles import stream_tiled
    from maskrcnn.predict.track import track_items
    from maskrcnn.predict.whole import make_folder

    predictor = open_predictor(given)
    tell_tiling(predictor, tiling)
    wanted_classes = _classes(given.classes, predictor.model.classes)
    settings = {
        "model": _identity(given.model),
        "score_threshold": given.score_threshold,
        "save": sorted(kinds),
        "tiling": tiling and asdict(tiling),
        "tracking": tracking and asdict(tracking),
        "classes": wanted_classes,
    }
    films = any(kind in FILMS for kind in kinds)
    # What is missing is noticed before anything is written.
    items = predictor.items(given.source, once=True, refresh=given.overwrite)
    out = make_folder(Path(given.out))
    journal = Journal(out / NAME, settings, overwrite=given.overwrite, films=films, tracked=tracking is not None)
    items.done = journal.done
    threshold = tracking.weak_score if tracking else given.score_threshold
    if tiling is None:
        results = predictor.stream_items(items, given.batch_size, threshold)
    else:
        results = stream_tiled(predictor, items, tiling, threshold, given.batch_size)
    if wanted_classes:
        results = ((instances.filter(classes=wanted_classes), image) for instances, image in results)
    if tracking:
        results = tracked.told(track_items(results, tracking, items.names))
    try:
        saved = save_results(_told(results, items, journal.resumed, window), out, kinds, journal)
    except KeyboardInterrupt:
        print(f"stopped; what is done is in {out}, and the same command goes on from there", file=sys.stderr)
        raise
    if items.skipped:
        told = "1 image was" if items.skipped == 1 else f"{items.skipped} images were"
        print(f"{told} done before; --overwrite does {'it' if items.skipped == 1 else 'them'} again")
    print(saved)
    if predictor.skipped:
        count = len(predictor.skipped)
        told = "1 image could not be read and is" if count == 1 else f"{count} images could not be read and are"
        print(f"{told} left out, see the warnings", file=sys.stderr)
    return 1 if predictor.skipped else 0


def _classes(text: str | None, known: tuple[str, ...]) -> list[str]:
    """What `--classes` names, in order; none: all of them. Raises `ConfigError` for one that the model has not."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"--classes {name!r} is not one of the model's{options.nearest(name, known)}: "
                              f"{', '.join(known)}")  # fmt: skip
    return sorted(set(names))


def _told(results: Iterator[Any], items: Items, done: int, window: Window | None) -> Iterator[Any]:
    """The same results, with a bar where there is a terminal, and a window where it is wanted."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    total = items.count() if console.is_terminal else None
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        left = None if total is None else max(0, total - done)
        task = progress.add_task("images", total=left)
        for instances, image in results:
            if window is not None and not window.show(instances.draw(image)):
                raise KeyboardInterrupt
            yield instances, image
            progress.advance(task)


def _window() -> Window:
    from maskrcnn.cli.window import Window

    return Window("maskrcnn")


def _identity(model: str) -> str:
    """The model as it is now: trained on, its results are others."""
    path = Path(model)
    if not path.exists():
        return model
    newest = max((file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()), default=0)
    return f"{path.resolve()}|{newest if path.is_dir() else path.stat().st_mtime_ns}"
