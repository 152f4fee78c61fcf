"""Class names for a detector's weights: from a label map that is given, named by its config, or lies beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskrcnn.data.formats.label_map import label_map_text, looks_like_label_map, read_label_map
from maskrcnn.errors import DataError, WeightsError
from maskrcnn.pipeline.read import Pipeline
from maskrcnn.weights.classes import class_names, unused

LABEL_MAP = "label_map.pbtxt"


def names_of(
    count: int, given: str | Path | Sequence[str] | None, weights: Path, pipeline: Pipeline | None
) -> tuple[list[str], list[int], str]:
    """Names of the classes with the ids 1, 2, ..., `count`, these ids, and a sentence where the names are not the
    user's own.

    Ids that the label map leaves out are called "unused 12": they have rows in the predictors.

    Args:
        count: classes without the background.
        given: a label map or a list of names; None: the label map that the pipeline.config names, or the only one
            beside the weights or the pipeline.config whose ids go up to `count`; else COCO's names for 90 classes,
            "class 1", ... for others.
        weights: the file that was read.
        pipeline: the config, if there is one.

    Raises:
        WeightsError: a label map with larger ids, or another number of names.
        DataError: a damaged label map, or one with two classes of one name.
    """
    if given is not None and not isinstance(given, str | Path):
        return *class_names(count, given), ""
    if given is not None:
        return *_from_map(Path(given), count), ""
    if named := next(_named(weights, pipeline), None):
        return *_from_map(named, count), ""
    beside = _beside(weights, pipeline)
    fitting = [file for file in beside if max((item.id for item in read_label_map(file)), default=0) == count]
    if len(fitting) == 1:
        return *_from_map(fitting[0], count), ""
    names, ids = class_names(count)
    why = "no label map lies beside it"
    if beside:
        why = f"{len(fitting)} label maps lie beside it" if fitting else f"{beside[0].name} beside it has other ids"
    called = (
        "those of COCO" if names[0] == "person" else f"called {names[0]!r}" + (f", ... {names[-1]!r}" * (count > 1))
    )
    return names, ids, f"{weights}: {why}, so its {count} classes are {called}; give one to name them"


def write_label_map(classes: Sequence[str], ids: Sequence[int]) -> str:
    """A label map of the classes, without those that are only rows in the predictors."""
    used = [(name, i) for name, i in zip(classes, ids, strict=True) if name != unused(i)]
    return label_map_text([name for name, _ in used], [i for _, i in used])


def _from_map(file: Path, count: int) -> tuple[list[str], list[int]]:
    items = [item for item in read_label_map(file) if item.id]  # 0 is the background
    if not items or not all(1 <= item.id <= count for item in items):
        ids = [item.id for item in items] or [0]
        raise WeightsError(
            f"{file}: has ids from {min(ids)} to {max(ids)}, but the weights have {count} classes; give the label map "
            "of these weights"
        )
    shown = {item.id: item.shown for item in items}
    name, times = Counter(shown.values()).most_common(1)[0]
    if times > 1:
        raise DataError(f"class {name!r} is there twice in the label map; rename one of them", path=file)
    numbers = list(range(1, count + 1))
    return [shown.get(i, unused(i)) for i in numbers], numbers


def _named(weights: Path, pipeline: Pipeline | None) -> Iterator[Path]:
    """The label map of the config's input readers, where it is: as it stands, or moved beside the config."""
    for reader in (pipeline.train_data, pipeline.val_data) if pipeline else ():
        if reader is None or not reader.label_map:
            continue
        given = Path(reader.label_map).expanduser()
        moved = re.split(r"[/\\]", reader.label_map)[-1]
        for place in (given, *(folder / part for folder in _folders(weights, pipeline) for part in (given, moved))):
            if place.is_file():
                yield place


def _beside(weights: Path, pipeline: Pipeline | None) -> list[Path]:
    for folder in _folders(weights, pipeline):
        if found := sorted(file for file in folder.glob("*.pbtxt") if looks_like_label_map(file)):
            return found
    return []


def _folders(weights: Path, pipeline: Pipeline | None) -> list[Path]:
    """Where the weights lie, where their config lies, and the folders above those of the weights."""
    folder = weights.absolute().parent
    folders = [folder, *([pipeline.path.absolute().parent] if pipeline else []), folder.parent]
    return list(dict.fromkeys(folders))
