"""A checkpoint of MMDetection 2.x or 3.x -> our model with its conventions, from the config that it carries."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError, weights_of
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.weights.classes import contiguous_names
from maskrcnn.weights.expressions import Budget, TooMuch
from maskrcnn.weights.missing import whole
from maskrcnn.weights.mmdetection.config import Settings, read_settings
from maskrcnn.weights.mmdetection.names import KNOWN, names_of, plain, to_state
from maskrcnn.weights.mmdetection.text import config_of_text, read_config_file
from maskrcnn.weights.native import load_foreign
from maskrcnn.weights.pickles import read_pth
from maskrcnn.weights.recognise import state_of

FIRST_CONVOLUTIONS = ("backbone.conv1.weight", "backbone.features.0.0.weight")
ONE = re.compile(r"(bbox_head|mask_head)\.(\d\.)?(fc_cls|convs|shared_fcs)\..*")
OLD = (
    "was written by MMDetection 1.x, whose background is class 0 and whose boxes end one pixel earlier; convert it "
    "with tools/model_converters/upgrade_model_version.py of MMDetection 2, and give the result"
)


def load_mmdetection(
    path: str | Path,
    *,
    config: str | Path | Config | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> MaskRCNN:
    """Our model with the weights, the conventions and the preprocessing of an MMDetection checkpoint.

    Args:
        path: a .pth of Mask R-CNN, Faster R-CNN or their cascades with a pyramid. No pickled code is run.
        config: its config file, or ours; None: the config in the checkpoint. It is read, never run. Where there is
            neither, the usual settings for the layers found are taken, and a warning says so.
        classes: names; None: those in the checkpoint or config, else COCO's for 80, "class 1", ... for others.
        data: what is in the file, if it was read already.
        overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Returns:
        The model on the CPU in evaluation mode. Without masks for Faster R-CNN.

    Raises:
        WeightsError: a damaged file, another model, one of MMDetection 1.x, or a config of other weights.
        ConfigError: a config that cannot be read or describes what is not built here; an unknown override.
    """
    return open_mmdetection(path, config=config, classes=classes, data=data, **overrides)[0]


def open_mmdetection(
    path: str | Path,
    *,
    config: str | Path | Config | None = None,
    classes: Sequence[str] | None = None,
    data: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> tuple[MaskRCNN, Config]:
    """`load_mmdetection`, with the whole config of the run: schedule and data too."""
    where = str(path)
    data = read_pth(path) if data is None else data
    meta = _meta(data)
    with weights_of(where):
        weights = plain(state_of(data))
        _check_version(weights, meta)
        state, trunk = to_state(weights)
        count = len(state["box_head.class_logits.weight"]) - 1
        settings = _settings(config, meta, count, where) or _assumed(state, trunk, count, where)
        _check_same(settings, state, trunk, count)
        names, ids = contiguous_names(count, _class_names(meta, settings, count) if classes is None else classes)
    if settings.bgr:
        for name in FIRST_CONVOLUTIONS:
            if name in state:
                state[name] = state[name].flip(1)
    for note in settings.notes:
        warnings.warn(f"{where}: {note}", stacklevel=3)
    chosen = settings.config.replace(**{f"model.{name}": value for name, value in overrides.items()})
    model = build_model(chosen.model, classes=names, category_ids=ids, data=chosen.data)
    with whole("MMDetection", names_of(weights, trunk), KNOWN, f"{where}: "):
        load_foreign(model, state, where=where)
    return model.eval(), chosen


# ---------------------------------------------------------------- the file


def _meta(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is said about the tensors."""
    meta = data.get("meta")
    return dict(meta) if isinstance(meta, Mapping) else {}


def _check_version(weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """1.x has no `roi_head`; files of 2.x say their version."""
    version = str(meta.get("mmdet_version", ""))
    if re.match(r"[01]\.", version) or any(ONE.fullmatch(name) for name in weights):
        raise WeightsError(OLD)


def _settings(config: str | Path | Config | None, meta: Mapping[str, Any], count: int, where: str) -> Settings | None:
    """From what is given, else from the checkpoint, else None."""
    if config is None:
        return _carried(meta, where)
    if isinstance(config, Config):
        return Settings(config, _is_bgr(config, meta, where), count, None, ())
    if isinstance(config, (str, Path)):
        return read_settings(read_config_file(config), str(config))
    raise ConfigError(f"is a {type(config).__name__}; give the path of a config file, or a Config", field="config")


def _carried(meta: Mapping[str, Any], where: str) -> Settings | None:
    """From the text in the checkpoint: `cfg` in 3.x, `config` in 2.x."""
    text, within = meta.get("cfg", meta.get("config")), f"{where}: its config"
    if isinstance(text, Mapping):
        try:
            Budget().take_value(text)
        except TooMuch as error:
            raise ConfigError(f"{within}: {error}; give its own with config= (--model-config)") from None
        return read_settings(text, within) if "model" in text else None
    if not isinstance(text, str) or not text.strip():
        return None
    return read_settings(config_of_text(text, within), within)


def _is_bgr(config: Config, meta: Mapping[str, Any], where: str) -> bool:
    """The order of colours of the weights, which our config does not say: from the checkpoint, else by the trunk."""
    try:
        carried = _carried(meta, where)
    except ConfigError:
        carried = None
    return config.model.backbone.stride_in_1x1 if carried is None else carried.bgr  # Caffe's trunks are BGR


def _class_names(meta: Mapping[str, Any], settings: Settings, count: int) -> tuple[str, ...] | None:
    """Names that the checkpoint or the config has for `count` classes."""
    data = meta.get("dataset_meta")
    spots = [data.get("classes", data.get("CLASSES")) if isinstance(data, Mapping) else None, meta.get("CLASSES")]
    for names in [*spots, settings.classes]:
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names) and len(names) == count:
            return tuple(names)
    return None


