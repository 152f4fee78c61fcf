"""Tensors of MMDetection's Mask R-CNN -> our state dict. Its background comes last, as ours, and its boxes are dx, dy,
dw, dh, so that nothing but names changes outside of the trunk."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.weights.missing import lacking
from maskrcnn.weights.mmdetection.names_trunk import rename, trunk_name, trunk_of, trunk_state

NORM = "(?:bn|gn)"
# Their name (a regular expression) -> ours, for everything but the trunk. ConvModule calls its parts conv and bn or gn.
NAMES = (
    (r"neck\.lateral_convs\.([0-3])\.conv\.(weight|bias)", r"fpn.lateral.\1.0.\2"),
    (rf"neck\.lateral_convs\.([0-3])\.{NORM}\.(.*)", r"fpn.lateral.\1.1.\2"),
    (r"neck\.fpn_convs\.([0-3])\.conv\.(weight|bias)", r"fpn.output.\1.0.\2"),
    (rf"neck\.fpn_convs\.([0-3])\.{NORM}\.(.*)", r"fpn.output.\1.1.\2"),
    (r"rpn_head\.rpn_conv\.(weight|bias)", r"rpn.convolutions.0.\1"),
    (r"rpn_head\.rpn_conv\.(\d)\.conv\.(weight|bias)", r"rpn.convolutions.\1.\2"),
    (r"rpn_head\.rpn_cls\.(weight|bias)", r"rpn.objectness.\1"),
    (r"rpn_head\.rpn_reg\.(weight|bias)", r"rpn.deltas.\1"),
)
BOX = (
    (r"shared_convs\.(\d)\.conv\.(weight|bias)", r"convolutions.\1.0.\2"),
    (rf"shared_convs\.(\d)\.{NORM}\.(.*)", r"convolutions.\1.1.\2"),
    (r"shared_fcs\.(\d)\.(weight|bias)", r"fully_connected.\1.\2"),
    (r"fc_cls\.(weight|bias)", r"class_logits.\1"),
    (r"fc_reg\.(weight|bias)", r"box_deltas.\1"),
)
MASK = (
    (r"convs\.(\d)\.conv\.(weight|bias)", r"layers.\1.0.\2"),
    (rf"convs\.(\d)\.{NORM}\.(.*)", r"layers.\1.1.\2"),
    (r"conv_logits\.(weight|bias)", r"logits.\1"),
)
# Layers that every detector has, ours -> theirs.
KNOWN = {"rpn.objectness": "rpn_head.rpn_cls", "rpn.deltas": "rpn_head.rpn_reg"}
HEAD = re.compile(r"roi_head\.(bbox_head|mask_head)\.(?:(\d)\.)?([a-z].*)")
# Counters of norms, the averages that 2.x keeps beside the weights, and the preprocessing, which is in the config.
NOT_OF_THE_MODEL = re.compile(r".*\.num_batches_tracked|ema_.*|data_preprocessor\..*")
OTHER_HEADS = {
    "semantic_head": "Hybrid Task Cascade",
    "glbctx_head": "SCNet",
    "feat_relay_head": "SCNet",
    "mask_iou_head": "Mask Scoring R-CNN",
    "point_head": "PointRend",
    "grid_head": "Grid R-CNN",
    "shared_head": "a C4 network",
    "track_head": "a tracker",
}


def to_state(source: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """MMDetection's state dict -> ours, and the name of the trunk. `module.` in front, as of several GPUs, is dropped.

    Raises:
        WeightsError: another model than Mask R-CNN, Faster R-CNN or their cascades with a pyramid, or another trunk.
    """
    source = plain(source)
    check_detector(source)
    trunk = trunk_of({name: tuple(value.shape) for name, value in source.items()})
    below = {name: value for name, value in source.items() if name.startswith("backbone.")}
    ours = trunk_state(below, trunk)
    layers = mask_layers(source)
    for name, value in source.items():
        if name in below:
            continue
        renamed = rename_head(name, layers) or rename(name, NAMES)
        if renamed is None:
            raise WeightsError(
                f"tensor {name!r} is not part of MMDetection's Mask R-CNN, Faster R-CNN or their cascades, the models "
                "that are read",
                unexpected=[name],
            )
        ours[renamed] = value
    return ours, trunk


def names_of(source: Mapping[str, Tensor], trunk: str) -> dict[str, str]:
    """Our name of each tensor -> theirs, without `module.` in front."""
    layers = mask_layers(source)
    pairs = ((trunk_name(name, trunk) or rename_head(name, layers) or rename(name, NAMES), name) for name in source)
    return {ours: name for ours, name in pairs if ours}


def plain(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the model, without `module.` in front of them."""
    wrapped = bool(source) and all(name.startswith("module.") for name in source)
    named = {name.removeprefix("module.") if wrapped else name: value for name, value in source.items()}
    return {name: value for name, value in named.items() if not NOT_OF_THE_MODEL.fullmatch(name)}


def check_detector(source: Mapping[str, Tensor]) -> None:
    """Raises `WeightsError` for another model, named where it is known."""
    for name in source:
        part = name.split(".")[1] if name.startswith("roi_head.") else name.split(".")[0]
        if part in OTHER_HEADS:
            raise WeightsError(
                f"tensor {name!r} belongs to {OTHER_HEADS[part]}, which is not read; Mask R-CNN, Faster R-CNN and "
                "their cascades with a pyramid are",
                unexpected=[name],
            )
    wanted = ("neck.lateral_convs.0.conv.weight", "rpn_head.rpn_cls.weight")
    first = "roi_head.bbox_head.0." if any(".bbox_head.0." in name for name in source) else "roi_head.bbox_head."
    if not any(name.startswith("neck.lateral_convs.") for name in source):
        raise WeightsError(
            f"not a Mask R-CNN of MMDetection: it has no tensor {wanted[0]!r}; give a checkpoint of Mask R-CNN, "
            "Faster R-CNN or their cascades with a pyramid",
            missing=wanted[:1],
        )
    heads = [f"{first}{layer}.{kind}" for layer in ("fc_cls", "fc_reg") for kind in ("weight", "bias")]
    if missing := [name for name in (*wanted, *heads) if name not in source]:
        raise lacking("MMDetection", missing, missing)


def mask_layers(source: Mapping[str, Tensor]) -> int:
    """Convolutions of a mask head."""
    found = [re.fullmatch(r"roi_head\.mask_head\.(?:\d\.)?convs\.(\d)\.conv\.weight", name) for name in source]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def rename_head(name: str, layers: int) -> str | None:
    """Our name of a tensor of a box or mask head, or None. The deconvolution comes after `layers` convolutions."""
    match = HEAD.fullmatch(name)
    if match is None:
        return None
    kind, stage, rest = match[1], int(match[2] or 0), match[3]
    if kind == "bbox_head":
        first, further, renamed = "box_head", "cascade", rename(rest, BOX)
    else:
        first, further, renamed = "mask_head", "cascade_masks", rename(rest, MASK)
        if up := re.fullmatch(r"upsample\.(weight|bias)", rest):
            renamed = f"layers.{layers}.{up[1]}"
    return renamed and f"{first if not stage else f'{further}.{stage - 1}'}.{renamed}"
