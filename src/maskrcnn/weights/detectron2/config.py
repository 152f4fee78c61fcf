"""A YAML config of Detectron2 -> ours, every knob that has a counterpart; what has none is refused or noted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.presets.detectron2 import detectron2
from maskrcnn.weights.detectron2.yaml import Node, read_yaml
from maskrcnn.weights.facts import TRUNKS, WIDTHS

NORMS = {
    "": "none", "FrozenBN": "bn", "BN": "bn", "SyncBN": "bn", "nnSyncBN": "bn", "naiveSyncBN": "bn",
    "naiveSyncBN_N": "bn", "GN": "gn",
}  # fmt: skip


@dataclass(frozen=True)
class Detectron2Config:
    """What a config says.

    Attributes:
        config: in our fields.
        classes: their number.
        keypoints: their number; 0 without that head.
        bgr: whether the network takes blue first.
        dataset: the first that it was trained on, or "".
        notes: what has no effect here, one sentence each.
        path: the file.
    """

    config: Config
    classes: int
    keypoints: int
    bgr: bool
    dataset: str
    notes: tuple[str, ...]
    path: Path


def read_config(path: str | Path) -> Detectron2Config:
    """A YAML config in our fields.

    Raises:
        ConfigError: not readable, another kind of network, or a part of it that is not here; names the key.
    """
    root = read_yaml(path)
    model, heads = root.part("MODEL"), root.part("MODEL").part("ROI_HEADS")
    _check(model)
    classes = heads.whole("NUM_CLASSES")
    keypoints = model.part("ROI_KEYPOINT_HEAD").whole("NUM_KEYPOINTS") if model.flag("KEYPOINT_ON") else 0
    masks, cascade = model.flag("MASK_ON"), heads.text("NAME") == "CascadeROIHeads"
    arrangement = _arrangement(model)
    base = detectron2(arrangement=arrangement, masks=masks, keypoints=bool(keypoints), cascade=cascade)  # type: ignore[arg-type]
    fields = {
        **_trunk(model),
        **_proposals(model, arrangement),
        **_box_head(model, cascade, arrangement),
        **(_mask_head(model, arrangement) if masks else {}),
        **(_keypoint_head(model) if keypoints else {}),
        **_input(root),
        **_schedule(root),
        "model.box.detections_per_image": root.part("TEST").whole("DETECTIONS_PER_IMAGE"),
    }
    if arrangement == "fpn":
        fields["model.fpn.channels"] = model.part("FPN").whole("OUT_CHANNELS")
        fields["model.fpn.norm"] = _norm(model.part("FPN"))
    trained = root.part("DATASETS").row("TRAIN")
    return Detectron2Config(
        config=base.replace(**fields),
        classes=classes,
        keypoints=keypoints,
        bgr=root.part("INPUT").text("FORMAT") == "BGR",
        dataset=str(trained[0]) if trained else "",
        notes=tuple(_notes(root)),
        path=Path(path),
    )


def _check(model: Node) -> None:
    """Raises `ConfigError` naming the first part that has no counterpart here."""
    rpn, resnet, fpn = model.part("RPN"), model.part("RESNETS"), model.part("FPN")
    anchors, heads, box = model.part("ANCHOR_GENERATOR"), model.part("ROI_HEADS"), model.part("ROI_BOX_HEAD")
    known: tuple[tuple[Node, str, tuple[Any, ...]], ...] = (
        (model, "META_ARCHITECTURE", ("GeneralizedRCNN", "PanopticFPN")),
        (model, "LOAD_PROPOSALS", (False,)),
        (model.part("BACKBONE"), "NAME", ("build_resnet_backbone", "build_resnet_fpn_backbone")),
        (model.part("PROPOSAL_GENERATOR"), "NAME", ("RPN",)),
        (anchors, "NAME", ("DefaultAnchorGenerator",)),
        (anchors, "OFFSET", (0, 0.0)),
        (rpn, "HEAD_NAME", ("StandardRPNHead",)),
        (heads, "NAME", ("Res5ROIHeads", "StandardROIHeads", "CascadeROIHeads")),
        (fpn, "FUSE_TYPE", ("sum",)),
        (resnet, "STEM_OUT_CHANNELS", (64,)),
        (resnet, "NORM", tuple(name for name in NORMS if name)),
        (box, "USE_SIGMOID_CE", (False,)),
    )
    for node, name, values in known:
        if node.values.get(name) not in values:
            raise node.error(
                name,
                f"{node.values.get(name)!r} is not here; known: {', '.join(map(repr, values))}. Mask R-CNN on a ResNet "
                "or ResNeXt with FPN, C4 or DC5 is read",
            )
    if any(resnet.row("DEFORM_ON_PER_STAGE")):
        raise resnet.error("DEFORM_ON_PER_STAGE", "deformable convolutions are not here")


def _arrangement(model: Node) -> str:
    """fpn, c4 or dc5, from where RPN and heads read."""
    pyramid = model.part("BACKBONE").text("NAME").endswith("_fpn_backbone")
    resnet, rpn, heads = model.part("RESNETS"), model.part("RPN"), model.part("ROI_HEADS")
    maps, seen = rpn.row("IN_FEATURES"), heads.row("IN_FEATURES")
    if pyramid:
        if maps != ("p2", "p3", "p4", "p5", "p6") or seen != ("p2", "p3", "p4", "p5"):
            raise rpn.error(
                "IN_FEATURES", f"{list(maps)} and {list(seen)} of the heads: must be P2 to P6, and P2 to P5"
            )
        return "fpn"
    if heads.text("NAME") == "Res5ROIHeads" and maps == seen == ("res4",):
        return "c4"
    if maps == seen == ("res5",) and resnet.whole("RES5_DILATION") == 2:
        return "dc5"
    raise rpn.error(
        "IN_FEATURES",
        f"{list(maps)} and {list(seen)} of the heads: without a pyramid, both res4 (C4) or dilated res5 (DC5)",
    )


def _trunk(model: Node) -> dict[str, Any]:
    resnet = model.part("RESNETS")
    depth, shape = resnet.whole("DEPTH"), (resnet.whole("NUM_GROUPS"), resnet.whole("WIDTH_PER_GROUP"))
    name = WIDTHS.get(shape, "").format(depth)
    if name not in TRUNKS:
        raise resnet.error(
            "DEPTH", f"{depth} with {shape[0]} groups of {shape[1]} is not here; known: {', '.join(TRUNKS)}"
        )
    out = resnet.whole("RES2_OUT_CHANNELS")
    if out != (64 if depth < 50 else 256):
        raise resnet.error("RES2_OUT_CHANNELS", f"{out} is not here")
    norm = resnet.text("NORM")
    return {
        "model.backbone.name": name,
        "model.backbone.norm": "frozen_bn" if norm == "FrozenBN" else NORMS[norm],
        "model.backbone.stride_in_1x1": resnet.flag("STRIDE_IN_1X1") and depth >= 50,
        "model.backbone.frozen_stages": max(0, model.part("BACKBONE").whole("FREEZE_AT")),
        "model.image_mean": _colours(model, "PIXEL_MEAN"),
        "model.image_std": _colours(model, "PIXEL_STD"),
    }


def _colours(model: Node, name: str) -> tuple[float, ...]:
    return model.numbers(name, 3)


def _proposals(model: Node, arrangement: str) -> dict[str, Any]:
    rpn, anchors = model.part("RPN"), model.part("ANCHOR_GENERATOR")
    sizes, ratios = anchors.rows("SIZES"), anchors.rows("ASPECT_RATIOS")
    levels = 5 if arrangement == "fpn" else 1
    sizes = sizes * levels if len(sizes) == 1 else sizes
    if len(sizes) != levels or any(r != ratios[0] for r in ratios):
        raise anchors.error(
            "SIZES", f"{len(sizes)} lists for {levels} maps, and the same ASPECT_RATIOS on each are needed"
        )
    # -1: as many channels as the features; a width that all convolutions share otherwise.
    widths = {int(w) for w in rpn.numbers("CONV_DIMS")}
    if len(widths) != 1:
        raise rpn.error("CONV_DIMS", f"{list(rpn.row('CONV_DIMS'))}: all must be the same")
    low, high = rpn.numbers("IOU_THRESHOLDS", 2)
    weight = rpn.number("LOSS_WEIGHT")
    return {
        "model.rpn.anchors.sizes": sizes,
        "model.rpn.anchors.ratios": ratios[0],
        "model.rpn.convolutions": len(rpn.row("CONV_DIMS")),
        "model.rpn.channels": None if widths == {-1} else widths.pop(),
        "model.rpn.box_weights": rpn.numbers("BBOX_REG_WEIGHTS", 4),
        "model.rpn.background_iou": low,
        "model.rpn.foreground_iou": high,
        "model.rpn.samples_per_image": rpn.whole("BATCH_SIZE_PER_IMAGE"),
        "model.rpn.positive_fraction": rpn.number("POSITIVE_FRACTION"),
        "model.rpn.pre_nms_train": rpn.whole("PRE_NMS_TOPK_TRAIN"),
        "model.rpn.pre_nms_test": rpn.whole("PRE_NMS_TOPK_TEST"),
        "model.rpn.post_nms_train": rpn.whole("POST_NMS_TOPK_TRAIN"),
        "model.rpn.post_nms_test": rpn.whole("POST_NMS_TOPK_TEST"),
        "model.rpn.nms_iou": rpn.number("NMS_THRESH"),
        "model.rpn.min_size": float(model.part("PROPOSAL_GENERATOR").number("MIN_SIZE")),
        "model.rpn.smooth_l1_beta": rpn.number("SMOOTH_L1_BETA"),
        "model.rpn.score_loss_weight": weight,
        "model.rpn.box_loss_weight": weight * rpn.number("BBOX_REG_LOSS_WEIGHT"),
    }


def _box_head(model: Node, cascade: bool, arrangement: str) -> dict[str, Any]:
    box, heads, stages = model.part("ROI_BOX_HEAD"), model.part("ROI_HEADS"), model.part("ROI_BOX_CASCADE_HEAD")
    fields = {
        **_pooler(box, "box"),
        "model.box.class_agnostic": box.flag("CLS_AGNOSTIC_BBOX_REG"),
        "model.box.samples_per_image": heads.whole("BATCH_SIZE_PER_IMAGE"),
        "model.box.positive_fraction": heads.number("POSITIVE_FRACTION"),
        "model.box.foreground_iou": heads.numbers("IOU_THRESHOLDS", 1)[0],
        "model.box.add_truth": heads.flag("PROPOSAL_APPEND_GT"),
        "model.box.box_weights": box.numbers("BBOX_REG_WEIGHTS", 4),
        "model.box.smooth_l1_beta": box.number("SMOOTH_L1_BETA"),
        "model.box.score_threshold": heads.number("SCORE_THRESH_TEST"),
        "model.box.nms_iou": heads.number("NMS_THRESH_TEST"),
        "model.box.box_loss_weight": box.number("BBOX_REG_LOSS_WEIGHT"),
    }
    if arrangement != "c4":
        fields |= {
            "model.box.convolutions": box.whole("NUM_CONV"),
            "model.box.convolution_channels": box.whole("CONV_DIM"),
            "model.box.fully_connected": box.whole("NUM_FC"),
            "model.box.fully_connected_channels": box.whole("FC_DIM"),
            "model.box.norm": _norm(box),
        }
    if cascade:
        if not box.flag("CLS_AGNOSTIC_BBOX_REG"):
            raise box.error("CLS_AGNOSTIC_BBOX_REG", "a cascade has one box for all classes; set it to True")
        ious, weights = stages.numbers("IOUS"), stages.rows("BBOX_REG_WEIGHTS", 4)
        if len(ious) != len(weights):
            raise stages.error("IOUS", f"{len(ious)} stages, but {len(weights)} BBOX_REG_WEIGHTS")
        fields |= {
            "model.box.foreground_iou": ious[0],
            "model.box.box_weights": weights[0],
            "model.box.cascade": tuple(zip(ious[1:], weights[1:], strict=True)),
        }
    return fields


def _mask_head(model: Node, arrangement: str) -> dict[str, Any]:
    mask = model.part("ROI_MASK_HEAD")
    if mask.text("NAME") != "MaskRCNNConvUpsampleHead":
        raise mask.error("NAME", f"{mask.text('NAME')!r} is not here; known: 'MaskRCNNConvUpsampleHead'")
    return {
        **({} if arrangement == "c4" else _pooler(mask, "mask")),
        "model.mask.convolutions": mask.whole("NUM_CONV"),
        "model.mask.channels": mask.whole("CONV_DIM"),
        "model.mask.norm": _norm(mask) if mask.whole("NUM_CONV") else "none",
        "model.mask.class_agnostic": mask.flag("CLS_AGNOSTIC_MASK"),
    }


def _keypoint_head(model: Node) -> dict[str, Any]:
    head = model.part("ROI_KEYPOINT_HEAD")
    widths = head.numbers("CONV_DIMS")
    if head.text("NAME") != "KRCNNConvDeconvUpsampleHead" or len(set(widths)) != 1:
        raise head.error("NAME", f"{head.text('NAME')!r} with {list(widths)} channels is not here")
    return {
        **_pooler(head, "keypoint"),
        "model.keypoint.convolutions": len(widths),
        "model.keypoint.channels": int(widths[0]),
        "model.keypoint.loss_weight": head.number("LOSS_WEIGHT"),
    }


def _pooler(head: Node, ours: str) -> dict[str, Any]:
    kind = head.text("POOLER_TYPE")
    if kind not in ("ROIAlignV2", "ROIAlign"):
        raise head.error("POOLER_TYPE", f"{kind!r} is not here; known: 'ROIAlignV2', 'ROIAlign'")
    return {
        f"model.{ours}.pooler.resolution": head.whole("POOLER_RESOLUTION"),
        f"model.{ours}.pooler.sampling_ratio": head.whole("POOLER_SAMPLING_RATIO"),
        f"model.{ours}.pooler.aligned": kind == "ROIAlignV2",
    }


def _norm(head: Node) -> str:
    norm = head.text("NORM")
    if norm not in NORMS:
        raise head.error("NORM", f"{norm!r} is not here; known: {', '.join(map(repr, NORMS))}")
    return NORMS[norm]


def _input(root: Node) -> dict[str, Any]:
    inputs, model = root.part("INPUT"), root.part("MODEL")
    order, size = inputs.text("FORMAT"), inputs.whole("MIN_SIZE_TEST")
    if order not in ("BGR", "RGB"):
        raise inputs.error("FORMAT", f"{order!r} is not here; known: 'BGR', 'RGB'")
    if size <= 0:
        raise inputs.error("MIN_SIZE_TEST", f"{size}: images that are not resized need a size here")
    train = inputs.numbers("MIN_SIZE_TRAIN")
    flip = inputs.text("RANDOM_FLIP")
    fields: dict[str, Any] = {
        "data.min_size": size,
        "data.max_size": max(size, inputs.whole("MAX_SIZE_TEST")),
        "data.scale_jitter": (min(train) / size, max(train) / size),
        "data.horizontal_flip": 0.5 if flip == "horizontal" else 0.0,
        "data.vertical_flip": 0.5 if flip == "vertical" else 0.0,
    }
    if order == "BGR":  # ours is red first; the first convolution is turned to match
        fields |= {
            "model.image_mean": _colours(model, "PIXEL_MEAN")[::-1],
            "model.image_std": _colours(model, "PIXEL_STD")[::-1],
        }
    return fields


def _schedule(root: Node) -> dict[str, Any]:
    solver = root.part("SOLVER")
    steps, falls = solver.whole("MAX_ITER"), [int(s) for s in solver.numbers("STEPS", none=True)]
    if steps <= 0:
        raise solver.error("MAX_ITER", f"expected a number above 0, got {steps}")
    batch, rate, gamma = solver.whole("IMS_PER_BATCH"), solver.number("BASE_LR"), solver.number("GAMMA")
    clip = solver.part("CLIP_GRADIENTS")
    by_norm = clip.flag("ENABLED") and clip.text("CLIP_TYPE") == "norm"
    fields: dict[str, Any] = {
        "train.steps": steps,
        "train.batch_size": batch,
        "train.learning_rate": rate,
        "train.learning_rate_batch": batch,
        "train.momentum": solver.number("MOMENTUM"),
        "train.weight_decay": solver.number("WEIGHT_DECAY"),
        "train.warmup_steps": solver.whole("WARMUP_ITERS"),
        "train.warmup_factor": solver.number("WARMUP_FACTOR"),
        "train.clip_norm": clip.number("CLIP_VALUE") if by_norm else 0.0,
    }
    if solver.text("LR_SCHEDULER_NAME") == "WarmupCosineLR":
        return fields | {"train.schedule": "cosine"}
    if gamma == 0.1:
        return fields | {"train.milestones": tuple(s / steps for s in falls if s < steps)}
    rates = ((0, rate), *((s, rate * gamma**i) for i, s in enumerate(falls, start=1)))
    return fields | {"train.schedule": "manual", "train.rates": rates}


def _notes(root: Node) -> Iterator[str]:
    model, solver = root.part("MODEL"), root.part("SOLVER")
    if model.text("META_ARCHITECTURE") == "PanopticFPN":
        yield "MODEL.META_ARCHITECTURE PanopticFPN: the instances are found, its semantic head is left out"
    for name in ("RPN", "ROI_BOX_HEAD"):
        kind = model.part(name).text("BBOX_REG_LOSS_TYPE")
        if kind != "smooth_l1":
            yield f"MODEL.{name}.BBOX_REG_LOSS_TYPE {kind}: training uses smooth L1"
    if model.part("ROI_BOX_HEAD").flag("USE_FED_LOSS"):
        yield "MODEL.ROI_BOX_HEAD.USE_FED_LOSS: training uses every class"
    if root.part("TEST").part("AUG").flag("ENABLED"):
        yield "TEST.AUG: each image is seen once"
    if root.part("INPUT").part("CROP").flag("ENABLED"):
        yield "INPUT.CROP: set data.crop for crops in training"
    clip = solver.part("CLIP_GRADIENTS")
    if clip.flag("ENABLED") and clip.text("CLIP_TYPE") != "norm":
        yield "SOLVER.CLIP_GRADIENTS by value: set train.clip_norm for a bound on the norm"
