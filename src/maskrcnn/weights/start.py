"""What training starts from: any detector that can be read, or the weights of a trunk alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from maskrcnn.config import Config, KeypointHeadConfig, MaskHeadConfig, ModelConfig, TrainConfig
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

# Of a run of ours, what the next one from its weights takes over.
OPTIMISER = (
    "batch_size", "optimizer", "learning_rate", "learning_rate_batch", "backbone_lr_factor", "momentum", "rms_decay",
    "optimizer_eps", "weight_decay", "schedule", "milestones", "clip_norm", "ema_decay",
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


def read_start(
    path: str | Path, model: ModelConfig, labels: Mapping[int, str], *, config: str | Path | None = None
) -> Start | None:
    """A detector to start from; None where the file holds a trunk alone, see `trunk_state`.

    Args:
        path: whatever `load_weights` reads, or ImageNet weights.
        model: of the network that will be trained.
        labels: category id -> class name of the training data, see `training_state`.
        config: the config file that a detector of another framework had, where that does not lie beside it.

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
    source, theirs = open_weights(path, **({"config": config} if config is not None else {}))
    return Start(source.state_dict(), source.classes, source.keypoints, _differences(theirs.model, model))


def network_of(weights: str, config: str | Path | None = None) -> Config | None:
    """The config of a run that starts from a detector: its network and its preprocessing, with our usual schedule, or
    the optimiser of the run that the weights are from. None for what is no detector.

    Args:
        weights: as on the command line: coco, torchvision:NAME, or a path.
        config: the config file that a detector of another framework had.

    Raises:
        WeightsError: a damaged file, a config of other weights, or no internet.
        ConfigError: a config that cannot be read.
    """
    path = Path(weights)
    if weights == "coco":
        if config is not None:
            raise ConfigError(f"--weights coco has no config file; leave {config} out")
        found = preset("torchvision-r50-fpn").replace(**{"model.backbone.norm_eps": 0.0})  # as the first version is run
    elif weights.startswith(PUBLISHED):
        found = _quietly_opened(weights, config)
    elif is_ours(weights):
        if config is not None:
            raise WeightsError(f"{weights}: a checkpoint of maskrcnn brings its own config; leave {config} out")
        return _of_our_own(weights)
    elif means_tensorflow(path):
        from maskrcnn.weights.tensorflow.read import read_tensorflow
        from maskrcnn.weights.tensorflow.recognise import is_classifier

        if is_classifier(read_tensorflow(path).variables):
            return None
        found = _quietly_opened(weights, config)
    elif path.is_file() and _is_detector(path):
        found = _quietly_opened(weights, config)
    else:
        return None
    return replace(found, train=TrainConfig())


def _quietly_opened(weights: str, config: str | Path | None) -> Config:
    """Its warnings are said when training reads the weights."""
    from maskrcnn.weights.torchvision.published import untold

    with warnings.catch_warnings(), untold():
        warnings.simplefilter("ignore")
        return open_weights(weights, **({"config": config} if config is not None else {}))[1]


def _of_our_own(weights: str) -> Config:
    """The network of a checkpoint of ours; counts that its data decided are left to the new data."""
    _, config, header = read_model(find_checkpoint(weights))
    train = config.train
    # A converted checkpoint has no step: its schedule is another framework's. Schedules in steps are for their own run.
    trained = "step" in header and not train.rates and train.decay_steps is None and train.schedule != "exponential"
    kept = {name: getattr(train, name) for name in OPTIMISER} if trained else {}
    return replace(config.replace(**{"model.box.detections_per_image": None}), train=TrainConfig(**kept))


def newest_run(out: Path) -> Path:
    """The run beside `out` that saved last. Raises `WeightsError` when there is none."""
    headers = [path for path in out.parent.glob("*/checkpoints/last/model.json") if out not in path.parents]
    if not headers:
        raise WeightsError(f"{out.parent}: no earlier run to take the last weights from; give a path with --weights")
    return max(headers, key=lambda path: path.stat().st_mtime).parents[2]


def fit_heads(network: Config, dataset: Dataset) -> tuple[Config, list[str]]:
    """The network with a mask and a keypoint head as the data allows, and a sentence for each change."""
    model, said = network.model, list[str]()
    if model.keypoint is not None and dataset.keypoints is None:
        network = network.replace(**{"model.keypoint": None})
        said.append("no keypoints in the data: the keypoint head is left out")
    if model.mask is None and dataset.has_masks:
        if model.fpn is None:
            said.append("the data has masks, this network without a pyramid no head for them: boxes alone are learned")
        else:
            head = MaskHeadConfig()
            head = replace(head, pooler=replace(head.pooler, aligned=model.box.pooler.aligned))
            network = network.replace(**{"model.mask": head})
            said.append("the data has masks: a mask head is added, which the weights do not have")
    if model.keypoint is None and dataset.keypoints is not None and model.fpn is not None:
        points = KeypointHeadConfig(channels=2 * model.fpn.channels)
        points = replace(points, pooler=replace(points.pooler, aligned=model.box.pooler.aligned))
        network = network.replace(**{"model.keypoint": points})
        said.append("the data has keypoints: a keypoint head is added, which the weights do not have")
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
    from maskrcnn.weights.numpy_pickle import read_numpy_pickle
    from maskrcnn.weights.pickles import read_pth

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
