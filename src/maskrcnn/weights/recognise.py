"""Whose weights these are, by the names of the tensors; what is no Mask R-CNN is called by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from maskrcnn.errors import WeightsError

Framework = Literal["detectron2", "caffe2", "mmdetection", "torchvision"]
# Under which name a checkpoint keeps its table of tensors, best first.
TABLES = ("model", "state_dict", "model_state_dict", "model_state", "blobs", "weights", "net", "ema")
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "detector.")
READ = "Mask R-CNN, Faster R-CNN, Cascade and Keypoint R-CNN of Detectron2, MMDetection and torchvision are read"

# Names that only this framework's two-stage detectors have.
FRAMEWORKS: tuple[tuple[str, Framework], ...] = (
    (r"proposal_generator\.rpn_head\..*", "detectron2"),
    (r"rpn_head\.rpn_(cls|reg|conv)\..*|roi_head\.bbox_head\..*", "mmdetection"),
    (r"rpn\.head\.(cls_logits|bbox_pred|conv)\..*", "torchvision"),
    (r"conv_rpn_fpn2_w|rpn_cls_logits_w|conv_rpn_w", "caffe2"),
)
# Another family, by one name that it alone has; the first that fits.
OTHERS = (
    (r"rpn\.anchor_generator\.cell_anchors\.\d+|roi_heads\.box\.feature_extractor\..*", "a maskrcnn-benchmark"),
    (r"classifier\.linear_class\..*|fpn\.C1\.0\.weight", "a PyTorch port of Matterport's"),
    (r"sem_seg_head\.predictor\.(weight|bias)|sem_seg_head\.p2\..*", "a semantic segmentation"),
    (
        r"sem_seg_head\.predictor\.(query_feat|level_embed|transformer_cross_attention_layers).*"
        r"|panoptic_head\.(query_feat|level_embed|transformer_decoder\.layers\.0\.cross_attn).*"
        r"|(model\.)?transformer_module\.(queries_features|level_embed).*",
        "a Mask2Former",
    ),
    (
        r"sem_seg_head\.(predictor|pixel_decoder)\..*|panoptic_head\..*|(model\.)?pixel_level_module\..*",
        "a MaskFormer",
    ),
    (r"bbox_head\.rtm_(cls|reg|obj|kernel).*|mask_head\.rtm_.*", "an RTMDet"),
    (
        r"(model\.)?decoder\.(enc|dec)_(score|bbox)_head\..*|encoder\.pan_blocks\..*"
        r"|(model\.)?encoder\.(lateral|downsample)_convs\.\d\.conv.*|(.*\.)?denoising_class_embed\..*"
        r"|(model\.)?(en|de)coder_input_proj\..*|(model\.)?enc_(score|bbox)_head\..*|backbone\.res_layers\..*"
        r"|(model\.)?encoder\.(encoder\.\d\.layers|fpn_blocks|pan_blocks)\..*"
        r"|(model\.)*28\.(enc|dec)_(score|bbox)_head\..*",
        "an RT-DETR",
    ),
    (
        r"head\.classification_head\.module_list\..*|bbox_head\.cls_convs\.0\.0\.0?\.?weight|backbone\.extra\..*"
        r"|neck\.(l2_norm|extra_layers)\..*|vgg\.\d+\.weight|loc\.\d+\.weight",
        "an SSD",
    ),
    (
        r"bbox_head\.(controller|mask_feature_head)\..*|mask_head\.controller\..*|controller\.(weight|bias)"
        r"|proposal_generator\.controller\..*|mask_branch\..*",
        "a CondInst",
    ),
    (
        r"mask_head\.(solo|conv_cls|conv_kernel|conv_mask_list|mask_feature_head|kernel_convs).*"
        r"|ins_head\.(cate|kernel)_pred\..*",
        "a SOLO",
    ),
    (r".*(centernet|heatmap_head).*|(.*\.)?hm\.\d\..*|hm\.(weight|bias)", "a CenterNet"),
    (r"(.*head\.)?.*(bbox_ctrness|ctrness|conv_centerness)\..*|proposal_generator\.fcos_head\..*", "an FCOS"),
    (r"head\.classification_head\.cls_logits\..*|head\.cls_subnet\..*|.*retina_(cls|reg)\..*", "a RetinaNet"),
    (r"classificationModel\..*|regressionModel\..*", "a RetinaNet"),
    (r".*(efficientdet|bifpn|class_net\.|box_net\.).*", "an EfficientDet"),
    (
        r"(.*\.)?(query_embed|query_embedding|class_embed\.|transformer\.(encoder|decoder)\.|query_position_embeddings).*"
        r"|class_labels_classifier\..*|bbox_head\.cls_branches\..*",
        "a DETR",
    ),
    (r"image_encoder\..*|mask_decoder\..*|sam_mask_decoder\..*", "a Segment Anything"),
    (r"bbox_head\.convs_(bridge|pred)\..*|backbone\.conv_res_block\d\..*|last_layer\d\.\d.*", "a YOLOv3"),
    (r"(model\.)*\d+\.(conv|cv\d|m)\..*|backbone\.backbone\.dark\d.*|.*head_module\..*", "a YOLO"),
    (r"bbox_head\.multi_level_(cls|conv_cls|reg|obj).*", "a YOLO"),
    (r"module_list\.\d+\.(Conv2d|conv_\d+).*|models\.\d+\.conv\d*\..*|.*yolo.*", "a YOLO"),
    (r"bbox_head\.(loc_convs|conv_loc|cls_logits|gfl_cls|atss_cls|vfnet|conv_cls).*", "a one-stage detector's"),
    (r"proto_net\..*|prediction_layers\..*", "a YOLACT"),
    (r"decode_head\..*|auxlayer\..*|aux_classifier\..*|classifier\.\d+\.(\d+\.)?weight", "a semantic segmentation"),
)
TRUNK = re.compile(
    r"(fc|head|classifier|heads?\.fc)(\.\d+)?\.weight|conv1\.weight|stem\.conv1\.weight|conv1_w|features\.0\.0\.weight"
    r"|patch_embed\.proj\.weight|_?conv_stem\.weight"
)


def state_of(data: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, whatever lies beside them, without the prefix of a wrapper.

    Args:
        data: of `read_pth` or `read_numpy_pickle`.

    Raises:
        WeightsError: no table of tensors in it.
    """
    state: Any = data
    for _ in range(2):  # Lightning, or a table in a table
        inner = next((state[name] for name in TABLES if _is_table(state.get(name))), None)
        if inner is None:
            break
        state = inner
    found = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not found:
        raise WeightsError("holds no table of tensors; save model.state_dict()")
    if strange := [name for name in found if not isinstance(name, str)]:
        raise WeightsError(f"a tensor is called {repr(strange[0])[:60]}, not by a text; save model.state_dict()")
    return _unwrapped(found)


