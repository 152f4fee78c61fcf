"""A config of MMDetection 2.x or 3.x -> our config. What changes the network and is not built here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.weights.mmdetection.config_run import data_fields, train_fields
from maskrcnn.weights.mmdetection.names_trunk import GROUPED, SWINS
from maskrcnn.weights.mmdetection.part import Part

MODELS = {"MaskRCNN": 1, "FasterRCNN": 1, "CascadeRCNN": 2}
ROI_HEADS = {"StandardRoIHead": False, "CascadeRoIHead": True}
NORMS = {"BN": "bn", "BN2d": "bn", "SyncBN": "bn", "MMSyncBN": "bn", "naiveSyncBN": "bn", "GN": "gn"}
# Convolutions and fully connected layers of a box head.
BOX_HEADS = {"Shared2FCBBoxHead": (0, 2), "Shared4Conv1FCBBoxHead": (4, 1), "ConvFCBBoxHead": (0, 0)}
DEPTHS = (18, 34, 50, 101, 152)
MOST_STAGES = 10  # heads of a cascade; theirs have 3
EVERY_STAGE = (0, 1, 2, 3)
CONVNEXT = {"tiny": "convnext_tiny", "small": "convnext_small", "base": "convnext_base"}


@dataclass(frozen=True)
class Settings:
    """What a config says.

    Attributes:
        config: ours.
        bgr: whether the first convolution's channels are blue, green, red; `config` has the means in RGB already.
        num_classes: without the background.
        classes: their names, where the file has them.
        notes: sentences about what is not the same here.
    """

    config: Config
    bgr: bool
    num_classes: int
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_settings(values: Mapping[str, Any], where: str) -> Settings:
    """Our config from the settings of a file.

    Args:
        values: the nested dicts that `read_config_file` or `config_of_text` gave.
        where: the file, for messages.

    Raises:
        ConfigError: a network that is not built here, a missing or wrong setting.
    """
    if "model" not in values:
        raise ConfigError(f"{where}: sets no model, so it is no config of MMDetection; give the one of these weights")
    file = Part(values, "", where)
    model = file.part("model")
    model.choice("type", MODELS, "detector")
    roi = model.part("roi_head")
    stages = roi.whole("num_stages", 3) if roi.choice("type", ROI_HEADS, "RoI head") else 1
    if not 1 <= stages <= MOST_STAGES:
        raise roi.error("num_stages", f"{stages} is not from 1 to {MOST_STAGES}")
    fields, bgr = data_fields(file)
    notes: list[str] = []
    changes = {
        **_trunk(model.part("backbone")),
        **_neck(model.part("neck")),
        **_rpn(model, notes),
        **_box(model, roi, stages, notes),
        **_mask(roi, stages),
        **fields,
        **train_fields(file, notes),
    }
    head = roi.parts("bbox_head", stages)[0]
    config = Config().replace(**changes)
    return Settings(config, bgr, head.whole("num_classes", 80), _classes(file), tuple(notes))


# ---------------------------------------------------------------- the network


def _trunk(part: Part) -> dict[str, Any]:
    kinds = {"ResNet": _resnet, "ResNeXt": _resnet, "SwinTransformer": _swin, "ConvNeXt": _convnext}
    return part.choice("type", kinds, "trunk")(part)


def _resnet(part: Part) -> dict[str, Any]:
    part.only(num_stages=4, out_indices=EVERY_STAGE, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), in_channels=3)
    part.only(deep_stem=False, avg_down=False, dcn=None, plugins=None, base_channels=64)
    _usual_convolutions(part)
    depth, name = part.whole("depth"), f"resnet{part.whole('depth')}"
    if depth not in DEPTHS:
        raise part.error("depth", f"{depth} is not built here; {', '.join(map(str, DEPTHS))} are")
    if str(part.get("type")).endswith("ResNeXt"):
        key = (depth, part.whole("groups", 1), part.whole("base_width", 4))
        if key not in GROUPED:
            raise part.error("depth", f"ResNeXt-{key[0]} {key[1]}x{key[2]}d is not built here; {_names(GROUPED)} are")
        name = GROUPED[key]
    norm = part.part("norm_cfg")
    kind = norm.choice("type", NORMS, "norm") if norm.values else "bn"
    if kind == "bn" and part.get("norm_eval", True):
        kind = "frozen_statistics" if norm.get("requires_grad", True) else "frozen_bn"
    return {
        "model.backbone.name": name,
        "model.backbone.stride_in_1x1": part.choice("style", {"pytorch": False, "caffe": True, "None": False}, "style"),
        "model.backbone.norm": kind,
        "model.backbone.norm_eps": norm.number("eps", 1e-5),
        "model.backbone.frozen_stages": part.whole("frozen_stages", -1) + 1,  # theirs counts from -1, none
    }


def _swin(part: Part) -> dict[str, Any]:
    part.only(patch_size=4, window_size=7, mlp_ratio=4, strides=(4, 2, 2, 2), out_indices=EVERY_STAGE, in_channels=3)
    part.only(qkv_bias=True, qk_scale=None, patch_norm=True, use_abs_pos_embed=False)
    key = (part.whole("embed_dims", 96), tuple(int(n) for n in part.numbers("depths", (2, 2, 6, 2))))
    if key not in SWINS:
        raise part.error("depths", f"{key[1]} with {key[0]} channels is not built here; {_names(SWINS)} are")
    return {"model.backbone.name": SWINS[key], "model.backbone.frozen_stages": part.whole("frozen_stages", -1) + 1}


def _convnext(part: Part) -> dict[str, Any]:
    part.only(out_indices=EVERY_STAGE, in_channels=3, stem_patch_size=4, linear_pw_conv=True, use_grn=False)
    if part.get("gap_before_final_norm", True):
        raise part.error("gap_before_final_norm", "True gives vectors, not maps; take a detector's checkpoint")
    frozen = part.whole("frozen_stages", 0)
    return {
        "model.backbone.name": part.choice("arch", CONVNEXT, "size of ConvNeXt"),
        "model.backbone.frozen_stages": frozen + 1 if frozen > 0 else 0,  # theirs has the stem in the first stage
    }


def _neck(part: Part) -> dict[str, Any]:
    part.choice("type", {"FPN": None}, "neck")
    part.only(num_outs=5, start_level=0, end_level=-1, add_extra_convs=False, no_norm_on_lateral=False, act_cfg=None)
    part.part("upsample_cfg").only(mode="nearest", scale_factor=None)
    return {"model.fpn.channels": part.whole("out_channels", 256), "model.fpn.norm": _norm(part)}


def _rpn(model: Part, notes: list[str]) -> dict[str, Any]:
    part = model.part("rpn_head")
    part.choice("type", {"RPNHead": None}, "RPN")
    part.part("loss_cls").only(use_sigmoid=True)
    anchors = part.part("anchor_generator")
    anchors.only(type="AnchorGenerator", base_sizes=None, octave_base_scale=None, scale_major=True, center_offset=0.0)
    anchors.only(strides=(4, 8, 16, 32, 64), centers=None)
    scales = anchors.numbers("scales", (8,))
    test, train = _tested(model).part("rpn"), _trained(model).part("rpn_proposal")
    learned = _trained(model).part("rpn")
    test.only(nms_across_levels=False)
    return {
        "model.rpn.anchors.sizes": tuple(tuple(stride * scale for scale in scales) for stride in (4, 8, 16, 32, 64)),
        "model.rpn.anchors.ratios": anchors.numbers("ratios", (0.5, 1.0, 2.0)),
        "model.rpn.convolutions": part.whole("num_convs", 1),
        "model.rpn.channels": part.whole("feat_channels", 256),
        "model.rpn.box_weights": _weights(part),
        "model.rpn.limit_shrinking": True,
        "model.rpn.pre_nms_test": test.whole("nms_pre", 1000),
        "model.rpn.post_nms_test": _most(test, 1000),
        "model.rpn.nms_iou": _nms_iou(test, 0.7),
        "model.rpn.min_size": float(test.number("min_bbox_size", 0)),
        "model.rpn.pre_nms_train": train.whole("nms_pre", 2000),
        "model.rpn.post_nms_train": _most(train, 1000),
        "model.rpn.smooth_l1_beta": _beta(part, notes),
        **_assigned("model.rpn", learned, (0.7, 0.3, 256, 0.5)),
        "model.rpn.low_quality_matches": bool(learned.part("assigner").get("match_low_quality", True)),
    }


def _box(model: Part, roi: Part, stages: int, notes: list[str]) -> dict[str, Any]:
    roi.only(shared_head=None)
    heads, pooler = roi.parts("bbox_head", stages), roi.parts("bbox_roi_extractor", stages)[0]
    learned = _trained(model).parts("rcnn", stages)
    test = _tested(model).part("rcnn")
    first = heads[0]
    convolutions, linear = first.choice("type", BOX_HEADS, "box head")
    for head in heads:
        head.only(with_avg_pool=False, num_cls_convs=0, num_cls_fcs=0, num_reg_convs=0, num_reg_fcs=0)
        head.only(reg_class_agnostic=first.get("reg_class_agnostic", False), type=first.get("type"))
        head.part("loss_cls").only(use_sigmoid=False, type="CrossEntropyLoss")
        head.part("cls_predictor_cfg").only(type="Linear")
    if roi.get("stage_loss_weights", [1, 0.5, 0.25]) and stages > 1:
        notes.append("the losses of the cascade's stages weigh as in Detectron2")
    ious = [part.part("assigner").number("pos_iou_thr", 0.5 + 0.1 * stage) for stage, part in enumerate(learned)]
    return {
        **_pooler("model.box.pooler", pooler, 7),
        "model.box.convolutions": first.whole("num_shared_convs", convolutions),
        "model.box.convolution_channels": first.whole("conv_out_channels", 256),
        "model.box.fully_connected": first.whole("num_shared_fcs", linear),
        "model.box.fully_connected_channels": first.whole("fc_out_channels", 1024),
        "model.box.norm": _norm(first),
        "model.box.class_agnostic": bool(first.get("reg_class_agnostic", False)),
        "model.box.box_weights": _weights(first, (0.1, 0.1, 0.2, 0.2)),
        "model.box.cascade": tuple(
            (float(iou), _weights(head, (0.1, 0.1, 0.2, 0.2))) for iou, head in zip(ious[1:], heads[1:], strict=True)
        ),
        "model.box.cascade_average": "logits" if stages > 1 else "probabilities",
        "model.box.limit_shrinking": True,
        "model.box.score_threshold": float(test.number("score_thr", 0.05)),
        "model.box.nms_iou": _nms_iou(test, 0.5),
        "model.box.detections_per_image": _most(test, 100),
        "model.box.smooth_l1_beta": _beta(first, notes),
        **_assigned("model.box", learned[0], (0.5, None, 512, 0.25)),
        "model.box.add_truth": bool(learned[0].part("sampler").get("add_gt_as_proposals", True)),
        "model.mask.threshold": float(test.number("mask_thr_binary", 0.5)),
    }


def _mask(roi: Part, stages: int) -> dict[str, Any]:
    if roi.get("mask_head") is None:
        return {"model.mask": None}
    part = roi.parts("mask_head", stages)[0]
    part.choice("type", {"FCNMaskHead": None}, "mask head")
    part.only(conv_kernel_size=3)
    part.part("upsample_cfg").only(type="deconv", scale_factor=2)
    part.part("predictor_cfg").only(type="Conv")
    _usual_convolutions(part)
    name = "mask_roi_extractor" if roi.get("mask_roi_extractor") is not None else "bbox_roi_extractor"
    return {
        **_pooler("model.mask.pooler", roi.parts(name, stages)[0], 14),
        "model.mask.convolutions": part.whole("num_convs", 4),
        "model.mask.channels": part.whole("conv_out_channels", 256),
        "model.mask.norm": _norm(part),
        "model.mask.class_agnostic": bool(part.get("class_agnostic", False)),
        "model.mask.each_stage": stages > 1,
    }


# ---------------------------------------------------------------- pieces of it


def _pooler(field: str, part: Part, resolution: int) -> dict[str, Any]:
    part.only(type="SingleRoIExtractor", featmap_strides=(4, 8, 16, 32), finest_scale=56)
    layer = part.part("roi_layer")
    layer.only(type="RoIAlign", pool_mode="avg")
    return {
        f"{field}.resolution": layer.whole("output_size", resolution),
        f"{field}.sampling_ratio": layer.whole("sampling_ratio", 0),
        f"{field}.aligned": bool(layer.get("aligned", True)),
    }


def _norm(part: Part) -> str:
    """Of the convolutions of a neck or head."""
    norm = part.part("norm_cfg")
    _usual_convolutions(part)
    if not norm.values:
        return "none"
    norm.only(num_groups=32, eps=1e-5)
    return str(norm.choice("type", NORMS, "norm"))


def _usual_convolutions(part: Part) -> None:
    kind = part.part("conv_cfg")
    if kind.values:
        kind.choice("type", {"Conv2d": None, "Conv": None}, "convolution")


def _weights(part: Part, stds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> tuple[float, ...]:
    coder = part.part("bbox_coder")
    coder.only(type="DeltaXYWHBBoxCoder", target_means=(0, 0, 0, 0), clip_border=True, add_ctr_clamp=False)
    found = coder.numbers("target_stds", stds, 4)
    if min(found) <= 0:
        raise coder.error("target_stds", f"{found} must be positive")
    return tuple(1.0 / std for std in found)


def _beta(part: Part, notes: list[str]) -> float:
    """Where the box loss turns from square to linear."""
    loss = part.part("loss_bbox")
    kind = str(loss.get("type", "L1Loss")).rpartition(".")[2]
    if kind == "SmoothL1Loss":
        return float(loss.number("beta", 1.0))
    if kind != "L1Loss":
        notes.append(f"{loss.path} {kind} is for training, which uses L1 here")
    return 0.0


def _assigned(field: str, part: Part, defaults: tuple[float, float | None, int, float]) -> dict[str, Any]:
    """Matching and sampling, of RPN or box head; the latter has no band between background and foreground."""
    matching, sampling = part.part("assigner"), part.part("sampler")
    foreground, background, count, positive = defaults
    found = {
        f"{field}.foreground_iou": float(matching.number("pos_iou_thr", foreground)),
        f"{field}.samples_per_image": sampling.whole("num", count),
        f"{field}.positive_fraction": float(sampling.number("pos_fraction", positive)),
    }
    if background is not None:
        found[f"{field}.background_iou"] = float(matching.number("neg_iou_thr", background))
    return found


def _nms_iou(part: Part, default: float) -> float:
    if part.get("nms") is None:
        return float(part.number("nms_thr", default))  # 2.0 to 2.4
    nms = part.part("nms")
    nms.choice("type", {"nms": None}, "NMS")
    return float(nms.number("iou_threshold", part.get("iou_thr", default)))


def _most(part: Part, default: int) -> int:
    """Boxes that are kept; the second name is that of the first 2.x."""
    return part.whole("max_per_img", part.get("max_num", default))


def _tested(model: Part) -> Part:
    return model.part("test_cfg")


def _trained(model: Part) -> Part:
    return model.part("train_cfg")


def _classes(file: Part) -> tuple[str, ...] | None:
    """Names that a config gives to its data set."""
    spots = [file.part("metainfo")]
    for name in ("test_dataloader", "train_dataloader"):
        if isinstance(file.values.get(name), Mapping):
            spots.append(file.part(name).part("dataset").part("metainfo"))
    if isinstance(file.values.get("data"), Mapping):
        spots.append(file.part("data").part("test"))
    for spot in [*spots, file]:
        found = spot.values.get("classes", spot.values.get("CLASSES"))
        if isinstance(found, str):
            return (found,)
        if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
    return None


def _names(known: Mapping[Any, str]) -> str:
    return ", ".join(known.values())