def _check_same(settings: Settings, state: Mapping[str, Tensor], trunk: str, count: int) -> None:
    """What the config says about the weights must be so. Raises `WeightsError`."""
    model = settings.config.model
    told = model.backbone.name
    if told != trunk:
        raise WeightsError(f"the config is for {told}, but the weights are those of {trunk}; give the config they had")
    if settings.num_classes != count:
        raise WeightsError(
            f"the config is for {settings.num_classes} classes, but the weights have {count}; give the config they had"
        )
    said, found = 1 + len(model.box.cascade), _stages(state)
    if said != found:
        raise WeightsError(
            f"the config is for {said} box heads in a row, but the weights have {found}; give the config they had"
        )
    if (model.mask is None) == ("mask_head.logits.weight" in state):
        raise WeightsError(
            f"the config has {'no' if model.mask is None else 'a'} mask head, unlike the weights; give the config they "
            "had"
        )


def _stages(state: Mapping[str, Tensor]) -> int:
    """Box heads, one behind the other."""
    return 1 + len({name.split(".")[1] for name in state if name.startswith("cascade.")})


def _assumed(state: Mapping[str, Tensor], trunk: str, count: int, where: str) -> Settings:
    """The settings of the configs for COCO, with the layers that are in the weights."""
    stages = _stages(state)
    head = {"num_classes": count, "reg_class_agnostic": len(state["box_head.box_deltas.weight"]) == 4}
    shared = _count(state, r"box_head\.convolutions\.(\d)\..*"), _count(state, r"box_head\.fully_connected\.(\d)\..*")
    stds = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
    if stages > len(stds):
        raise WeightsError(
            f"a cascade of {stages} stages, and no config in the file; give one with config= (--model-config)"
        )
    heads = [
        {"type": "ConvFCBBoxHead", "num_shared_convs": shared[0], "num_shared_fcs": shared[1], **head}
        | {"bbox_coder": {"target_stds": stds[stage]}, **_norm(state, r"box_head\.convolutions\.0\.1")}
        for stage in range(stages)
    ]
    model = {
        "type": "MaskRCNN",
        "backbone": _trunk(state, trunk),
        "neck": {"type": "FPN", **_norm(state, r"fpn\.output\.0\.1")},
        "rpn_head": {"type": "RPNHead", "num_convs": _count(state, r"rpn\.convolutions\.(\d)\..*")},
        "roi_head": {
            "type": "CascadeRoIHead" if stages > 1 else "StandardRoIHead",
            "num_stages": stages,
            "bbox_head": heads if stages > 1 else heads[0],
            "mask_head": {"type": "FCNMaskHead", **_norm(state, r"mask_head\.layers\.0\.1")}
            if "mask_head.logits.weight" in state
            else None,
        },
    }
    warnings.warn(
        f"{where}: no config is in it, so image size, colours, thresholds and sampling are those of the usual configs "
        "for COCO; give its own with config= (--model-config)",
        stacklevel=4,
    )
    resize = {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}
    return read_settings({"model": model, "test_pipeline": [resize]}, where)


def _trunk(state: Mapping[str, Tensor], trunk: str) -> dict[str, Any]:
    size = int(state["backbone.norms.0.weight"].numel()) if "backbone.norms.0.weight" in state else 0
    if trunk.startswith("swin"):
        return {"type": "SwinTransformer", "embed_dims": size, "depths": (2, 2, 6 if trunk == "swin_t" else 18, 2)}
    if trunk.startswith("convnext"):
        return {"type": "ConvNeXt", "arch": trunk.removeprefix("convnext_"), "gap_before_final_norm": False}
    name, _, width = trunk.partition("_")
    part: dict[str, Any] = {"type": "ResNet", "depth": int(re.sub(r"\D", "", name)), "frozen_stages": 1}
    if width:
        groups, _, base = width.removesuffix("d").partition("x")
        part |= {"type": "ResNeXt", "groups": int(groups), "base_width": int(base)}
    if "backbone.bn1.running_mean" not in state:
        part["norm_cfg"] = {"type": "GN", "num_groups": 32}
    return part


def _norm(state: Mapping[str, Tensor], pattern: str) -> dict[str, Any]:
    """The kind of norm behind a convolution, as their config says it."""
    found = [name for name in state if re.match(pattern, name)]
    if not found:
        return {}
    kind = "BN" if any(name.endswith("running_mean") for name in found) else "GN"
    return {"norm_cfg": {"type": kind}}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Layers in a row."""
    return 1 + max((int(match[1]) for name in state if (match := re.fullmatch(pattern, name))), default=-1)
