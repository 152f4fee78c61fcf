"""Full configs by name. A preset is a function: no inheritance, no search path."""

from __future__ import annotations

import re

from maskrcnn.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    Config,
    DataConfig,
    FPNConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolerConfig,
    RPNConfig,
    TrainConfig,
)
from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.presets.detectron2 import ZOO
from maskrcnn.presets.torchvision import torchvision_mobilenet, torchvision_v1, torchvision_v2


def _resnet(name: str) -> Config:
    return Config(model=ModelConfig(backbone=BackboneConfig(name=name)))


def _small(name: str, frozen_stages: int = 2) -> Config:
    """For a few hundred images and a CPU or a small GPU: light trunk, narrow heads, 512 px, AdamW, EMA."""
    return Config(
        model=ModelConfig(
            backbone=BackboneConfig(name=name, frozen_stages=frozen_stages),
            fpn=FPNConfig(channels=96),
            rpn=RPNConfig(pre_nms_train=1000, pre_nms_test=500, post_nms_train=500, post_nms_test=300),
            box=BoxHeadConfig(fully_connected_channels=512, samples_per_image=128),
            mask=MaskHeadConfig(channels=96),
        ),
        data=DataConfig(
            min_size=384,
            max_size=512,
            scale_jitter=(0.7, 1.4),
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        ),
        train=TrainConfig(
            epochs=30,
            batch_size=4,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=100,
            clip_norm=1.0,
            ema_decay=0.998,
            evaluate_every=5,
        ),
    )


def _shapes() -> Config:
    """Matterport's train_shapes in minutes on two CPU cores, from random weights."""
    config = _small("resnet18", frozen_stages=0)
    return config.replace(
        **{
            "model.backbone.norm": "bn",
            "model.fpn.channels": 64,
            "model.fpn.norm": "bn",
            "model.rpn.anchors.sizes": ((16.0,), (32.0,), (64.0,), (96.0,), (128.0,)),
            "model.rpn.pre_nms_train": 400,
            "model.rpn.post_nms_train": 200,
            "model.rpn.post_nms_test": 100,
            "model.box.fully_connected_channels": 256,
            "model.box.samples_per_image": 64,
            "model.mask.channels": 64,
            "model.mask.norm": "bn",
            "data.min_size": 128,
            "data.max_size": 128,
            "data.scale_jitter": (1.0, 1.0),
            "data.vertical_flip": 0.5,
            "train.batch_size": 8,
            "train.epochs": 6.0,
        }
    )


def _hasty() -> Config:
    """The knobs of Hasty's page on Mask R-CNN: 4 convolutions and 2 fully connected layers in the box head."""
    return _resnet("resnet50").replace(
        **{
            "model.rpn.pre_nms_train": 4000,
            "model.rpn.pre_nms_test": 2000,
            "model.box.convolutions": 4,
        }
    )


def _tensorflow(
    trunk: str, *, crop: int, pool: int, mask: int, convolutions: int, stride: int = 8, detections: int = 300
) -> Config:
    """The conventions of the TensorFlow Object Detection API and the numbers of its sample configs for COCO."""
    inception = trunk.startswith("inception")
    return Config(
        model=ModelConfig(
            backbone=BackboneConfig(
                name=trunk,
                stride=stride,
                norm="frozen_statistics",
                norm_eps=1e-3 if inception else 1e-5,
                frozen_stages=0,
            ),
            fpn=None,
            rpn=RPNConfig(
                anchors=AnchorConfig(sizes=((64.0, 128.0, 256.0, 512.0),), ratios=(2.0, 1.0, 0.5), border="drop"),
                low_quality_rule="first",
                channels=512,
                dilation=2 if stride == 8 else 1,
                activation="relu6",
                score="softmax",
                box_weights=(10.0, 10.0, 5.0, 5.0),
                limit_log_scale=False,
                pre_nms_train=None,
                pre_nms_test=None,
                post_nms_train=300,
                post_nms_test=300,
                clip_after_nms=True,
                min_size=0.0,
                smooth_l1_beta=1.0,
                box_loss_weight=2.0,
            ),
            box=BoxHeadConfig(
                pooler=PoolerConfig(kind="crop_and_resize", resolution=crop, max_pool=(pool, pool)),
                fully_connected=0,
                samples_per_image=64,
                add_truth=False,
                limit_log_scale=False,
                smooth_l1_beta=1.0,
                score_threshold=0.0,
                nms_iou=0.6,
                clip_after_nms=True,
                detections_per_class=100,
                detections_per_image=detections,
                candidates_per_image=None,
                box_loss_weight=2.0,
            ),
            mask=MaskHeadConfig(
                resize=mask,
                convolutions=convolutions,
                upsamplings=0,
                predictor_kernel=3,
                paste="tensorflow",
                soft_targets=True,
                loss_weight=4.0,
            ),
            image_mean=(127.5,) * 3 if inception else (123.68, 116.779, 103.939),
            image_std=(127.5,) * 3 if inception else (1.0,) * 3,
        ),
        data=DataConfig(max_size=1365, interpolation="tensorflow", size_rounding="tensorflow", pad_multiple=1),
        train=TrainConfig(
            steps=200_000,
            batch_size=1,
            learning_rate=3e-4,
            learning_rate_batch=1,
            weight_decay=0.0,
            schedule="manual",
            rates=((0, 3e-4), (900_000, 3e-5), (1_200_000, 3e-6)),
            warmup_steps=0,
        ),
    )


