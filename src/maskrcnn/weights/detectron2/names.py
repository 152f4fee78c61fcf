"""Detectron2's names of tensors -> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from maskrcnn.errors import WeightsError

STEM = "backbone.conv1.weight"
# Not weights of the detector: anchors and preprocessing of old files, and the semantic head of panoptic models.
DROPPED = re.compile(
    r"(proposal_generator\.)?anchor_generator\..*|pixel_mean|pixel_std|sem_seg_head\..*|.*\.total_batches_tracked"
)
KIND = r"(weight|bias)"
TRUNK = r"backbone\.(?:bottom_up\.)?"
# What follows the box head and its predictors: nothing, or the stage of a cascade.
STAGE = r"(\.\d)?"
NAMES: tuple[tuple[str, str], ...] = (
    (TRUNK + r"stem\.conv1\.weight", STEM),
    (TRUNK + r"stem\.conv1\.norm\.(\w+)", r"backbone.bn1.\1"),
    (r"backbone\.fpn_(lateral|output)(\d)\." + KIND, r"fpn.\1.<\2-2>.0.\3"),
    (r"backbone\.fpn_(lateral|output)(\d)\.norm\.(\w+)", r"fpn.\1.<\2-2>.1.\3"),
    (r"proposal_generator\.rpn_head\.conv\." + KIND, r"rpn.convolutions.0.\1"),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d)\." + KIND, r"rpn.convolutions.\1.\2"),
    (r"proposal_generator\.rpn_head\.objectness_logits\." + KIND, r"rpn.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\." + KIND, r"rpn.deltas.\1"),
    (r"roi_heads\.box_head" + STAGE + r"\.conv(\d)\." + KIND, r"box\1.convolutions.<\2-1>.0.\3"),
    (r"roi_heads\.box_head" + STAGE + r"\.conv(\d)\.norm\.(\w+)", r"box\1.convolutions.<\2-1>.1.\3"),
    (r"roi_heads\.box_head" + STAGE + r"\.fc(\d)\." + KIND, r"box\1.fully_connected.<\2-1>.\3"),
    (r"roi_heads\.box_predictor" + STAGE + r"\.cls_score\." + KIND, r"box\1.class_logits.\2"),
    (r"roi_heads\.box_predictor" + STAGE + r"\.bbox_pred\." + KIND, r"box\1.box_deltas.\2"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\." + KIND, r"mask_head.layers.<\1-1>.0.\2"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.norm\.(\w+)", r"mask_head.layers.<\1-1>.1.\2"),
    (r"roi_heads\.mask_head\.predictor\." + KIND, r"mask_head.logits.\1"),
    (r"roi_heads\.keypoint_head\.conv_fcn(\d)\." + KIND, r"keypoint_head.convolutions.<\1-1>.\2"),
    (r"roi_heads\.keypoint_head\.score_lowres\." + KIND, r"keypoint_head.logits.\1"),
)
BLOCK = re.compile(
    r"(?P<place>backbone\.bottom_up|backbone|roi_heads)\.res(?P<stage>\d)\.(?P<block>\d+)\."
    r"(?P<layer>conv\d|shortcut)\.(?P<rest>weight|norm\.\w+)"
)


# Layers that every detector has, ours -> theirs.
KNOWN = {
    "rpn.convolutions.0": "proposal_generator.rpn_head.conv",
    "rpn.objectness": "proposal_generator.rpn_head.objectness_logits",
    "rpn.deltas": "proposal_generator.rpn_head.anchor_deltas",
    "box_head.class_logits": "roi_heads.box_predictor.cls_score",
    "box_head.box_deltas": "roi_heads.box_predictor.bbox_pred",
}


def names_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our name of each tensor -> theirs."""
    hidden = _mask_convolutions(state)
    return {ours: name for name in state if (ours := rename(name, hidden))}


