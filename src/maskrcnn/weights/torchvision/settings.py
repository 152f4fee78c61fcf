"""The settings of a torchvision detector that are in the object and not in its weights -> our fields."""

from __future__ import annotations

from typing import Any

from torch import nn

from maskrcnn.errors import WeightsError


def fields_of(detector: Any) -> dict[str, Any]:
    """Dotted fields of our config.

    Args:
        detector: `torchvision.models.detection.FasterRCNN` or one of its heirs.

    Raises:
        WeightsError: another kind of model, or a setting without a counterpart here.
    """
    if not all(hasattr(detector, part) for part in ("transform", "backbone", "rpn", "roi_heads")):
        raise WeightsError(f"{type(detector).__name__} is no Faster or Mask R-CNN of torchvision")
    transform, rpn, heads = detector.transform, detector.rpn, detector.roi_heads
    generator = rpn.anchor_generator
    if any(tuple(ratios) != tuple(generator.aspect_ratios[0]) for ratios in generator.aspect_ratios):
        raise WeightsError("its anchors have other ratios on each level; the same on all are needed")
    if len({len(sizes) for sizes in generator.sizes}) != 1:
        raise WeightsError("its anchors have another number of sizes on each level; the same on all is needed")
    fields: dict[str, Any] = {
        "model.image_mean": tuple(255.0 * m for m in transform.image_mean),
        "model.image_std": tuple(255.0 * s for s in transform.image_std),
        "data.min_size": int(transform.min_size[-1]),
        "data.max_size": int(transform.max_size),
        "data.scale_jitter": (min(transform.min_size) / transform.min_size[-1], 1.0),
        "model.rpn.anchors.sizes": tuple(tuple(float(s) for s in sizes) for sizes in generator.sizes),
        "model.rpn.anchors.ratios": tuple(float(r) for r in generator.aspect_ratios[0]),
        "model.rpn.pre_nms_train": rpn._pre_nms_top_n["training"],
        "model.rpn.pre_nms_test": rpn._pre_nms_top_n["testing"],
        "model.rpn.post_nms_train": rpn._post_nms_top_n["training"],
        "model.rpn.post_nms_test": rpn._post_nms_top_n["testing"],
        "model.rpn.nms_iou": rpn.nms_thresh,
        "model.rpn.min_size": rpn.min_size,
        "model.rpn.score_threshold": float(rpn.score_thresh),
        "model.rpn.foreground_iou": rpn.proposal_matcher.high_threshold,
        "model.rpn.background_iou": rpn.proposal_matcher.low_threshold,
        "model.rpn.samples_per_image": rpn.fg_bg_sampler.batch_size_per_image,
        "model.rpn.positive_fraction": rpn.fg_bg_sampler.positive_fraction,
        "model.box.box_weights": tuple(float(w) for w in heads.box_coder.weights),
        "model.box.score_threshold": heads.score_thresh,
        "model.box.nms_iou": heads.nms_thresh,
        "model.box.detections_per_image": heads.detections_per_img,
        "model.box.foreground_iou": heads.proposal_matcher.high_threshold,
        "model.box.samples_per_image": heads.fg_bg_sampler.batch_size_per_image,
        "model.box.positive_fraction": heads.fg_bg_sampler.positive_fraction,
        **_pooler("box", heads.box_roi_pool),
        **(_pooler("mask", heads.mask_roi_pool) if heads.has_mask() else {}),
        **(_pooler("keypoint", heads.keypoint_roi_pool) if heads.has_keypoint() else {}),
    }
    if (norm := _first_norm(detector.backbone)) is not None:
        fields["model.backbone.norm_eps"] = float(norm.eps)  # type: ignore[arg-type]
    return fields


def returned_layers(detector: Any) -> list[str] | None:
    """The layers whose maps go on to the pyramid; None: no pyramid."""
    getter = getattr(detector.backbone, "body", None)
    layers = getattr(getter, "return_layers", None)
    return None if layers is None else [str(name) for name in layers]


def _pooler(head: str, pooler: Any) -> dict[str, Any]:
    height, width = pooler.output_size
    if height != width:
        raise WeightsError(f"its {head} pooler gives {height}x{width} cells; a square is needed")
    return {
        f"model.{head}.pooler.resolution": int(height),
        f"model.{head}.pooler.sampling_ratio": max(0, int(pooler.sampling_ratio)),  # -1 adapts to the box there
    }


def _first_norm(backbone: nn.Module) -> nn.Module | None:
    return next((module for module in backbone.modules() if hasattr(module, "running_var")), None)
