"""A checkpoint of Detectron2 -> our model, with its conventions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from torch import Tensor

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets import preset
from maskrcnn.weights.classes import contiguous_names, keypoint_schema
from maskrcnn.weights.detectron2.caffe2 import from_caffe2
from maskrcnn.weights.detectron2.config import Detectron2Config, read_config
from maskrcnn.weights.detectron2.names import KNOWN, flip_channels, names_of, ratio_major, to_ours
from maskrcnn.weights.detectron2.zoo import published_name, usual
from maskrcnn.weights.facts import Facts, facts_of
from maskrcnn.weights.missing import whole
from maskrcnn.weights.native import load_foreign
from maskrcnn.weights.numpy_pickle import read_numpy_pickle
from maskrcnn.weights.pickles import read_pth
from maskrcnn.weights.recognise import framework_of, state_of

# What the shapes tell and a config says too; a difference means that they do not belong together.
COMPARED = {
    "model.backbone.name": "trunk",
    "model.rpn.convolutions": "convolutions of the RPN",
    "model.box.convolutions": "convolutions of the box head",
    "model.box.fully_connected": "fully connected layers of the box head",
    "model.box.class_agnostic": "one box for all classes",
    "model.mask.convolutions": "convolutions of the mask head",
    "model.mask.class_agnostic": "one mask for all classes",
    "model.keypoint.convolutions": "convolutions of the keypoint head",
}


def load_detectron2(
    path: str | Path,
    *,
    config: str | Path | Config | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights, the conventions and the preprocessing of a detector that Detectron2 trained.

    Args:
        path: .pkl or .pth.
        config: the YAML config, a name of the model zoo, or ours; None: config.yaml beside the weights, else the zoo's
            for a file of the zoo, else the usual one for these shapes, with a warning that says what was taken.
        classes: class names in the order of the rows; None: COCO's for 80, LVIS's for 1203 and 1230, else "class 1"...
        data: what is in the file, if it was read already.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode.

    Raises:
        WeightsError: no weights there, damaged ones, those of another network, or a config of other weights.
        ConfigError: a config that cannot be read or is of another network; an unknown name or override.
    """
    return open_detectron2(path, config=config, classes=classes, data=data, **overrides)[0]


def open_detectron2(
    path: str | Path,
    *,
    config: str | Path | Config | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> tuple[MaskRCNN, Config]:
    """`load_detectron2`, with the whole config of the run: schedule and data too."""
    path = Path(path)
    data = _read(path) if data is None else data
    with weights_of(path):
        state = state_of(data)
        if framework_of(state) == "caffe2":
            state = from_caffe2(state)
        preprocessing: dict[str, Tensor] = {name: state[name] for name in ("pixel_mean", "pixel_std") if name in state}
        ours, left_out = to_ours(state)
        with whole("Detectron2", theirs := names_of(state), KNOWN):
            facts = facts_of(ours)
    chosen = _config(path, config, facts, preprocessing)
    if any(name.startswith("sem_seg_head.") for name in left_out) and not chosen.panoptic:
        _warn(f"{path}: a Panoptic FPN: its instances are found, its semantic head is left out")
    run = chosen.config.replace(**{f"model.{name}": value for name, value in overrides.items()})
    names, ids = _classes(path, facts.classes, classes, chosen.dataset)
    points = keypoint_schema(facts.keypoints) if facts.keypoints else None
    model = build_model(run.model, classes=names, category_ids=ids, data=run.data, keypoints=points)
    if chosen.bgr:
        flip_channels(ours)
    anchors = run.model.rpn.anchors
    ratio_major(ours, len(anchors.sizes[0]), len(anchors.ratios))
    with whole("Detectron2", theirs, KNOWN, f"{path}: "):
        load_foreign(model, ours, where=str(path))
    return model.eval(), run


@dataclass(frozen=True)
class _Chosen:
    """The config, its channel order, the data set that it names, and whether it said what is left of a Panoptic FPN."""

    config: Config
    bgr: bool = True
    dataset: str = ""
    panoptic: bool = False


def _read(path: Path) -> Mapping[str, Any]:
    return read_numpy_pickle(path) if path.suffix.lower() == ".pkl" else read_pth(path)


def _config(
    path: Path, config: str | Path | Config | None, facts: Facts, preprocessing: Mapping[str, Tensor]
) -> _Chosen:
    """What was given or lies beside, checked against the weights; else what they tell."""
    if isinstance(config, Config):
        _check_same(config, facts, path, "the config given")
        return _Chosen(config)
    if not isinstance(config, str | Path | None):
        raise WeightsError(f"{path}: config= takes a file, a name of the zoo or a Config, got {type(config).__name__}")
    beside = _beside(path) if config is None else None
    file = beside or config
    zoo = published_name(path) if file is None else None
    if file is not None and (beside or _is_yaml(file)):
        read = read_config(file)
        _check_counts(read, facts, path)
        _check_same(read.config, facts, path, str(file))
        _check_preprocessing(read, preprocessing, path)
        for note in read.notes:
            _warn(f"{file}: {note}")
        return _Chosen(read.config, read.bgr, read.dataset, any("PanopticFPN" in note for note in read.notes))
    if zoo or file is not None:
        name = zoo or str(file)
        known = _preset(name)
        _check_same(known, facts, path, name)
        return _Chosen(known, dataset=_dataset(name))
    return _Chosen(_guessed(path, facts, preprocessing))


def _is_yaml(file: str | Path) -> bool:
    return Path(file).suffix in (".yaml", ".yml") and Path(file).is_file()


def _beside(path: Path) -> Path | None:
    """What training wrote there; a lazy config is a program's picture, of which nothing is read."""
    file = path.parent / "config.yaml"
    try:
        return file if file.is_file() and "_target_:" not in file.read_text(encoding="utf-8") else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); give a config, or move it away") from error


