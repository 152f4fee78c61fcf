"""Detectron2's model zoo: its networks in our fields, by the zoo's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from maskrcnn.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    Config,
    DataConfig,
    FPNConfig,
    KeypointHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolerConfig,
    RPNConfig,
    TrainConfig,
)

Arrangement = Literal["fpn", "c4", "dc5"]
Norm = Literal["frozen_bn", "bn", "gn"]

SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
# What Cascade R-CNN adds to the first head: foreground IoU and box weights of its second and third.
CASCADE = ((0.6, (20.0, 20.0, 10.0, 10.0)), (0.7, (30.0, 30.0, 15.0, 15.0)))
# Its mean in our channel order, and the two deviations: MSRA's weights take grey levels, FAIR's ResNeXt ImageNet's.
MEAN, UNIT_STD, IMAGENET_STD = (123.675, 116.28, 103.53), (1.0,) * 3, (58.395, 57.12, 57.375)


def detectron2(
    trunk: str = "resnet50",
    *,
    arrangement: Arrangement = "fpn",
    norm: Norm = "frozen_bn",
    stride_in_1x1: bool = True,
    masks: bool = True,
    keypoints: bool = False,
    cascade: bool = False,
    steps: int = 90_000,
) -> Config:
    """A network of Detectron2 with its conventions.

    Args:
        trunk: `BackboneConfig.name`.
        arrangement: a pyramid; the last stage on each crop; or the dilated last stage on the image.
        norm: frozen in the trunk and none elsewhere, or one everywhere, with 4conv1fc box heads.
        stride_in_1x1: as MSRA's ResNets; not so FAIR's ResNeXts and group norm.
        masks, keypoints: which heads there are.
        cascade: three box heads with one box for all classes.
        steps: 90,000 for 1x.
    """
    fpn = arrangement == "fpn"
    head_norm = "none" if norm == "frozen_bn" else norm
    pooler, large = PoolerConfig(sampling_ratio=0), PoolerConfig(resolution=14, sampling_ratio=0)
    return Config(
        model=ModelConfig(
            backbone=BackboneConfig(
                name=trunk,
                norm=norm,
                stride_in_1x1=stride_in_1x1,
                stride=None if fpn else 16,
                output="c5" if arrangement == "dc5" else "c4",
            ),
            fpn=FPNConfig(norm=head_norm) if fpn else None,
            rpn=RPNConfig(
                anchors=AnchorConfig(sizes=tuple((size,) for size in SIZES) if fpn else (SIZES,)),
                pre_nms_train=2000 if fpn else 12_000,
                pre_nms_test=1000 if fpn else 6000,
                post_nms_train=(2000 if cascade or not fpn else 1500 if keypoints else 1000),
                min_size=0.0,
                smooth_l1_beta=0.0,
            ),
            box=BoxHeadConfig(
                pooler=large if arrangement == "c4" else pooler,
                convolutions=0 if head_norm == "none" else 4,
                fully_connected=0 if arrangement == "c4" else 2 if head_norm == "none" else 1,
                norm=head_norm,
                class_agnostic=cascade,
                cascade=CASCADE if cascade else (),
                smooth_l1_beta=0.5 if keypoints else 0.0,
                detections_per_image=100,
            ),
            mask=MaskHeadConfig(pooler=large, convolutions=0 if arrangement == "c4" else 4, norm=head_norm)
            if masks
            else None,
            keypoint=KeypointHeadConfig(pooler=large) if keypoints else None,
            image_mean=MEAN,
            image_std=UNIT_STD,
        ),
        data=DataConfig(scale_jitter=(0.8, 1.0), interpolation="pillow", pad_multiple=32 if fpn else 1),
        train=TrainConfig(
            steps=steps,
            batch_size=16,
            # 1x: 60,000 and 80,000 of 90,000 steps; longer ones fall for the last 60,000 and 20,000.
            milestones=(1 - 60_000 / steps, 1 - 20_000 / steps) if steps > 90_000 else (2 / 3, 8 / 9),
            clip_norm=0.0,
        ),
    )


def large_scale_jitter(trunk: str, epochs: int) -> Config:
    """The "new baselines": from scratch, synchronised batch norm everywhere, sizes from 0.1 to 2."""
    steps = 184_375 * epochs // 100
    return detectron2(trunk, norm="bn", steps=steps).replace(
        **{
            "model.backbone.frozen_stages": 0,
            "model.rpn.convolutions": 2,
            "data.scale_jitter": (0.1, 2.0),
            "train.batch_size": 64,
            "train.learning_rate": 0.1,
            "train.learning_rate_batch": 64,
            "train.weight_decay": 4e-5,
            "train.milestones": (163_889 / 184_375, 177_546 / 184_375),
            "train.warmup_steps": 500,
            "train.warmup_factor": 0.067,
        }
    )


def _changed(config: Config, **fields: Any) -> Config:
    """`model__rpn__convolutions=2` changes `model.rpn.convolutions`."""
    return config.replace(**{name.replace("__", "."): value for name, value in fields.items()})


def _resnext(**options: Any) -> Config:
    config = detectron2("resnext101_32x8d", stride_in_1x1=False, **options)
    return _changed(config, model__image_std=IMAGENET_STD)


def _trunk(name: str, **options: Any) -> Config:
    if name == "X_101_32x8d":
        return _resnext(**options)
    return detectron2({"R_50": "resnet50", "R_101": "resnet101"}[name], **options)


def _lvis(trunk: str, steps: int) -> Config:
    # Its rare classes: low scores count, and up to 300 objects an image.
    return _changed(_trunk(trunk, steps=steps), model__box__score_threshold=1e-4, model__box__detections_per_image=300)


def _scratch(norm: Norm, steps: int) -> Config:
    config = detectron2(norm=norm, stride_in_1x1=False, steps=steps)
    fields: dict[str, Any] = {"model__backbone__frozen_stages": 0}
    if steps == 202_500:  # the 9x ones alone divide by a deviation
        fields |= {"model__image_std": IMAGENET_STD}
        fields |= {"train__batch_size": 64, "train__learning_rate": 0.08, "train__learning_rate_batch": 64}
        fields["train__milestones"] = (187_500 / steps, 197_500 / steps)
    return _changed(config, **fields)


def _cityscapes() -> Config:
    return _changed(
        detectron2(steps=24_000),
        data__min_size=1024,
        data__max_size=2048,
        data__scale_jitter=(800 / 1024, 1.0),
        train__batch_size=8,
        train__learning_rate=0.01,
        train__learning_rate_batch=8,
        train__milestones=(0.75,),
    )


def _pascal(arrangement: Arrangement) -> Config:
    config = detectron2(arrangement=arrangement, masks=False, steps=18_000)
    return _changed(config, data__scale_jitter=(0.6, 1.0), train__milestones=(2 / 3, 8 / 9), train__warmup_steps=100)


def _detectron1(**options: Any) -> Config:
    """Comparisons with Detectron: RoIAlign with half a pixel's offset and two samples, its smooth L1."""
    config = detectron2(**options)
    fields: dict[str, Any] = {"model__rpn__smooth_l1_beta": 0.1111, "model__box__smooth_l1_beta": 1.0}
    for head in ("box", "mask", "keypoint"):
        if getattr(config.model, head) is not None:
            fields |= {f"model__{head}__pooler__aligned": False, f"model__{head}__pooler__sampling_ratio": 2}
    if config.model.keypoint is None:  # the base file of keypoints has sizes of its own
        fields["data__scale_jitter"] = (1.0, 1.0)
    return _changed(config, **fields)


