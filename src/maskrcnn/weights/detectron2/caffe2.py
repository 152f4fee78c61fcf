"""Detectron's own blobs, as Caffe2 kept them, -> Detectron2's names and order of classes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

KIND = {"w": "weight", "b": "bias", "s": "weight"}
LAYERS: tuple[tuple[str, str], ...] = (
    (r"conv1_w", "backbone.bottom_up.stem.conv1.weight"),
    (r"res_conv1_bn_(s|b)", r"backbone.bottom_up.stem.conv1.norm.{}"),
    (r"conv1_gn_(s|b)", r"backbone.bottom_up.stem.conv1.norm.{}"),
    (r"res(\d)_(\d+)_branch1_w", r"backbone.bottom_up.res\1.\2.shortcut.weight"),
    (r"res(\d)_(\d+)_branch1_(?:bn|gn)_(s|b)", r"backbone.bottom_up.res\1.\2.shortcut.norm.{}"),
    (r"res(\d)_(\d+)_branch2([abc])_w", r"backbone.bottom_up.res\1.\2.conv\3.weight"),
    (r"res(\d)_(\d+)_branch2([abc])_(?:bn|gn)_(s|b)", r"backbone.bottom_up.res\1.\2.conv\3.norm.{}"),
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?_(w|b)", r"backbone.fpn_lateral\1.{}"),
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?_gn_(s|b)", r"backbone.fpn_lateral\1.norm.{}"),
    (r"fpn_res(\d)_\d+_sum_(w|b)", r"backbone.fpn_output\1.{}"),
    (r"fpn_res(\d)_\d+_sum_gn_(s|b)", r"backbone.fpn_output\1.norm.{}"),
    (r"conv_rpn(?:_fpn2)?_(w|b)", r"proposal_generator.rpn_head.conv.{}"),
    (r"rpn_cls_logits(?:_fpn2)?_(w|b)", r"proposal_generator.rpn_head.objectness_logits.{}"),
    (r"rpn_bbox_pred(?:_fpn2)?_(w|b)", r"proposal_generator.rpn_head.anchor_deltas.{}"),
    (r"head_conv(\d)_w", r"roi_heads.box_head.conv\1.weight"),
    (r"head_conv(\d)_gn_(s|b)", r"roi_heads.box_head.conv\1.norm.{}"),
    (r"fc6_(w|b)", r"roi_heads.box_head.fc1.{}"),
    (r"fc7_(w|b)", r"roi_heads.box_head.fc2.{}"),
    (r"cls_score_(w|b)", r"roi_heads.box_predictor.cls_score.{}"),
    (r"bbox_pred_(w|b)", r"roi_heads.box_predictor.bbox_pred.{}"),
    (r"_\[mask\]_fcn(\d)_(w|b)", r"roi_heads.mask_head.mask_fcn\1.{}"),
    (r"_mask_fcn(\d)_(w|b)", r"roi_heads.mask_head.mask_fcn\1.{}"),
    (r"_\[mask\]_fcn(\d)_gn_(s|b)", r"roi_heads.mask_head.mask_fcn\1.norm.{}"),
    (r"conv5_mask_(w|b)", r"roi_heads.mask_head.deconv.{}"),
    (r"mask_fcn_logits_(w|b)", r"roi_heads.mask_head.predictor.{}"),
    (r"conv_fcn(\d)_(w|b)", r"roi_heads.keypoint_head.conv_fcn\1.{}"),
    (r"kps_score_lowres_(w|b)", r"roi_heads.keypoint_head.score_lowres.{}"),
)
# A classifier's last layer, the solver's state, and the fixed weights of an upsampling.
DROPPED = re.compile(r".*_momentum|pred_[wb]|fc1000_[wb]|lr|weight_order|kps_score_[wb]|.*_(rm|riv)|model_iter")


def from_caffe2(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detectron2's state of Detectron's blobs. What has no rule keeps its name, and is refused where names are read.

    Norms are only a scale and a shift there: they get statistics that change nothing (Detectron's frozen norm). The
    background is its first class and Detectron2's last.
    """
    state: dict[str, Tensor] = {}
    for name, value in blobs.items():
        if not DROPPED.fullmatch(name):
            state[_renamed(name)] = value
    one_map = not any(name.startswith("backbone.fpn_") for name in state)
    if one_map:
        state = {_without_pyramid(name): value for name, value in state.items()}
    group = any("_gn_" in name for name in blobs)
    for name in [n for n in state if n.endswith(".norm.weight")]:
        if not group:
            # 1 - eps, so that the root of the variance with its epsilon is 1.
            state[name.replace("weight", "running_mean")] = torch.zeros_like(state[name])
            state[name.replace("weight", "running_var")] = torch.full_like(state[name], 1 - 1e-5)
    _background_last(state)
    return state


def _renamed(name: str) -> str:
    for pattern, replacement in LAYERS:
        if found := re.fullmatch(pattern, name):
            kind = KIND.get(found.groups()[-1], "") if found.groups() else ""
            renamed = found.expand(replacement.replace("{}", "@")).replace("@", kind)
            return re.sub(r"conv([abc])\.", lambda m: f"conv{'abc'.index(m[1]) + 1}.", renamed)
    return name


def _without_pyramid(name: str) -> str:
    """C4: the last stage belongs to the heads."""
    name = name.replace("backbone.bottom_up.", "backbone.")
    return name.replace("backbone.res5.", "roi_heads.res5.")


def _background_last(state: dict[str, Tensor]) -> None:
    for kind in ("weight", "bias"):
        scores = f"roi_heads.box_predictor.cls_score.{kind}"
        boxes, masks = f"roi_heads.box_predictor.bbox_pred.{kind}", f"roi_heads.mask_head.predictor.{kind}"
        if scores not in state or state[scores].ndim == 0:
            continue  # whoever reads the shapes says so
        rows = len(state[scores])
        if rows:
            state[scores] = torch.cat([state[scores][1:], state[scores][:1]])
        if boxes in state and state[boxes].shape[:1] == (4 * rows,):
            state[boxes] = state[boxes][4:]
        if masks in state and state[masks].shape[:1] == (rows,):
            state[masks] = state[masks][1:]