def framework_of(state: Iterable[str]) -> Framework:
    """Which framework's two-stage detector has tensors of these names.

    Args:
        state: names, or a table by name; of `state_of`.

    Raises:
        WeightsError: another family of networks, which is named, or an unknown one.
    """
    names = list(state)
    for pattern, framework in FRAMEWORKS:
        if any(re.fullmatch(pattern, name) for name in names):
            return framework
    for pattern, kind in OTHERS:
        if found := next((name for name in names if re.fullmatch(pattern, name)), None):
            raise WeightsError(f"this is {kind} checkpoint (tensor {found!r}); {READ}", unexpected=names)
    if found := next((name for name in names if TRUNK.fullmatch(name)), None):
        raise WeightsError(
            f"this is a trunk without detector (tensor {found!r}): `maskrcnn train --weights` can start from it; "
            f"{READ}",
            unexpected=names,
        )
    raise WeightsError(f"is no network that we know (tensor {names[0]!r}); {READ}", unexpected=names)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, Tensor | Mapping) for v in value.values())


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DistributedDataParallel, torch.compile and Lightning put before every name."""
    for _ in WRAPPERS:
        prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in state)), None)
        # A YOLO's layers are called model.0, model.1, ...: there it is part of the name.
        if prefix is None or any(name.removeprefix(prefix)[:1].isdigit() for name in state):
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