def _tensorflow_inception_v2() -> Config:
    config = _tensorflow("inception_v2", stride=16, crop=14, pool=2, mask=15, convolutions=1)
    rates = ((0, 2e-4), (900_000, 2e-5), (1_200_000, 2e-6))
    return config.replace(**{"train.learning_rate": 2e-4, "train.rates": rates})


def _tensorflow_two() -> Config:
    """The Keras heir of the largest one: stride 16, squares, batches."""
    config = _tensorflow("inception_resnet_v2", stride=16, crop=17, pool=1, mask=33, convolutions=3, detections=100)
    return config.replace(
        **{
            "model.backbone.stage_two_padding": "same",
            "data.resize": "fixed",
            "data.min_size": 1024,
            "data.max_size": 1024,
            "train.batch_size": 16,
            "train.learning_rate": 0.008,
            "train.learning_rate_batch": 16,
            "train.schedule": "cosine",
            "train.rates": (),
            "train.decay_steps": 200_000,
            "train.warmup_steps": 5000,
            "train.warmup_factor": 0.0,
        }
    )


PRESETS = {
    "r18-fpn": lambda: _resnet("resnet18"),
    "r34-fpn": lambda: _resnet("resnet34"),
    "r50-fpn": lambda: _resnet("resnet50"),
    "r101-fpn": lambda: _resnet("resnet101"),
    "r152-fpn": lambda: _resnet("resnet152"),
    "x50-fpn": lambda: _resnet("resnext50_32x4d"),
    "x101-fpn": lambda: _resnet("resnext101_32x8d"),
    "small": lambda: _small("mobilenet_v2"),
    "small-efficientnet": lambda: _small("efficientnet_lite0").replace(
        **{"model.image_mean": (127.0,) * 3, "model.image_std": (128.0,) * 3}
    ),
    "shapes": _shapes,
    "hasty": _hasty,
    "torchvision-r50-fpn": torchvision_v1,
    "torchvision-r50-fpn-v2": torchvision_v2,
    "torchvision-mobilenet-v3-fpn": torchvision_mobilenet,
    "torchvision-mobilenet-v3-320-fpn": lambda: torchvision_mobilenet(small=True),
    "mask_rcnn_inception_v2_coco": _tensorflow_inception_v2,
    "mask_rcnn_resnet50_atrous_coco": lambda: _tensorflow("resnet_v1_50", crop=14, pool=2, mask=33, convolutions=3),
    "mask_rcnn_resnet101_atrous_coco": lambda: _tensorflow("resnet_v1_101", crop=14, pool=2, mask=33, convolutions=3),
    "mask_rcnn_inception_resnet_v2_atrous_coco": lambda: _tensorflow(
        "inception_resnet_v2", crop=17, pool=1, mask=33, convolutions=3, detections=100
    ),
    "mask_rcnn_inception_resnet_v2_1024x1024_coco17": _tensorflow_two,
}


def preset(name: str) -> Config:
    """A full config by name: one of `PRESETS`, or of Detectron2's zoo, with or without its folder and `.yaml`.

    A name that several folders have is that of COCO. Raises `ConfigError` listing the names.
    """
    if name in PRESETS:
        return PRESETS[name]()
    asked = name.removesuffix(".yaml").removesuffix(".py")
    found = [full for full in ZOO if asked in (full, full.rpartition("/")[2])]
    if not found:
        raise ConfigError(
            f"unknown preset {name!r}{nearest(name, [*PRESETS, *ZOO])}; presets: {', '.join(PRESETS)}, and those "
            "of Detectron2's model zoo, such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
        )
    return ZOO[found[0]]()


def keypoint_twin(name: str) -> str | None:
    """The preset of Detectron2's zoo with a keypoint head in place of the mask head, or None."""
    wanted = re.sub(r"(mask|faster)_rcnn", "keypoint_rcnn", name.removesuffix(".yaml").rpartition("/")[2])
    found = [full for full in ZOO if full.rpartition("/")[2] == wanted]
    return found[0] if found and wanted.startswith("keypoint_rcnn") else None
