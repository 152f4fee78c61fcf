"""What `evaluate` and `predict` take: a model with names for its classes, and the data to measure it on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.read import looks_like_pipeline

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset
    from maskrcnn.model.mask_rcnn import MaskRCNN
    from maskrcnn.predict.exported.model import ExportedModel
    from maskrcnn.predict.predictor import Predictor
    from maskrcnn.predict.tiles import Tiling

PUBLISHED = "torchvision:maskrcnn_resnet50_fpn_v2"
"""What predicts where no model is named."""
NAMELESS = "give one to name them"
"""In the warning of weights whose classes nothing names."""


def choose_model(given: Any) -> str:
    """Take torchvision's published weights for `maskrcnn predict photo.jpg`, which names no model. Gives a note, or "".

    Raises:
        ConfigError: a model without images.
    """
    named = Path(given.model)
    if given.source and not _is_image(named):
        return ""  # a folder before images is meant to be a run
    if not _is_image(named) and not _holds_images(named):
        raise ConfigError(
            f"missing: SOURCE; give images or folders after {given.model}, or an image alone for {PUBLISHED}"
        )
    given.source, given.model = [given.model, *given.source], PUBLISHED
    return f"no model is named: {PUBLISHED} finds the 80 kinds of objects of COCO"


def _is_image(path: Path) -> bool:
    """Also a film, a camera, an address of a picture, or "-"."""
    from maskrcnn.predict import film, pages
    from maskrcnn.predict.sources import SUFFIXES

    name = str(path)
    if name == "-" or (film.is_live(name) and not path.exists()) or pages.Window.parse(name):
        return True
    return path.suffix.lower() in (*SUFFIXES, *film.SUFFIXES) and not path.is_dir()


def _holds_images(folder: Path) -> bool:
    """Whether it is a folder of images, and not one of a model."""
    from maskrcnn.weights.load import is_ours, means_tensorflow

    if not folder.is_dir() or is_ours(folder) or means_tensorflow(folder):
        return False
    return any(_is_image(file) for file in folder.iterdir())


def open_predictor(given: Any) -> Predictor:
    """The model, its classes named by `--label-map` where that is given.

    In `evaluate` the label map names the data first: a model with names, one of which the map knows, keeps them.

    Raises:
        ConfigError: a label map of another model.
        WeightsError, DataError: weights or label map that cannot be read.
    """
    from maskrcnn.predict.predictor import Predictor

    options: dict[str, Any] = {"device": given.device, "trust": given.trust}
    if given.model_config:
        options["config"] = given.model_config
    if not given.label_map:
        return Predictor.load(given.model, **options)
    evaluates = "dataset" in given
    if not evaluates and _is_tensorflow(given.model):
        from maskrcnn.weights.tensorflow.model import load_tensorflow

        model = load_tensorflow(given.model, classes=Path(given.label_map), config=given.model_config)
        return Predictor(model, given.device)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        predictor = Predictor.load(given.model, **options)
    sentences = [str(warning.message) for warning in told]
    for sentence in sentences:
        if NAMELESS not in sentence:
            warnings.warn(sentence, stacklevel=2)
    named = not any(NAMELESS in sentence for sentence in sentences)
    _name(predictor.model, given, keep=evaluates and named)
    return predictor


def _is_tensorflow(model: str) -> bool:
    from maskrcnn.predict.exported.model import is_exported
    from maskrcnn.weights.load import is_ours, means_tensorflow

    return not is_exported(model) and not is_ours(model) and means_tensorflow(model)


def _name(model: MaskRCNN | ExportedModel, given: Any, *, keep: bool) -> None:
    """Give the classes the names of the label map, by id; those that it does not name keep theirs.

    Names without ids are those of the classes in their order.
    """
    from maskrcnn.pipeline.labels import read_items

    items = read_items(Path(given.label_map))
    if keep and {name for item in items for name in (item.name, item.shown)} & {*model.classes}:
        return
    if items[0].listed:
        if len(items) != len(model.classes):
            raise ConfigError(
                f"{given.label_map}: has {len(items)} names, but {given.model} has {len(model.classes)} classes "
                "besides the background; give the names of this model"
            )
        model.classes = tuple(item.shown for item in items)
        return
    known = sorted(model.category_ids)
    if not {item.id for item in items} <= {*known}:
        raise ConfigError(
            f"{given.label_map}: has ids from {items[0].id} to {items[-1].id}, but {given.model} has {len(known)} "
            f"classes with ids from {known[0]} to {known[-1]}; give the label map of this model"
        )
    shown = {item.id: item.shown for item in items}
    model.classes = tuple(shown.get(i, name) for i, name in zip(model.category_ids, model.classes, strict=True))


def tiling_of(given: Any) -> Tiling | None:
    """What `--tile` and `--overlap` ask for; None without `--tile`. Raises `ConfigError`."""
    if given.tile is None:
        if given.overlap is not None:
            raise ConfigError(f"--overlap {given.overlap} is of tiles; give --tile too")
        return None
    from maskrcnn.predict.tiles import Tiling

    if given.tile != "auto" and not given.tile.isdecimal():
        raise ConfigError(f"--tile {given.tile!r} must be a side in pixels or auto; give sources before it")
    tiling = Tiling(None if given.tile == "auto" else int(given.tile), given.overlap)
    tiling.check()
    return tiling


def tell_tiling(predictor: Predictor, tiling: Tiling | None) -> None:
    """Say in one line what is chosen for large images."""
    if tiling is None:
        return
    from maskrcnn.cli.output import say
    from maskrcnn.predict.tiles import tiling_line

    say(tiling_line(predictor, tiling))


def measured_data(given: Any) -> tuple[Dataset, list[str]]:
    """(data, notes): the split to measure on, or the `eval_input_reader` of a pipeline.config.

    Raises:
        ConfigError: a pipeline.config that cannot be read, or a split of it.
        DataError: no such data, or no such split.
    """
    if looks_like_pipeline(given.dataset[0]):
        from maskrcnn.pipeline.data import open_validation
        from maskrcnn.pipeline.read import read_pipeline

        if given.split:
            raise ConfigError(f"--split {given.split}: the records are those of {given.dataset[0]}; leave it out")
        dataset, notes = open_validation(read_pipeline(given.dataset[0]), given.dataset[1:], given.label_map or "")
        return _with_boxes(dataset, given), notes
    dataset, note = _split(_data(given), given.split)
    notes = [note] if note else []
    if given.label_map:
        from maskrcnn.pipeline.labels import read_items, with_label_map

        dataset = with_label_map(dataset, read_items(Path(given.label_map)), notes)
    return dataset, notes


def _data(given: Any) -> Dataset:
    """Everything that is named; records are read with the label map, where one is given."""
    from maskrcnn.data.open import open_dataset

    if not given.label_map or given.format not in ("auto", "tfrecord"):
        return open_dataset(given.dataset, given.format, boxes=given.boxes, truth_only=_truth_only(given))
    from maskrcnn.data.formats import tfrecord
    from maskrcnn.data.merge import merge_datasets
    from maskrcnn.pipeline.data import open_records
    from maskrcnn.pipeline.labels import read_items

    items = read_items(Path(given.label_map))
    opened = [
        open_records(Path(path), items) if tfrecord.sniff(Path(path)) else open_dataset(path, given.format)
        for path in given.dataset
    ]
    return _with_boxes(merge_datasets(opened), given)


def _truth_only(given: Any) -> bool:
    """Whether results are measured, which need no image."""
    return all(str(model).lower().endswith(".json") for model in (given.model, given.compare) if model)


def _with_boxes(dataset: Dataset, given: Any) -> Dataset:
    from maskrcnn.data.open import open_dataset

    return open_dataset(dataset, boxes=given.boxes)


def _split(dataset: Dataset, asked: str | None) -> tuple[Dataset, str]:
    """The split that is asked for, or else val; without a val the only one there is, with a note."""
    if asked or "val" in dataset.splits:
        return dataset.split(asked or "val"), ""
    if len(dataset.splits) > 1:
        known = ", ".join(dataset.splits)
        raise ConfigError(f"{dataset.name}: has no split 'val' but {known}; choose one with --split")
    if not dataset.splits:
        return dataset, ""
    (only,) = dataset.splits
    return dataset.split(only), f"the data has the split {only!r} alone: measured on that"
