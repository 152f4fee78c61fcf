"""torchvision's names of tensors and its order of classes -> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones.features import HALVING
from maskrcnn.weights.facts import count_of, shape_of
from maskrcnn.weights.torchvision.trunks import plain_names

KIND = r"(weight|bias)"
# Their name (a regular expression) -> ours. `(?:0\.)?`: files saved before 0.13 lack it.
NAMES: tuple[tuple[str, str], ...] = (
    (r"backbone\.body\.((?:conv1|bn1|layer\d)\..*)", r"backbone.\1"),
    (r"backbone\.((?:features|projection|conv1|bn1|layer\d)\..*)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?" + KIND, r"fpn.lateral.\1.0.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?" + KIND, r"fpn.output.\1.0.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.(\w+)", r"fpn.lateral.\1.1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.(\w+)", r"fpn.output.\1.1.\2"),
    (r"rpn\.head\.conv\.(\d)\.0\." + KIND, r"rpn.convolutions.\1.\2"),
    (r"rpn\.head\.conv\." + KIND, r"rpn.convolutions.0.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"box_head.fully_connected.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"box_head.fully_connected.1.\1"),
    (r"roi_heads\.box_head\.(\d)\.([01])\.(\w+)", r"box_head.convolutions.\1.\2.\3"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"box_head.class_logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"box_head.box_deltas.\1"),
    (r"roi_heads\.mask_head\.(\d)\.([01])\.(\w+)", r"mask_head.layers.\1.\2.\3"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"mask_head.logits.\1"),
    (r"roi_heads\.keypoint_predictor\.kps_score_lowres\.(.*)", r"keypoint_head.logits.\1"),
)
OLD_MASK_NAME = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(.*)")
# Layers that every detector has, ours -> theirs.
KNOWN = {
    "rpn.objectness": "rpn.head.cls_logits",
    "rpn.deltas": "rpn.head.bbox_pred",
    "box_head.class_logits": "roi_heads.box_predictor.cls_score",
    "box_head.box_deltas": "roi_heads.box_predictor.bbox_pred",
}
# What comes after a number of convolutions that only the other names tell.
FULLY_CONNECTED = re.compile(r"roi_heads\.box_head\.(\d+)\." + KIND)
DECONVOLUTION = re.compile(r"roi_heads\.mask_predictor\.conv5_mask\.(.*)")
KEYPOINTS = re.compile(r"roi_heads\.keypoint_head\.(\d+)\." + KIND)


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our table of tensors, classes in our order.

    Args:
        state: of `state_of`.

    Raises:
        WeightsError: a tensor that no detector of these has, or no box predictor.
    """
    state = plain_names(state)
    convolutions, hidden = count_of(state, r"roi_heads\.box_head\.(\d+)\.[01]\..*"), _mask_convolutions(state)
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        renamed = rename(name, box_convolutions=convolutions, mask_convolutions=hidden)
        if renamed is None:
            raise WeightsError(
                f"tensor {name!r} is not part of torchvision's maskrcnn_resnet50_fpn, its v2, or the Faster and "
                f"Keypoint R-CNN beside them{_why(name)}",
                unexpected=[name],
            )
        ours[renamed] = value
    heads = [
        f"{name}.{kind}" for name in ("box_head.class_logits", "box_head.box_deltas") for kind in ("weight", "bias")
    ]
    if missing := [name for name in heads if name not in ours]:
        raise WeightsError(f"not a whole detector: tensor {missing[0]!r} is missing", missing=missing)
    background_last(ours, shape_of(ours, "box_head.class_logits.weight", 2)[0])
    return ours


def names_of(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our name of each tensor -> theirs."""
    boxes, masks = count_of(state, r"roi_heads\.box_head\.(\d+)\.[01]\..*"), _mask_convolutions(state)
    return {ours: n for n in state if (ours := rename(n, box_convolutions=boxes, mask_convolutions=masks))}


def rename(name: str, *, box_convolutions: int = 4, mask_convolutions: int = 4) -> str | None:
    """Our name of a torchvision tensor, or None.

    Args:
        name: theirs.
        box_convolutions: of a box head that has some; a flattening and the fully connected layers come after them.
        mask_convolutions: of the mask head.
    """
    if old := OLD_MASK_NAME.fullmatch(name):
        name = f"roi_heads.mask_head.{int(old[1]) - 1}.0.{old[2]}"
    if found := DECONVOLUTION.fullmatch(name):
        return f"mask_head.layers.{mask_convolutions}.{found[1]}"
    if found := FULLY_CONNECTED.fullmatch(name):  # with a ReLU after each
        return f"box_head.fully_connected.{(int(found[1]) - box_convolutions - 1) // 2}.{found[2]}"
    if found := KEYPOINTS.fullmatch(name):  # with a ReLU after each
        return f"keypoint_head.convolutions.{int(found[1]) // 2}.{found[2]}"
    for pattern, replacement in NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def background_last(state: dict[str, Tensor], rows: int) -> None:
    """Class rows from torchvision's order (background first) to ours, in place; its background box and mask rows go.

    Rows of another number are left, for `load_state` to name them.
    """
    for kind, dimensions in (("weight", 2), ("bias", 1)):
        shape_of(state, f"box_head.class_logits.{kind}", dimensions)
        shape_of(state, f"box_head.box_deltas.{kind}", dimensions)
        logits = state[f"box_head.class_logits.{kind}"]
        state[f"box_head.class_logits.{kind}"] = torch.cat([logits[1:], logits[:1]])
        deltas = state[f"box_head.box_deltas.{kind}"]
        if len(deltas) == 4 * rows:
            state[f"box_head.box_deltas.{kind}"] = deltas[4:]
        masks = state.get(f"mask_head.logits.{kind}")
        if masks is not None and masks.shape[:1] == (rows,):
            state[f"mask_head.logits.{kind}"] = masks[1:]


def _mask_convolutions(state: Mapping[str, Tensor]) -> int:
    return count_of(state, r"roi_heads\.mask_head\.(\d|mask_fcn\d)\..*")


def _why(name: str) -> str:
    if name.startswith("backbone."):
        return f"; of trunks, its ResNets, {', '.join(HALVING)} are read, alone or under its FeaturePyramidNetwork"
    return ""
