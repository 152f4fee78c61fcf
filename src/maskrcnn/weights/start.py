"""What training starts from: any detector that can be read, or the weights of a trunk alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from maskrcnn.config import Config, MaskHeadConfig, ModelConfig, TrainConfig
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.presets import preset
from maskrcnn.weights.load import (
    KERAS,
    PUBLISHED,
    PYTORCH,
    find_checkpoint,
    is_ours,
    means_tensorflow,
    open_weights,
)
from maskrcnn.weights.native import read_model
from maskrcnn.weights.recognise import TRUNK, framework_of, state_of

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset
    from maskrcnn.structures import KeypointSchema

# What a tensor means depends on these: weights that were made with other values start worse.
MEANING = (
    "image_mean", "image_std", "backbone.stride_in_1x1", "backbone.stem_pool", "backbone.norm_eps",
    "rpn.anchors.sizes", "rpn.anchors.ratios", "rpn.box_weights", "box.box_weights", "box.pooler.aligned", "inclusive",
)  # fmt: skip


class Start(NamedTuple):
    """A detector's tensors by our names.

    Attributes:
        state: the tensors.
        classes: names of its classes, index = label.
        keypoints: names of its keypoints, or None.
        notes: what is to be said.
    """

    state: Mapping[str, Tensor]
    classes: tuple[str, ...]
    keypoints: KeypointSchema | None = None
    notes: tuple[str, ...] = ()


def read_start(path: str | Path, model: ModelConfig, labels: Mapping[int, str]) -> Start | None:
    """A detector to start from; None where the file holds a trunk alone, see `trunk_state`.

    Args:
        path: whatever `load_weights` reads, or ImageNet weights.
        model: of the network that will be trained.
        labels: category id -> class name of the training data, see `training_state`.

    Raises:
        WeightsError: nothing there, a damaged file, or another kind of network.
    """
    if is_ours(path):
        state, _, header = read_model(find_checkpoint(path))
        return Start(state, header["classes"], header["keypoints"])
    if not str(path).startswith(PUBLISHED):
        if means_tensorflow(path):
            from maskrcnn.weights.tensorflow.model import training_state

            state, classes, told = training_state(path, model.backbone.name, labels=labels)
            return Start(state, classes, notes=(told,) if told else ())
        if not _is_detector(Path(path)):
            return None
    source, config = open_weights(path)
    return Start(source.state_dict(), source.classes, source.keypoints, _differences(config.model, model))


def network_of(weights: str) -> Config | None:
    """The config of a run that starts from another framework's detector: its network and its preprocessing, with our
    usual schedule. None for what is no such detector.

    Args:
        weights: as on the command line: coco, torchvision:NAME, or a path.

    Raises:
        WeightsError: a damaged file, or no internet.
    """
    if weights == "coco":
        found = preset("torchvision-r50-fpn").replace(**{"model.backbone.norm_eps": 0.0})  # as the first version is run
    elif weights.startswith(PUBLISHED) or (Path(weights).is_file() and _is_detector(Path(weights))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when training reads them
            found = open_weights(weights)[1]
    else:
        return None
    return replace(found, train=TrainConfig())


def fit_heads(network: Config, dataset: Dataset) -> tuple[Config, list[str]]:
    """The network with a mask and a keypoint head as the data allows, and a sentence for each change."""
    model, said = network.model, list[str]()
    if model.keypoint is not None and dataset.keypoints is None:
        network = network.replace(**{"model.keypoint": None})
        said.append("no keypoints in the data: the keypoint head is left out")
    if model.mask is None and dataset.has_masks and model.fpn is not None:
        head = MaskHeadConfig()
        head = replace(head, pooler=replace(head.pooler, aligned=model.box.pooler.aligned))
        network = network.replace(**{"model.mask": head})
        said.append("the data has masks: a mask head is added, which the weights do not have")
    return network, said


def coco_name(model: ModelConfig) -> str:
    """torchvision's published detector, trained on COCO, that has the same parts as a network of ours.

    Raises:
        ConfigError: it has none.
    """
    if model.backbone.name != "resnet50" or model.fpn is None:
        trunk = model.backbone.name + ("" if model.fpn else " without a pyramid")
        raise ConfigError(
            f"--weights coco: torchvision's detectors are on resnet50 with a pyramid, the model has {trunk}; leave "
            "--preset out, or use --preset torchvision-r50-fpn or r50-fpn"
        )
    second = "_v2" if model.box.convolutions else ""
    if model.keypoint is not None:
        return f"{PUBLISHED}keypointrcnn_resnet50_fpn"
    return f"{PUBLISHED}{'fasterrcnn' if model.mask is None else 'maskrcnn'}_resnet50_fpn{second}"


# ---------------------------------------------------------------- trunks


def trunk_state(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """(tensors by torchvision's names, what is to be said) of a trunk file of Detectron or Detectron2; None for others.

    Detectron's own are for images with blue first: the first convolution is turned.
    """
    if path.suffix not in PYTORCH:
        return None
    state = state_of(_data(path))
    if "conv1_w" not in state and "stem.conv1.weight" not in state:
        return None
    from maskrcnn.weights.detectron2.caffe2 import from_caffe2
    from maskrcnn.weights.detectron2.names import rename

    blobs = "conv1_w" in state
    named = from_caffe2(state) if blobs else {f"backbone.{name}": value for name, value in state.items()}
    ours: dict[str, Tensor] = {}
    for name, value in named.items():
        renamed = rename(name)
        ours[renamed.partition(".")[2] if renamed else name.removeprefix("backbone.")] = value
    if not blobs:
        return ours, ""
    ours["conv1.weight"] = ours["conv1.weight"].flip(1)
    return ours, (
        "note: Detectron trained this trunk with model.image_std [1, 1, 1] and model.backbone.stride_in_1x1 true"
    )


def explain(path: Path, error: WeightsError) -> WeightsError:
    """Why a file is no trunk of the model: the family of another network, where it has a name; else the error."""
    if path.suffix not in PYTORCH or not path.is_file():
        return error
    state = state_of(_data(path))
    if any(TRUNK.fullmatch(name) for name in state):
        return error
    try:
        framework_of(state)
    except WeightsError as named:
        return WeightsError(f"{path}: {named}", missing=named.missing, unexpected=named.unexpected)
    return error


def _is_detector(path: Path) -> bool:
    """Whether a file of another framework holds a detector that we know."""
    if path.suffix in KERAS:
        return True  # Keras's trunks are not read
    if path.suffix not in PYTORCH:
        return path.suffix != ".safetensors"  # `load_weights` says what is wrong with it
    try:
        framework_of(state_of(_data(path)))
    except WeightsError as error:
        if error.unexpected:  # the names of another network
            return False
        raise WeightsError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return True


def _data(path: Path) -> Mapping[str, object]:
    from maskrcnn.weights.pickles import read_numpy_pickle, read_pth

    return read_numpy_pickle(path) if path.suffix == ".pkl" else read_pth(path)


def _differences(there: ModelConfig, here: ModelConfig) -> tuple[str, ...]:
    """A warning where the weights were made for another preprocessing or other anchors than the model's."""
    pairs = [(name, *(reduce(getattr, name.split("."), config) for config in (there, here))) for name in MEANING]
    unlike = [f"model.{name} {_plain(old)} (here {_plain(new)})" for name, old, new in pairs if old != new]
    if not unlike or there.backbone.name != here.backbone.name:
        return ()
    return (f"warning: made with {', '.join(unlike)}; they start better with the same",)


def _plain(value: object) -> object:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
