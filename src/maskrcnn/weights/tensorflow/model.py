"""A detector of the TensorFlow Object Detection API -> our model: variables, pipeline.config and label map."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.pipeline.messages import SCHEMA
from maskrcnn.pipeline.read import Pipeline, read_pipeline
from maskrcnn.pipeline.schema import View
from maskrcnn.weights.classes import COCO, class_names, unused
from maskrcnn.weights.native import load_foreign
from maskrcnn.weights.tensorflow.labels import names_of
from maskrcnn.weights.tensorflow.names import SHADOW, trunk_of, trunk_state, variables_to_state
from maskrcnn.weights.tensorflow.names_object import to_slim
from maskrcnn.weights.tensorflow.names_width import USUAL_MINIMUM, inception_v2_width
from maskrcnn.weights.tensorflow.read import TensorFlowFile, read_tensorflow
from maskrcnn.weights.tensorflow.recognise import (
    check_detector,
    check_same,
    check_shapes,
    classes_of,
    facts_of,
    is_classifier,
    is_keras,
    recognised,
    untold,
)


class Opened(NamedTuple):
    """The model, the config of its run (schedule and data too), and the pipeline.config that it is from, if any."""

    model: MaskRCNN
    config: Config
    pipeline: Pipeline | None


def load_tensorflow(
    path: str | Path,
    *,
    classes: str | Path | Sequence[str] | None = None,
    config: str | Path | Config | None = None,
    moving_averages: bool | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights, the conventions and the preprocessing of a detector that TensorFlow wrote.

    Args:
        path: a checkpoint, a frozen graph, a SavedModel, or a folder with one of these, see `read_tensorflow`.
        classes: a label map (.pbtxt) or a list of names; None: the label map that the pipeline.config names or that
            lies beside; else COCO's names for 90 classes, "class 1", ... for others.
        config: the pipeline.config; None: that beside the weights, or the published one for their trunk. Then, and
            where no label map is found, a warning says so.
        moving_averages: take the moving averages of the variables where the checkpoint has some; None: where
            `eval_config.use_moving_averages` says so. True where it has none is an error.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode. Without masks for Faster R-CNN.

    Raises:
        WeightsError: no weights there, damaged ones, those of another kind of model, or a config or label map of other
            weights.
        ConfigError: a pipeline.config that cannot be read, or an unknown override.
        DataError: a damaged label map.
    """
    return open_tensorflow(path, classes=classes, config=config, moving_averages=moving_averages, **overrides).model


def open_tensorflow(
    path: str | Path,
    *,
    classes: str | Path | Sequence[str] | None = None,
    config: str | Path | Config | None = None,
    moving_averages: bool | None = None,
    **overrides: Any,
) -> Opened:
    """`load_tensorflow`, with what it was read from."""
    file = read_tensorflow(path)
    where = str(file.path)
    check_detector(file.variables, where)
    if moving_averages and not any(name.endswith(SHADOW) for name in file.variables):
        raise WeightsError(f"{where}: has no moving averages; leave moving_averages out")
    pipeline = _pipeline(config, file)
    averages = _averages(pipeline) if moving_averages is None else moving_averages
    variables, trunk, state = _detector(file, averages)
    keras = is_keras(file.variables)
    inception = trunk == "inception_v2"
    width = _named(where, inception_v2_width, variables) if inception else (1.0, USUAL_MINIMUM)
    facts = _named(where, facts_of, state, trunk, width, keras=keras)
    if isinstance(config, Config):
        check_same(config, facts, where, "the config given", None)
        chosen = config
    elif pipeline is not None:
        check_same(pipeline.config, facts, where, str(pipeline.path), pipeline.num_classes)
        chosen = pipeline.config
    else:
        chosen, name = recognised(facts, where, keras=keras)
        _warn(
            f"{where}: no pipeline.config lies beside it, so image size, strides, thresholds and the size of the masks "
            f"are those of {name}; give its own if it has another"
        )
    chosen = chosen.replace(**untold(facts))
    check_shapes(chosen, facts, state, where)
    names, ids, told = names_of(facts.classes, classes, file.path, pipeline)
    if told:
        _warn(told)
    chosen = chosen.replace(**{f"model.{name}": value for name, value in overrides.items()})
    model = build_model(chosen.model, classes=names, category_ids=ids, data=chosen.data)
    load_foreign(model, state, where=where)
    return Opened(model.eval(), chosen, pipeline)