def _preset(name: str) -> Config:
    if Path(name).exists():
        raise ConfigError(
            f"{name}: is no YAML config of Detectron2, whose weights these are; give its config.yaml or a name of "
            "the zoo"
        )
    try:
        return preset(name)
    except ConfigError as error:
        raise ConfigError(
            f"{name}: neither a YAML file that is there nor a name of Detectron2's zoo: {error}"
        ) from error


def _dataset(name: str) -> str:
    """The data set of a folder of the zoo."""
    folders = {"Cityscapes": "cityscapes", "PascalVOC": "voc", "COCO-Keypoints": "keypoints_coco"}
    return next((dataset for folder, dataset in folders.items() if name.startswith(folder)), "")


def _guessed(path: Path, facts: Facts, preprocessing: Mapping[str, Tensor]) -> Config:
    config = usual(facts)
    usual_anchors = len(config.model.rpn.anchors.sizes[0]) * len(config.model.rpn.anchors.ratios)
    if usual_anchors != facts.anchors:
        raise WeightsError(
            f"{path}: has {facts.anchors} anchors a cell, the model zoo {usual_anchors}, and no config.yaml lies "
            "beside it that would say which; give one with config= (--model-config)"
        )
    fields: dict[str, Any] = {}
    for theirs, name in (("pixel_mean", "model.image_mean"), ("pixel_std", "model.image_std")):
        if theirs in preprocessing and preprocessing[theirs].numel() == 3:
            fields[name] = tuple(float(v) for v in preprocessing[theirs].flatten().flip(0))
    stride = "first 1x1" if config.model.backbone.stride_in_1x1 else "3x3"
    _warn(
        f"{path}: no config.yaml lies beside it, so sizes, thresholds, the order of colours (blue first) and where "
        f"blocks halve their map (the {stride} convolution) are as is usual for this network in Detectron2's zoo; give "
        "its own with config= (--model-config) if it has others"
    )
    return config.replace(**fields)


def _classes(path: Path, count: int, names: Sequence[str] | None, dataset: str) -> tuple[list[str], list[int]]:
    try:
        return contiguous_names(count, names, dataset=dataset)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_same(config: Config, facts: Facts, path: Path, source: str) -> None:
    for what, here, there in _differences(config, facts):
        raise WeightsError(
            f"{path}: {what}: {here} in the weights, but {there} in {source}; give the config that these weights were "
            "trained with"
        )


def _differences(config: Config, facts: Facts) -> Iterator[tuple[str, Any, Any]]:
    model = config.model
    there = "fpn" if model.fpn is not None else "c4" if model.backbone.output == "c4" else "dc5"
    if there != facts.arrangement:
        yield "arrangement", facts.arrangement, there
    if (count := len(model.rpn.anchors.sizes[0]) * len(model.rpn.anchors.ratios)) != facts.anchors:
        yield "anchors of a cell", facts.anchors, count
    for name, here in (("mask", "model.mask" not in facts.fields), ("keypoint", bool(facts.keypoints))):
        if here != (getattr(model, name) is not None):
            yield f"{name} head", "one" if here else "none", "none" if here else "one"
    if (stages := len(model.box.cascade)) != len(facts.fields["model.box.cascade"]):
        yield "heads of the cascade", len(facts.fields["model.box.cascade"]) + 1, stages + 1
    for field, what in COMPARED.items():
        if field not in facts.fields or (field.endswith("class_agnostic") and facts.classes == 1):
            continue  # of one class, both have the same shapes
        if (value := reduce(getattr, field.split("."), config)) != facts.fields[field]:
            yield f"{what} ({field})", facts.fields[field], value
    norm, group = model.backbone.norm, facts.fields["model.backbone.norm"] == "gn"
    if (norm == "gn") != group:
        yield "norm of the trunk", facts.fields["model.backbone.norm"], norm


def _check_counts(read: Detectron2Config, facts: Facts, path: Path) -> None:
    for what, here, there in (
        ("number of classes", facts.classes, read.classes),
        ("number of keypoints", facts.keypoints, read.keypoints),
    ):
        if here != there:
            raise WeightsError(
                f"{path}: {what}: {here} in the weights, but {there} in {read.path}; give the config that these "
                "weights were trained with"
            )


def _check_preprocessing(read: Detectron2Config, preprocessing: Mapping[str, Tensor], path: Path) -> None:
    """Old files hold the mean and the deviation that they were trained with."""
    model = read.config.model
    for name, ours in (("pixel_mean", model.image_mean), ("pixel_std", model.image_std)):
        if name in preprocessing:
            here = tuple(float(v) for v in preprocessing[name].flatten())
            said = ours[::-1] if read.bgr else ours
            if len(here) != len(said) or any(abs(a - b) > 1e-3 for a, b in zip(here, said, strict=True)):
                raise WeightsError(
                    f"{path}: {name} {here} in the weights, but {said} in {read.path}; give the config that these "
                    "weights were trained with"
                )


def _warn(sentence: str) -> None:
    warnings.warn(re.sub(r"\s+", " ", sentence), stacklevel=5)