def to_ours(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Our table of tensors, values as they are, and the names that were left out on purpose.

    Args:
        state: of `state_of`.

    Raises:
        WeightsError: a tensor that no part of these detectors has.
    """
    ours: dict[str, Tensor] = {}
    dropped: list[str] = []
    hidden = _mask_convolutions(state)
    for name, value in state.items():
        if DROPPED.fullmatch(name):
            dropped.append(name)
            continue
        renamed = rename(name, hidden)
        if renamed is None:
            raise WeightsError(
                f"tensor {name!r} belongs to no Mask R-CNN of Detectron2 that is read (ResNet or ResNeXt with FPN, C4 "
                f"or DC5, cascade, keypoints){_why(name)}",
                unexpected=[name],
            )
        ours[renamed] = value
    return ours, dropped


def _mask_convolutions(state: Mapping[str, Tensor]) -> int:
    found = (re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\..*", name) for name in state)
    return len({one[1] for one in found if one})


def rename(name: str, mask_convolutions: int = 4) -> str | None:
    """Our name of a tensor of Detectron2, or None.

    Args:
        name: theirs.
        mask_convolutions: of the mask head; its deconvolution comes after them.
    """
    if found := BLOCK.fullmatch(name):
        return _block(found)
    if found := re.fullmatch(r"roi_heads\.mask_head\.deconv\." + KIND, name):
        return f"mask_head.layers.{mask_convolutions}.{found[1]}"
    for pattern, replacement in NAMES:
        if re.fullmatch(pattern, name):
            ours = re.sub(pattern, replacement, name)
            ours = re.sub(r"<(\d)-(\d)>", lambda m: str(int(m[1]) - int(m[2])), ours)  # theirs are counted from 1 or 2
            return re.sub(r"^box(\.\d)?\.", _stage, ours)
    return None


def _block(found: re.Match[str]) -> str:
    stage = "stage_two" if found["place"] == "roi_heads" else "backbone"
    layer, rest = found["layer"], found["rest"]
    norm = rest.removeprefix("norm.") if rest.startswith("norm.") else None
    if layer == "shortcut":
        layer = "downsample.0" if norm is None else "downsample.1"
    elif norm is not None:
        layer = layer.replace("conv", "bn")
    return f"{stage}.layer{int(found['stage']) - 1}.{found['block']}.{layer}.{norm or rest}"


def _stage(found: re.Match[str]) -> str:
    number = int((found[1] or ".0")[1:])
    return "box_head." if number == 0 else f"cascade.{number - 1}."


def _why(name: str) -> str:
    reasons = (
        (r".*\.conv2_offset\..*", "; deformable convolutions have no counterpart here"),
        (r".*\.(pos_embed|rel_pos.*|attn\..*|qkv\..*)|backbone\.net\..*", "; it is a vision transformer"),
        (r"backbone\.bottom_up\.(s\d|b\d|stem\.conv\.|.*\.a\.|.*\.f\.).*", "; it is a RegNet"),
        (r".*\.res\d\.\d+\.conv\d\.bias", "; its norms were folded into the convolutions"),
    )
    return next((why for pattern, why in reasons if re.fullmatch(pattern, name)), "")


def flip_channels(state: dict[str, Tensor]) -> None:
    """Blue, green, red -> red, green, blue, in place: of the first convolution's input."""
    state[STEM] = state[STEM].flip(1)


def ratio_major(state: dict[str, Tensor], sizes: int, ratios: int) -> None:
    """The RPN's rows from Detectron2's order of anchors, size by size, to ours, ratio by ratio, in place."""
    for kind in ("weight", "bias"):
        for name, rows in (("rpn.objectness", 1), ("rpn.deltas", 4)):
            value = state.get(f"{name}.{kind}")
            if value is None or value.shape[:1] != (sizes * ratios * rows,):
                continue  # `load_state` says that it is missing, or that the shapes differ
            parts = value.reshape(sizes, ratios, rows, *value.shape[1:])
            state[f"{name}.{kind}"] = parts.transpose(0, 1).flatten(0, 2)