def training_state(
    path: str | Path, trunk: str, *, labels: Mapping[int, str] | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...], str]:
    """What training can start from: the tensors of a detector, or of the trunk alone of slim's ImageNet weights.

    A pipeline.config beside them need not fit, nor be one that can be read: it may be that of the training to come.

    Args:
        path: as in `load_tensorflow`.
        trunk: `model.backbone.name` of the model that will be trained.
        labels: category id -> class name of the training data. Where nothing names the classes of the weights, and the
            ids go up to their number, a class is the one with its id, as in the API.

    Returns:
        The tensors by our names; the class names of a detector, () for a trunk; what is to be said of these, or "".

    Raises:
        WeightsError: as in `load_tensorflow`, or another trunk.
        DataError: a damaged label map beside.
    """
    file = read_tensorflow(path)
    where = str(file.path)
    if is_classifier(file.variables):
        _check_trunk(trunk_of(file.variables), trunk, where)
        return _named(where, trunk_state, file.variables, trunk), (), ""
    check_detector(file.variables, where)
    _, found, state = _detector(file, moving_averages=False)
    _check_trunk(found, trunk, where)
    count, pipeline, unread = _named(where, classes_of, state), None, ""
    try:
        pipeline = _pipeline(None, file)
    except ConfigError as error:
        unread = f"the pipeline.config beside it cannot be read and is passed over ({error})"
    try:
        names, ids, told = names_of(count, None, file.path, pipeline)
    except WeightsError:  # the label map is not that of the weights
        names, ids = class_names(count)
        told = "no label map of its classes lies beside it"
    if told and count != COCO and labels and max(labels) == count:
        names = [labels.get(i, unused(i)) for i in ids]
        told = "its classes have no names, they are taken for those of the data with the same ids"
    return state, tuple(names), "; ".join(filter(None, (told, unread)))


# ---------------------------------------------------------------- the parts


def _pipeline(config: str | Path | Config | None, file: TensorFlowFile) -> Pipeline | None:
    if isinstance(config, Config):
        return None
    chosen = file.config if config is None else Path(config)
    return None if chosen is None else read_pipeline(chosen)


def _averages(pipeline: Pipeline | None) -> bool:
    if pipeline is None:
        return False
    view = View(pipeline.message, "Pipeline", SCHEMA, pipeline.path).part("eval_config")
    return bool(view.get("use_moving_averages"))


def _detector(file: TensorFlowFile, moving_averages: bool) -> tuple[dict[str, np.ndarray], str, dict[str, Tensor]]:
    """Variables by slim's names, the trunk, and our state dict."""
    where = str(file.path)
    variables = _named(where, to_slim, file.variables, file.full_names)
    if is_keras(file.variables) and not any("InceptionResnetV2/" in name for name in variables):
        raise WeightsError(
            f"{where}: is a Faster R-CNN of TF2 with another trunk than Inception-ResNet v2; of TF2, "
            "faster_rcnn_inception_resnet_v2_keras is read",
            unexpected=list(variables),
        )
    trunk = _named(where, trunk_of, variables)
    return variables, trunk, _named(where, variables_to_state, variables, trunk, moving_averages=moving_averages)


def _named(where: str, function: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a function gives; its errors with the file in front."""
    with weights_of(where):
        return function(*arguments, **keywords)


def _check_trunk(found: str, wanted: str, where: str) -> None:
    if found != wanted:
        raise WeightsError(
            f"{where}: its trunk is {found}, but the model to train has {wanted}; set model.backbone.name {found}, or "
            "choose other weights"
        )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