def _zoo() -> dict[str, Callable[[], Config]]:
    zoo: dict[str, Callable[[], Config]] = {}
    one, three = ("1x", 90_000), ("3x", 270_000)
    for folder, kind, masks in (
        ("COCO-InstanceSegmentation", "mask", True),
        ("COCO-Detection", "faster", False),
    ):
        for trunk, arrangement, schedules in (
            *(("R_50", arrangement, (one, three)) for arrangement in ("C4", "DC5", "FPN")),
            *(("R_101", arrangement, (three,)) for arrangement in ("C4", "DC5", "FPN")),
            ("X_101_32x8d", "FPN", (three,)),
        ):
            for schedule, steps in schedules:
                zoo[f"{folder}/{kind}_rcnn_{trunk}_{arrangement}_{schedule}"] = _later(
                    _trunk, trunk, arrangement=arrangement.lower(), masks=masks, steps=steps
                )
    for trunk, schedule, steps in (("R_50", *one), ("R_50", *three), ("R_101", *three), ("X_101_32x8d", *three)):
        zoo[f"COCO-Keypoints/keypoint_rcnn_{trunk}_FPN_{schedule}"] = _later(
            _trunk, trunk, masks=False, keypoints=True, steps=steps
        )
    # Their instances are those of Mask R-CNN; the head for stuff is not here.
    for trunk, schedule, steps in (("R_50", *one), ("R_50", *three), ("R_101", *three)):
        zoo[f"COCO-PanopticSegmentation/panoptic_fpn_{trunk}_{schedule}"] = _later(_trunk, trunk, steps=steps)
    for trunk in ("R_50", "R_101", "X_101_32x8d"):
        for version, steps in (("v0.5", 90_000), ("v1", 180_000)):
            zoo[f"LVIS{version}-InstanceSegmentation/mask_rcnn_{trunk}_FPN_1x"] = _later(_lvis, trunk, steps)
    for trunk, name in (("R_50", "resnet50"), ("R_101", "resnet101")):
        for epochs in (100, 200, 400):
            zoo[f"new_baselines/mask_rcnn_{trunk}_FPN_{epochs}ep_LSJ"] = _later(large_scale_jitter, name, epochs)
    return zoo | {
        "new_baselines/mask_rcnn_R_50_FPN_50ep_LSJ": _later(large_scale_jitter, "resnet50", 50),
        "Misc/cascade_mask_rcnn_R_50_FPN_1x": _later(detectron2, cascade=True),
        "Misc/cascade_mask_rcnn_R_50_FPN_3x": _later(detectron2, cascade=True, steps=270_000),
        "Misc/mask_rcnn_R_50_FPN_3x_syncbn": _later(detectron2, norm="bn", steps=270_000),
        "Misc/mask_rcnn_R_50_FPN_3x_gn": _later(detectron2, norm="gn", stride_in_1x1=False, steps=270_000),
        "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn": _later(_scratch, "gn", 270_000),
        "Misc/scratch_mask_rcnn_R_50_FPN_9x_gn": _later(_scratch, "gn", 202_500),
        "Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn": _later(_scratch, "bn", 202_500),
        "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic": lambda: _changed(
            detectron2(), model__box__class_agnostic=True, model__mask__class_agnostic=True
        ),
        "Cityscapes/mask_rcnn_R_50_FPN": _cityscapes,
        "PascalVOC-Detection/faster_rcnn_R_50_C4": _later(_pascal, "c4"),
        "PascalVOC-Detection/faster_rcnn_R_50_FPN": _later(_pascal, "fpn"),
        "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x": _detectron1,
        "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x": _later(_detectron1, masks=False),
        "Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x": _later(_detectron1, masks=False, keypoints=True),
    }


def _later(function: Callable[..., Config], *arguments: Any, **options: Any) -> Callable[[], Config]:
    return lambda: function(*arguments, **options)


ZOO = _zoo()
"""Detectron2's names, without .yaml or .py, -> configs."""
