"""Our model -> a checkpoint of the TensorFlow Object Detection API, its pipeline.config and its label map."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.pipeline.augment import NONE
from maskrcnn.pipeline.read import Pipeline
from maskrcnn.pipeline.schedule import PLAIN
from maskrcnn.pipeline.write import pipeline_text
from maskrcnn.presets import preset
from maskrcnn.weights.tensorflow.files import STATE
from maskrcnn.weights.tensorflow.labels import LABEL_MAP, write_label_map
from maskrcnn.weights.tensorflow.names import state_to_variables
from maskrcnn.weights.tensorflow.names_trunk import LAYERS
from maskrcnn.weights.tensorflow.names_width import USUAL_MINIMUM
from maskrcnn.weights.tensorflow.read import PIPELINE
from maskrcnn.weights.tensorflow.recognise import PRESETS
from maskrcnn.weights.tensorflow.write import write_checkpoint

SCHEDULE = (
    *("train.batch_size", "train.steps", "train.optimizer", "train.momentum", "train.rms_decay", "train.optimizer_eps"),
    *("train.weight_decay", "train.clip_norm", "train.ema_decay", "train.precision", "train.monitor"),
    *("train.schedule", "train.learning_rate", "train.learning_rate_batch", "train.decay_factor"),
    *("train.decay_staircase", *PLAIN),
)
"""What a pipeline.config can say of a run."""
AUGMENTATION = tuple(NONE)
PREPROCESSING = ("resize", "min_size", "max_size", "interpolation", "size_rounding", "pad_multiple", "pixels")


def save_tensorflow(
    model: MaskRCNN, prefix: str | Path, *, run: Config | None = None, pipeline: Pipeline | None = None
) -> list[Path]:
    """Write a checkpoint with the names of TF1, and beside it the pipeline.config and the label map that belong to it.

    Args:
        model: one of the API's arrangement: without a pyramid, on one of its trunks.
        prefix: `folder/model.ckpt`; the folder is created with its parents.
        run: whose schedule and augmentation the pipeline.config gets; a warning tells what it cannot say. None: it gets
            those of the published config for the trunk.
        pipeline: the pipeline.config that `run` was read from, to be edited: what else it holds stays.

    Returns:
        The files: index, data, `checkpoint`, pipeline.config, label_map.pbtxt.

    Raises:
        WeightsError: a model that the API cannot express, files that are there already, or a disk that does not let us
            write.
    """
    prefix = Path(prefix)
    _check_expressible(model, prefix)
    config_file, map_file = prefix.with_name(PIPELINE), prefix.with_name(LABEL_MAP)
    _check_new(prefix)
    text = _pipeline_of(model, prefix, run, pipeline)
    if (ids := _ids(model)) != list(model.category_ids):
        _warn(f"{map_file}: the ids {_few(model.category_ids)} became {_few(ids)}: checkpoints number rows from 1")
    variables = state_to_variables(model.state_dict(), model.config.backbone.name)
    files = write_checkpoint(prefix, variables | {"global_step": np.array(0, np.int64)})
    try:
        config_file.write_text(text, encoding="utf-8")
        map_file.write_text(write_label_map(model.classes, ids), encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{prefix}: cannot write beside the checkpoint ({error.strerror or error})") from error
    return [*files, config_file, map_file]


def _check_expressible(model: MaskRCNN, prefix: Path) -> None:
    trunk = model.config.backbone.name
    if trunk not in LAYERS or model.config.fpn is not None:
        raise WeightsError(
            f"{prefix}: the model ({trunk}{', with a pyramid' if model.config.fpn else ''}) has no counterpart in the "
            f"TensorFlow Object Detection API; models without a pyramid on {', '.join(LAYERS)} can be written"
        )
    if model.config.backbone.stage_two_padding == "same":
        raise WeightsError(
            f"{prefix}: the model is arranged as Keras does it (model.backbone.stage_two_padding same), which has no "
            "checkpoint of TF1; keep our own form"
        )


def _check_new(prefix: Path) -> None:
    """Raises `WeightsError` for a file that writing would replace."""
    folder = prefix.parent
    shards = sorted(folder.glob("*.data-*")) if folder.is_dir() else []
    names = [f"{prefix.name}.index", *(file.name for file in shards if file.name.startswith(f"{prefix.name}.data-"))]
    for name in (*names, STATE, PIPELINE, LABEL_MAP):
        if (folder / name).is_file():
            raise WeightsError(f"{folder / name}: is there already; choose an empty folder")


def _pipeline_of(model: MaskRCNN, prefix: Path, run: Config | None, pipeline: Pipeline | None) -> str:
    """The model's own pipeline.config, with as much of the run as it can say. The width is in the variables."""
    published = PRESETS[model.config.backbone.name]
    usual, groups = preset(published), {"schedule": SCHEDULE, "augmentation": AUGMENTATION} if run else {}
    trunk = replace(model.config.backbone, width=1.0, min_width=USUAL_MINIMUM, frozen_stages=0)
    data = {name: getattr(model.data, name) for name in PREPROCESSING}
    while True:
        names = [name for group in groups.values() for name in group]
        try:
            config = usual.replace(**{name: reduce(getattr, name.split("."), run) for name in names})
            config = replace(config, model=replace(model.config, backbone=trunk), data=replace(config.data, **data))
            text = pipeline_text(config, classes=max(_ids(model)), base=pipeline, label_map=LABEL_MAP)
        except ConfigError as error:
            group = next((group for group, fields in groups.items() if error.field in fields), None)
            if group is None:
                raise WeightsError(f"{prefix}: the API cannot express the model: {error}") from error
            del groups[group]
            _warn(f"{prefix.with_name(PIPELINE)}: has the {group} of {published}, not that of the run ({error})")
            continue
        if run and not pipeline and "schedule" in groups and run.train.steps is None:
            _warn(f"{prefix.with_name(PIPELINE)}: num_steps is 0, without an end: the run counts epochs; set it")
        return text


def _ids(model: MaskRCNN) -> list[int]:
    """Ids of the label map: the place of a class in the predictors, whatever number a data set gives it."""
    return list(range(1, len(model.classes) + 1))


def _few(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:4])) + (", ..." if len(ids) > 4 else "")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
