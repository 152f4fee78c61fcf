"""Values of Detectron2's config where a file says nothing: its defaults, and the base files of its model zoo."""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, Any] = {
    "INPUT": {
        "FORMAT": "BGR", "MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333, "MIN_SIZE_TRAIN": (800,),
        "RANDOM_FLIP": "horizontal", "CROP": {"ENABLED": False},
    },
    "DATASETS": {"TRAIN": ()},
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN", "MASK_ON": False, "KEYPOINT_ON": False, "LOAD_PROPOSALS": False,
        "PIXEL_MEAN": (103.53, 116.28, 123.675), "PIXEL_STD": (1.0, 1.0, 1.0),
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "FPN": {"OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum", "IN_FEATURES": ()},
        "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},
        "ANCHOR_GENERATOR": {
            "NAME": "DefaultAnchorGenerator", "SIZES": ((32, 64, 128, 256, 512),), "ASPECT_RATIOS": ((0.5, 1.0, 2.0),),
            "OFFSET": 0.0,
        },
        "RPN": {
            "HEAD_NAME": "StandardRPNHead", "IN_FEATURES": ("res4",), "IOU_THRESHOLDS": (0.3, 0.7),
            "BATCH_SIZE_PER_IMAGE": 256, "POSITIVE_FRACTION": 0.5, "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "BBOX_REG_LOSS_WEIGHT": 1.0, "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0), "SMOOTH_L1_BETA": 0.0,
            "LOSS_WEIGHT": 1.0, "PRE_NMS_TOPK_TRAIN": 12000, "PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TRAIN": 2000,
            "POST_NMS_TOPK_TEST": 1000, "NMS_THRESH": 0.7, "CONV_DIMS": (-1,),
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeads", "NUM_CLASSES": 80, "IN_FEATURES": ("res4",), "IOU_THRESHOLDS": (0.5,),
            "BATCH_SIZE_PER_IMAGE": 512, "POSITIVE_FRACTION": 0.25, "SCORE_THRESH_TEST": 0.05, "NMS_THRESH_TEST": 0.5,
            "PROPOSAL_APPEND_GT": True,
        },
        "ROI_BOX_HEAD": {
            "BBOX_REG_LOSS_TYPE": "smooth_l1", "BBOX_REG_LOSS_WEIGHT": 1.0, "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
            "SMOOTH_L1_BETA": 0.0, "POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0, "POOLER_TYPE": "ROIAlignV2",
            "NUM_FC": 0, "FC_DIM": 1024, "NUM_CONV": 0, "CONV_DIM": 256, "NORM": "", "CLS_AGNOSTIC_BBOX_REG": False,
            "USE_SIGMOID_CE": False, "USE_FED_LOSS": False,
        },
        "ROI_BOX_CASCADE_HEAD": {
            "BBOX_REG_WEIGHTS": ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
            "IOUS": (0.5, 0.6, 0.7),
        },
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead", "POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2", "NUM_CONV": 0, "CONV_DIM": 256, "NORM": "", "CLS_AGNOSTIC_MASK": False,
        },
        "ROI_KEYPOINT_HEAD": {
            "NAME": "KRCNNConvDeconvUpsampleHead", "POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0,
            "POOLER_TYPE": "ROIAlignV2", "CONV_DIMS": (512,) * 8, "NUM_KEYPOINTS": 17, "LOSS_WEIGHT": 1.0,
        },
        "RESNETS": {
            "DEPTH": 50, "OUT_FEATURES": ("res4",), "NUM_GROUPS": 1, "NORM": "FrozenBN", "WIDTH_PER_GROUP": 64,
            "STRIDE_IN_1X1": True, "RES5_DILATION": 1, "RES2_OUT_CHANNELS": 256, "STEM_OUT_CHANNELS": 64,
            "DEFORM_ON_PER_STAGE": (False,) * 4,
        },
    },
    "SOLVER": {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR", "MAX_ITER": 40000, "BASE_LR": 0.001, "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 0.0001, "GAMMA": 0.1, "STEPS": (30000,), "WARMUP_FACTOR": 0.001, "WARMUP_ITERS": 1000,
        "IMS_PER_BATCH": 16, "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0},
    },
    "TEST": {"DETECTIONS_PER_IMAGE": 100, "AUG": {"ENABLED": False}},
}  # fmt: skip

_SCHEDULE: dict[str, Any] = {
    "DATASETS": {"TRAIN": ("coco_2017_train",)},
    "SOLVER": {"IMS_PER_BATCH": 16, "BASE_LR": 0.02, "STEPS": (60000, 80000), "MAX_ITER": 90000},
    "INPUT": {"MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800)},
}
_HEADS: dict[str, Any] = {
    "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
    "ROI_MASK_HEAD": {"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 4, "POOLER_RESOLUTION": 14},
}
_STAGES = ("res2", "res3", "res4", "res5")
_FPN: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
    "RESNETS": {"OUT_FEATURES": _STAGES},
    "FPN": {"IN_FEATURES": _STAGES},
    "ANCHOR_GENERATOR": {"SIZES": ((32,), (64,), (128,), (256,), (512,)), "ASPECT_RATIOS": ((0.5, 1.0, 2.0),)},
    "RPN": {
        "IN_FEATURES": ("p2", "p3", "p4", "p5", "p6"), "PRE_NMS_TOPK_TRAIN": 2000, "PRE_NMS_TOPK_TEST": 1000,
        "POST_NMS_TOPK_TRAIN": 1000, "POST_NMS_TOPK_TEST": 1000,
    },
    "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ("p2", "p3", "p4", "p5")},
    **_HEADS,
}  # fmt: skip
_ONE_MAP = {"PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TEST": 1000}

BASES: dict[str, dict[str, Any]] = {
    "Base-RCNN-FPN.yaml": {"MODEL": _FPN, **_SCHEDULE},
    "Base-RCNN-C4.yaml": {"MODEL": {"RPN": _ONE_MAP, "ROI_HEADS": {"NAME": "Res5ROIHeads"}}, **_SCHEDULE},
    "Base-RCNN-DilatedC5.yaml": {
        "MODEL": {
            "RESNETS": {"OUT_FEATURES": ("res5",), "RES5_DILATION": 2},
            "RPN": {"IN_FEATURES": ("res5",), **_ONE_MAP},
            "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ("res5",)},
            **_HEADS,
        },
        **_SCHEDULE,
    },
    "Base-Keypoint-RCNN-FPN.yaml": {
        "MODEL": {
            **_FPN,
            "KEYPOINT_ON": True,
            "ROI_HEADS": {**_FPN["ROI_HEADS"], "NUM_CLASSES": 1},
            "ROI_BOX_HEAD": {**_HEADS["ROI_BOX_HEAD"], "SMOOTH_L1_BETA": 0.5},
            "RPN": {**_FPN["RPN"], "POST_NMS_TOPK_TRAIN": 1500},
        },
        **_SCHEDULE,
        "DATASETS": {"TRAIN": ("keypoints_coco_2017_train",)},
    },
}
"""By file name, where `_BASE_` names a file that is not there."""
