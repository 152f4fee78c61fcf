"""The knobs of the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class BackboneConfig:
    """The trunk."""

    name: str = "resnet50"
    """resnet18/34/50/101/152, resnext50_32x4d, resnext101_32x4d/32x8d/64x4d, wide_resnet50_2/101_2, swin_t/s/b,
    convnext_tiny/small/base, mobilenet_v2, mobilenet_v3_large/small, efficientnet_b0 to b4, efficientnet_lite0;
    without a pyramid also TensorFlow's resnet_v1_50/101/152, inception_v2, inception_resnet_v2."""
    stride: int | None = None
    """Pixels per cell of the one map that a network without a pyramid sees: 16, 8 with dilated convolutions
    ("atrous"), or 32 of the last (`output` c5); null with a pyramid."""
    output: Literal["c4", "c5"] = "c4"
    """Of a ResNet without a pyramid. c4: the last stage runs on the crop of each RoI (Faster R-CNN on ResNet, He 2016);
    c5: on the whole image, and the heads read its map: at stride 16 dilated (Detectron2's DC5), at 32 as it is. A
    MobileNet or EfficientNet has c5 alone."""
    maps: tuple[int, ...] | None = None
    """Which maps go on, ascending, with a pyramid: layers 1 to 4 of a ResNet (torchvision's returned_layers), or blocks
    of the `features` of a MobileNet or EfficientNet (without a pyramid one of them); null: the last of each stride 4,
    8, 16, 32, or without a pyramid the last of all."""
    projection: int | None = None
    """Channels of a 1x1 convolution that the one map of a network without a pyramid goes through first (torchvision's
    mobilenet_backbone: 256); null: none. Of a MobileNet or EfficientNet."""
    stride_in_1x1: bool = False
    """ResNet: the first 1x1 convolution of a block halves the map, not the 3x3 (Caffe's ResNets: Detectron2's MSRA
    weights, MMDetection's caffe style, Matterport)."""
    stem_pool: Literal["symmetric", "same"] = "symmetric"
    """ResNet: padding of the stem's max pooling; same: on the right and below alone (Keras: Matterport)."""
    width: float = 1.0
    """Factor on the channels of inception_v2 (slim's depth_multiplier)."""
    min_width: int = 16
    """No layer of inception_v2 gets fewer channels (slim's min_depth)."""
    stage_two_padding: Literal["valid", "same"] = "valid"
    """Padding where the last stage of inception_resnet_v2 halves its map: slim valid (17 to 8 cells), Keras same (to
    9)."""
    norm: Literal["frozen_bn", "frozen_statistics", "bn", "gn"] = "frozen_bn"
    """Of ResNets; Swin and ConvNeXt have layer norms. frozen_bn: statistics and scale fixed, as all peers fine-tune
    (batches of 1-2 images make poor statistics); frozen_statistics: scale and shift train (TensorFlow Object Detection
    API); bn: trainable, for training from scratch or large batches; gn: 32 groups (Wu 2018)."""
    norm_eps: float = 1e-5
    """Added to the variance; torchvision runs its released COCO_V1 files with 0."""
    frozen_stages: int = 2
    """Stages that do not train, counted from the stem (stem = 1, res2 = 2). Detectron2 and torchvision: 2;
    0 when training from scratch."""


