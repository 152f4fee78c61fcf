"""`maskrcnn inspect model`, `weights` and `run`: what is looked at, and where the page goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import ConfigError, DataError

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset
    from maskrcnn.structures import Record


def inspect_model(given: Any) -> None:
    if given.image is None and not given.data:
        raise ConfigError("nothing to look at; give an IMAGE, or --data DATA for the first annotated image in it")
    from maskrcnn.inspection.model import inspect_model as inspect

    record, classes = None, None
    if given.data:
        from maskrcnn.data.open import open_dataset

        dataset = open_dataset(given.data, given.format, boxes=given.boxes)
        record, classes = find_record(dataset, given.image), dataset.classes
    if record is None and not Path(given.image).exists():
        among = ", and no image of the data is called so" if given.data else ""
        raise DataError(f"no such file{among}; check the path of the image", path=given.image)
    if record is None and given.data:
        print(f"note: {given.image} is not among the {len(dataset)} images of the data; going on without its truth")
    image: Any = record if record is not None else given.image
    trace = inspect(
        _model(given.model, given.model_config),
        image,
        record,
        classes=classes,
        layers=given.layers or None,
        score_threshold=given.score_threshold,
    )
    for note in trace.notes:
        print(f"note: {note}")
    print(
        f"anchors {len(trace.anchors.boxes):,}, proposals {len(trace.proposals.boxes):,}, "
        f"detections {len(trace.detections)}, with a score of {given.score_threshold:g} or more {len(trace.instances)}"
    )
    if trace.losses is not None:
        pairs = zip(trace.losses.parts, trace.losses.values, strict=True)
        print("losses: " + ", ".join(f"{name} {value:.4f}" for name, value in pairs))
    from maskrcnn.view.model import model_report

    print(f"page: {_written(model_report, trace, given.out, name=given.model)}")


def inspect_weights(given: Any) -> None:
    from maskrcnn.inspection.weights import inspect_weights as inspect
    from maskrcnn.inspection.weights import table_of

    weights = inspect(given.model, given.other, **({"config": given.model_config} if given.model_config else {}))
    print(table_of(weights))
    if given.out:
        from maskrcnn.view.weights import weights_report

        print(f"page: {_written(weights_report, weights, given.out)}")


def inspect_run(given: Any) -> None:
    from maskrcnn.inspection.run import inspect_run as inspect
    from maskrcnn.view.run import run_report, table_of

    runs = [inspect(folder) for folder in given.run]
    print(table_of(runs))
    if given.out:
        print(f"page: {_written(run_report, runs, given.out)}")


def find_record(dataset: Dataset, image: str | None) -> Record | None:
    """The record of an image by its path, else by its name; without an image the first that has objects.

    Raises:
        DataError: several images of that name; no image at all.
    """
    table = dataset.table
    if image is None:
        rows = [*(~(table.counts == 0)).nonzero()[0].tolist(), *range(min(1, len(table)))]
        if not rows:
            raise DataError("no images in the data; give an IMAGE", path=dataset.name or None)
        return dataset[rows[0]]
    wanted = Path(image)
    named = [row for row, path in enumerate(table.paths) if path.replace("\\", "/").rpartition("/")[2] == wanted.name]
    exact = [row for row in named if Path(table.paths[row]).resolve() == wanted.resolve()]
    exact = exact or [row for row in named if Path(table.paths[row]).parts[-len(wanted.parts) :] == wanted.parts]
    if len(exact or named) == 1:
        return dataset[(exact or named)[0]]
    if named:
        first = ", ".join(table.paths[row] for row in (exact or named)[:3])
        raise DataError(f"{len(named)} images of the data are called so: {first}; give the whole path", path=image)
    return None


def _model(path: str, config: str | None) -> Any:
    from maskrcnn.predict.exported.model import is_exported
    from maskrcnn.weights.load import load_weights

    if is_exported(path):
        return path  # says what to do instead
    return load_weights(path, **({"config": config} if config else {}))


def _written(write: Any, what: Any, path: str, **options: Any) -> Path:
    try:
        return write(what, path, **options)
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror or error}; choose another --out", path=path) from error
