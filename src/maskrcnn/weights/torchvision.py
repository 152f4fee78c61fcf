"""torchvision's Mask R-CNN (`maskrcnn_resnet50_fpn`): its state dict in, our model with its conventions out.

Differences are spelled out as config fields (preset "torchvision-r50-fpn"): rounded anchors on a grid stride, RoIAlign
without the half pixel, its mask paste, its resize. Its class 0 is background; ours comes last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets import preset
from maskrcnn.weights.classes import class_names

# Their name (a regular expression) -> ours. The second spelling of a pair is that of files saved before 0.13.
NAMES = (
    (r"backbone\.body\.(.*)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"fpn.lateral.\1.0.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"fpn.output.\1.0.\2"),
    (r"rpn\.head\.conv\.(\d)\.0\.(weight|bias)", r"rpn.convolutions.\1.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.convolutions.0.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"box_head.fully_connected.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"box_head.fully_connected.1.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"box_head.class_logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"box_head.box_deltas.\1"),
    (r"roi_heads\.mask_head\.(\d)\.0\.(weight|bias)", r"mask_head.layers.\1.0.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"mask_head.layers.4.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"mask_head.logits.\1"),
)
OLD_MASK_NAME = re.compile(r"roi_heads\.mask_head\.mask_fcn(\d)\.(.*)")


def from_torchvision(
    source: torch.nn.Module | Mapping[str, Tensor],
    *,
    classes: Sequence[str] | None = None,
    norm_eps: float | None = None,
) -> MaskRCNN:
    """Our model with the weights and conventions of a torchvision `maskrcnn_resnet50_fpn`.

    Args:
        source: the model or its state dict.
        classes: names of classes 1, 2, ...; None: COCO's for 91 rows (unused ids are called "unused 12"), else
            "class 1", ...
        norm_eps: epsilon of the trunk's norms; None: read from the model, 1e-5 for a state dict. torchvision runs its
            released COCO_V1 weights with 0.

    Raises:
        WeightsError: other names or shapes than that model's.
    """
    if isinstance(source, torch.nn.Module):
        if norm_eps is None:
            norm_eps = float(source.backbone.body.bn1.eps)  # type: ignore[union-attr, arg-type]
        source = source.state_dict()
    state = {name: value for name, value in source.items() if not name.endswith("num_batches_tracked")}
    ours = {}
    for name, value in state.items():
        renamed = rename(name)
        if renamed is None:
            raise WeightsError(
                f"tensor {name!r} is not part of torchvision's maskrcnn_resnet50_fpn, the only one supported",
                unexpected=[name],
            )
        ours[renamed] = value
    for name in ("box_head.class_logits.weight", "mask_head.logits.weight"):
        if name not in ours:
            raise WeightsError(f"not a torchvision Mask R-CNN: {name} has no counterpart in the file", missing=[name])
    rows = len(ours["box_head.class_logits.weight"])
    background_last(ours, rows)
    names, ids = class_names(rows - 1, classes)
    config = preset("torchvision-r50-fpn").replace(
        **{"model.backbone.norm_eps": 1e-5 if norm_eps is None else norm_eps}
    )
    model = build_model(config.model, classes=names, category_ids=ids, data=config.data)
    for name in ("mean", "std"):
        ours[name] = getattr(model, name)
    try:
        missing, unexpected = model.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise WeightsError(
            f"shapes differ from maskrcnn_resnet50_fpn: {str(error).splitlines()[-1].strip()}"
        ) from error
    if missing or unexpected:
        raise WeightsError(
            f"not a complete maskrcnn_resnet50_fpn: {len(missing)} tensors missing, {len(unexpected)} unknown, "
            f"first {(missing or unexpected)[0]!r}",
            missing=missing,
            unexpected=unexpected,
        )
    return model.eval()


def load_torchvision(path: str | Path, **options: object) -> MaskRCNN:
    """A `.pth` file of a torchvision state dict; options as in `from_torchvision`. No pickled code is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except Exception as error:
        raise WeightsError(f"{path}: not a readable PyTorch weight file ({type(error).__name__})") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # what torchvision's reference training script saves
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict of tensors; save model.state_dict()")
    try:
        return from_torchvision(state, **options)  # type: ignore[arg-type]
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}", missing=error.missing, unexpected=error.unexpected) from error


def rename(name: str) -> str | None:
    """Our name of a torchvision tensor, or None."""
    old = OLD_MASK_NAME.fullmatch(name)
    if old:
        name = f"roi_heads.mask_head.{int(old[1]) - 1}.0.{old[2]}"
    for pattern, replacement in NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def background_last(state: dict[str, Tensor], rows: int) -> None:
    """Class rows from torchvision's order (background first) to ours, in place; its background box and mask rows go."""
    for kind in ("weight", "bias"):
        logits = state[f"box_head.class_logits.{kind}"]
        state[f"box_head.class_logits.{kind}"] = torch.cat([logits[1:], logits[:1]])
        deltas = state[f"box_head.box_deltas.{kind}"]
        state[f"box_head.box_deltas.{kind}"] = deltas.view(rows, 4, *deltas.shape[1:])[1:].flatten(0, 1)
        state[f"mask_head.logits.{kind}"] = state[f"mask_head.logits.{kind}"][1:]