@dataclass(frozen=True)
class FPNConfig:
    """Feature pyramid: P2-P5 from the trunk, P6 by subsampling P5 (FPN paper, section 4)."""

    channels: int = 256
    """Width of all levels; FPN paper: 256."""
    norm: Literal["none", "bn", "gn"] = "none"
    """bn helps from scratch; gn: 32 groups."""


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors, centred on the cells of each level."""

    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    """Side of a square anchor in pixels, one tuple a level P2..P6 (FPN paper: one size a level, 32..512), or one for
    each of `backbone.maps` and one more, or a single tuple without a pyramid."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height / width (Faster R-CNN paper: 1:2, 1:1, 2:1)."""
    rounded: bool = False
    """Round corners to whole pixels, as torchvision does."""
    stride: Literal["exact", "grid"] = "exact"
    """exact: 4, 8, 16, 32, 64, or the trunk's. grid: padded side // feature side per axis, as torchvision does (P6
    differs)."""
    border: Literal["keep", "clip", "drop"] = "keep"
    """Anchors that leave the image: keep; clip: cut to it; drop: cut for prediction, left out in training (TensorFlow
    Object Detection API)."""


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network."""

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    """Anchor shapes."""
    convolutions: int = 1
    """Convolutions before the two predictors; paper: 1 (torchvision v2: 2)."""
    channels: int | None = None
    """Their width; null: as many as the features have."""
    kernel: int = 3
    """Their cells per side (paper: 3)."""
    dilation: int = 1
    """Distance between the cells that they look at; TensorFlow's atrous models: 2."""
    activation: Literal["relu", "relu6"] = "relu"
    """After each of them; relu6: cut at 6 (TensorFlow Object Detection API)."""
    score: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid: one logit an anchor; softmax: two, background first, whose difference is the logit (TensorFlow Object
    Detection API)."""
    box_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Scale of dx, dy, dw, dh (peers: 1; TensorFlow Object Detection API: 10, 10, 5, 5)."""
    limit_log_scale: bool = True
    """Bound dw and dh so that a box grows to at most 62 times its anchor (Detectron); false: unbounded."""
    limit_shrinking: bool = False
    """And shrinks to at least a 62nd of it (MMDetection)."""
    foreground_iou: float = 0.7
    """An anchor overlapping an object by at least this is positive (Faster R-CNN paper: 0.7)."""
    background_iou: float = 0.3
    """An anchor below this with every object is negative; between the two it is ignored (paper: 0.3)."""
    low_quality_matches: bool = True
    """Each object also gets the anchors that overlap it most (paper, section 3.1.2, rule i)."""
    low_quality_rule: Literal["ties", "first"] = "ties"
    """ties: all of those (Detectron2, torchvision); first: one of them, which learns this object even where it overlaps
    another more (TensorFlow Object Detection API)."""
    samples_per_image: int = 256
    """Anchors in the loss (paper: 256)."""
    positive_fraction: float = 0.5
    """At most this part of the samples is positive (paper: 1:1)."""
    pool: Literal["levels", "image"] = "levels"
    """Which proposals compete in `pre_nms_*` and NMS: those of one level, or those of all levels (Matterport)."""
    pre_nms_train: int | None = 2000
    """Proposals kept per level before NMS in training (Detectron2, torchvision: 2000); null: all."""
    pre_nms_test: int | None = 1000
    """The same for prediction (Detectron2, torchvision: 1000); null: all."""
    post_nms_train: int = 1000
    """Proposals kept after NMS in training (Detectron2: 1000; torchvision: 2000)."""
    post_nms_test: int = 1000
    """The same for prediction (paper: 1000)."""
    post_nms_across_batch: bool = False
    """Choose the best proposals over the whole batch, as Detectron did, not image by image."""
    nms_iou: float = 0.7
    """Of two proposals that overlap by more, the weaker goes (paper: 0.7)."""
    clip_after_nms: bool = False
    """Cut proposals to the image after NMS, then drop the empty ones, instead of before (TensorFlow Object Detection
    API)."""
    min_size: float = 1e-3
    """Proposals with a side below this many pixels are dropped (torchvision: 0.001)."""
    score_threshold: float = 0.0
    """Proposals of a lower probability are dropped before NMS (torchvision's MobileNets: 0.05)."""
    smooth_l1_beta: float = 1.0 / 9.0
    """Where the box loss turns from square to linear (torchvision: 1/9; Detectron2: 0, pure L1)."""
    score_loss_weight: float = 1.0
    """Weight of the objectness loss."""
    box_loss_weight: float = 1.0
    """Weight of the proposal box loss."""


