"""Detectron2's model zoo: its files by the mark in their names (model_final_f10217.pkl), a config for shapes."""

from __future__ import annotations

import re
from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.presets.detectron2 import IMAGENET_STD, detectron2
from maskrcnn.weights.facts import Facts

FILES = {
    "721ade": "COCO-Detection/faster_rcnn_R_50_C4_1x",
    "51d356": "COCO-Detection/faster_rcnn_R_50_DC5_1x",
    "b275ba": "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    "f97cb7": "COCO-Detection/faster_rcnn_R_50_C4_3x",
    "68d202": "COCO-Detection/faster_rcnn_R_50_DC5_3x",
    "280758": "COCO-Detection/faster_rcnn_R_50_FPN_3x",
    "298dad": "COCO-Detection/faster_rcnn_R_101_C4_3x",
    "3e0943": "COCO-Detection/faster_rcnn_R_101_DC5_3x",
    "f6e8b1": "COCO-Detection/faster_rcnn_R_101_FPN_3x",
    "68b088": "COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x",
    "9243eb": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
    "4f86c3": "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x",
    "a54504": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "4ce675": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x",
    "84107b": "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x",
    "f10217": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x",
    "a2914c": "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x",
    "0464b7": "COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x",
    "a3ec72": "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x",
    "2d9806": "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
    "bb69de": "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ",
    "89a8d3": "new_baselines/mask_rcnn_R_50_FPN_200ep_LSJ",
    "14d201": "new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ",
    "4f7b58": "new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ",
    "0bb7ae": "new_baselines/mask_rcnn_R_101_FPN_200ep_LSJ",
    "f96b26": "new_baselines/mask_rcnn_R_101_FPN_400ep_LSJ",
    "04e291": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
    "a6e10b": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x",
    "997cc7": "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x",
    "5ad38f": "COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x",
    "571f7c": "LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "824ab5": "LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x",
    "5e3439": "LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x",
    "dbfeb4": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
    "c10459": "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x",
    "cafdb1": "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x",
    "af9cf5": "Cityscapes/mask_rcnn_R_50_FPN",
    "b1acc2": "PascalVOC-Detection/faster_rcnn_R_50_C4",
    "e9d89b": "Misc/cascade_mask_rcnn_R_50_FPN_1x",
    "480dd8": "Misc/cascade_mask_rcnn_R_50_FPN_3x",
    "3b3c51": "Misc/mask_rcnn_R_50_FPN_3x_syncbn",
    "dc5d9e": "Misc/mask_rcnn_R_50_FPN_3x_gn",
    "01ca85": "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn",
    "da7b4c": "Misc/scratch_mask_rcnn_R_50_FPN_9x_gn",
    "5ce33e": "Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn",
    "7ab50c": "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x",
    "62ca52": "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x",
    "cce136": "Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x",
}


def published_name(path: str | Path) -> str | None:
    """The zoo's name of a file, or None."""
    found = re.fullmatch(r"model_final_([0-9a-f]{6})\.(pkl|pth)", Path(path).name)
    return FILES.get(found[1]) if found else None


def usual(facts: Facts) -> Config:
    """The zoo's config of these shapes; what shapes do not tell is as in most of the zoo."""
    trunk, norm = facts.fields["model.backbone.name"], facts.fields["model.backbone.norm"]
    config = detectron2(
        trunk,
        arrangement=facts.arrangement,
        norm=norm,
        stride_in_1x1=norm != "gn" and trunk in ("resnet50", "resnet101", "resnet152"),
        masks=facts.fields.get("model.mask", True) is not None,
        keypoints=bool(facts.keypoints),
        cascade=bool(facts.fields["model.box.cascade"]),
    )
    extra = {"model.image_std": IMAGENET_STD} if trunk.startswith("resnext") else {}
    return config.replace(**facts.fields, **extra)