@dataclass(frozen=True)
class PoolerConfig:
    """How features are read out of a box (Mask R-CNN paper, section 3)."""

    kind: Literal["roi_align", "crop_and_resize"] = "roi_align"
    """roi_align: the paper's; crop_and_resize: one bilinear sample a cell, the outer cells on the border of the box
    (TensorFlow, Matterport)."""
    levels: Literal["floor", "round"] = "floor"
    """Level of the pyramid that a box is read from: 4 + log2(side / 224) cut to a whole number (FPN paper), or rounded
    (Matterport)."""
    resolution: int = 7
    """Cells per side."""
    max_pool: tuple[int, int] = (1, 1)
    """Kernel and stride of a max pooling of these cells (TensorFlow Object Detection API: 2, 2); 1, 1: none. Without a
    pyramid only."""
    sampling_ratio: int = 2
    """Samples per cell and axis (paper: 2x2); 0 adapts to the box as Detectron2 does, and is slower."""
    aligned: bool = True
    """Half-pixel-exact coordinates (Detectron2, MMDetection); torchvision: False."""


@dataclass(frozen=True)
class BoxHeadConfig:
    """Classification and box regression of each proposal."""

    pooler: PoolerConfig = field(default_factory=PoolerConfig)
    """7x7 (paper). Without a pyramid it feeds the trunk's last stage, for the masks too."""
    convolutions: int = 0
    """3x3 convolutions before the fully connected layers (paper: 0; Detectron2's 4conv1fc: 4)."""
    convolution_channels: int = 256
    """Their width."""
    fully_connected: int = 2
    """Fully connected layers (FPN paper: 2; 4conv1fc: 1); 0 without a pyramid, whose last stage takes their place."""
    fully_connected_channels: int = 1024
    """Their width (paper: 1024)."""
    norm: Literal["none", "bn", "gn"] = "none"
    """Normalisation of the convolutions; gn: 32 groups."""
    cascade: tuple[tuple[float, tuple[float, float, float, float]], ...] = ()
    """Further box heads, each on the boxes of the one before (Cascade R-CNN, Cai 2018): foreground IoU and box weights
    of each. Scores are averaged over all heads."""
    cascade_average: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged: probabilities (Detectron2) or, before the softmax, logits (MMDetection)."""
    dropout: float = 0.0
    """Part of the inputs of the two predictors that is set to 0 in training."""
    class_agnostic: bool = False
    """One box for all classes instead of one for each."""
    samples_per_image: int = 512
    """Proposals in the loss (FPN paper: 512)."""
    positive_fraction: float = 0.25
    """At most this part of them is foreground (Fast R-CNN paper: 0.25)."""
    foreground_iou: float = 0.5
    """A proposal overlapping an object by at least this is foreground, any other background (paper: 0.5)."""
    add_truth: bool = True
    """Train on the true boxes as proposals too (all peers do)."""
    classes_per_box: Literal["all", "best"] = "all"
    """Detections of a proposal: of every class above the threshold, or of the best alone, which may be background
    (Matterport)."""
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    """Scale of dx, dy, dw, dh (all peers: 10, 10, 5, 5)."""
    limit_log_scale: bool = True
    """As in the RPN."""
    limit_shrinking: bool = False
    """As in the RPN."""
    smooth_l1_beta: float = 1.0 / 9.0
    """As in the RPN."""
    score_threshold: float = 0.05
    """Weaker detections are dropped (all peers: 0.05; COCO's AP counts them)."""
    nms_iou: float = 0.5
    """Of two detections of one class that overlap by more, the weaker goes (all peers: 0.5)."""
    clip_after_nms: bool = False
    """As in the RPN."""
    detections_per_class: int | None = None
    """Most detections of one class an image, before the best of all are taken (TensorFlow Object Detection API: 100);
    null: no bound of its own."""
    detections_per_image: int | None = None
    """Most detections an image; None: 100, or more when the training data has more objects in one image."""
    candidates_per_image: int | None = 2000
    """Detections that enter NMS, best first: keeps the shape fixed. Above the threshold there are rarely so many. null:
    each class of each proposal."""
    class_loss_weight: float = 1.0
    """Weight of the classification loss."""
    box_loss_weight: float = 1.0
    """Weight of the box loss."""


@dataclass(frozen=True)
class MaskHeadConfig:
    """The mask of each detection."""

    pooler: PoolerConfig = field(default_factory=lambda: PoolerConfig(resolution=14))
    """14x14 (paper); the mask is twice as large for each deconvolution. Not used without a pyramid, where masks are
    read like boxes."""
    resize: int | None = None
    """Cells per side to which the features are resized before the convolutions, bilinear with the corners aligned
    (TensorFlow Object Detection API: 15 or 33); null: not resized."""
    convolutions: int = 4
    """3x3 convolutions before the predictor (paper: 4)."""
    channels: int = 256
    """Their width (paper: 256)."""
    upsamplings: int = 1
    """2x2 deconvolutions: 1 gives 28x28 (paper), 2 gives 56x56."""
    predictor_kernel: int = 1
    """Cells per side of the last convolution, to one logit (paper: 1; TensorFlow Object Detection API: 3)."""
    norm: Literal["none", "bn", "frozen_statistics", "gn"] = "none"
    """Normalisation of the convolutions; frozen_statistics: scale and shift train (Matterport); gn: 32 groups."""
    each_stage: bool = False
    """With `box.cascade`: a mask head for each box head, their probabilities averaged (MMDetection); false: one, on the
    last boxes (Detectron2)."""
    class_agnostic: bool = False
    """One mask for all classes instead of one for each."""
    loss: Literal["bce", "dice", "bce+dice"] = "bce"
    """Binary cross-entropy (paper), Dice (Milletari 2016), or both weighted."""
    bce_weight: float = 1.0
    """Weight of the cross-entropy part."""
    dice_weight: float = 1.0
    """Weight of the Dice part."""
    loss_weight: float = 1.0
    """Weight of the whole mask loss (paper: 1; TensorFlow Object Detection API: 4)."""
    paste: Literal["exact", "torchvision", "tensorflow", "matterport"] = "exact"
    """exact: sample the mask at pixel centres inside the float box (Detectron2, MMDetection); torchvision: pad by one
    cell, grow the box, cut it to whole pixels; tensorflow: the outer cells lie on the border of the box, for the truth
    too, the outer pixels on that of the image; matterport: as exact, inside the box rounded to whole
    pixels."""
    threshold: float = 0.5
    """A pixel belongs to the object from this probability on (paper: 0.5); tensorflow: above it."""
    soft_targets: bool = False
    """Train on the covered fraction of each cell instead of 0 or 1."""


@dataclass(frozen=True)
class KeypointHeadConfig:
    """The keypoints of each detection (Mask R-CNN paper, section 5). Their number comes from the data."""

    pooler: PoolerConfig = field(default_factory=lambda: PoolerConfig(resolution=14))
    """14x14 (paper); the heat map is four times as large."""
    convolutions: int = 8
    """3x3 convolutions before the predictor (paper: 8)."""
    channels: int = 512
    """Their width (paper: 512)."""
    score: Literal["probability", "logit"] = "probability"
    """The third number of a keypoint: its share of the heat map's softmax (Detectron2), or the logit (torchvision)."""
    loss_weight: float = 1.0
    """Weight of the keypoint loss (paper: 1)."""


@dataclass(frozen=True)
class ModelConfig:
    """The network. The number of classes comes from the data, never from here."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Trunk."""
    fpn: FPNConfig | None = field(default_factory=FPNConfig)
    """Pyramid; null: none, but one map of the trunk, whose last stage runs on each proposal and feeds box and mask head
    (C4: Faster R-CNN on ResNet, He 2016)."""
    rpn: RPNConfig = field(default_factory=RPNConfig)
    """Proposals."""
    box: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    """Box head."""
    mask: MaskHeadConfig | None = field(default_factory=MaskHeadConfig)
    """Mask head; None: boxes only (Faster R-CNN)."""
    keypoint: KeypointHeadConfig | None = None
    """Keypoint head, for data with keypoints; None: none."""
    inclusive: bool = False
    """Inside the network a box ends at the index of its last pixel, one less than its edge (Matterport)."""
    image_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """Subtracted from each channel (ImageNet, RGB, 0..255)."""
    image_std: tuple[float, ...] = (58.395, 57.12, 57.375)
    """Divides each channel."""
