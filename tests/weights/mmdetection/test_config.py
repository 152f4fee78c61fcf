"""Configs of MMDetection: read without running them, inherited, turned into ours, refused where we cannot follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import Unread
from maskrcnn.weights.mmdetection.config import read_settings
from maskrcnn.weights.mmdetection.text import config_of_text, read_config_file
from tests.weights.oracle import folder


def settings_of(data_dir: Path, name: str = "mm_r50_fpn", more: str = ""):
    text = (folder(data_dir, name) / "config.py").read_text() + "\n"
    values = config_of_text(text, name)
    if more:
        path, _, value = more.partition("=")
        *parents, last = path.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[last] = config_of_text(f"value = {value}", "more")["value"]
    return read_settings(values, "config.py")


# ---------------------------------------------------------------- what it says


def test_the_base_case(data_dir: Path):
    settings = settings_of(data_dir)
    config = settings.config
    assert (settings.bgr, settings.num_classes) == (False, 80)
    assert config.model.backbone.norm == "frozen_statistics"  # norm_eval, and scale and shift train
    assert config.model.backbone.frozen_stages == 2
    assert config.model.rpn.anchors.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert config.model.rpn.limit_shrinking
    assert config.model.box.limit_shrinking
    assert config.model.box.pooler.sampling_ratio == 0
    assert (config.data.min_size, config.data.max_size) == (256, 400)
    assert config.data.interpolation == "opencv"
    assert config.train.learning_rate == 0.02
    assert config.train.milestones == pytest.approx((8 / 12, 11 / 12))


def test_the_caffe_style_is_bgr_with_the_stride_in_front(data_dir: Path):
    settings = settings_of(data_dir, "mm_r50_caffe_fpn")
    assert settings.bgr
    assert settings.config.model.image_mean == (123.675, 116.28, 103.53)  # turned into RGB
    assert settings.config.model.image_std == (1.0, 1.0, 1.0)
    assert settings.config.model.backbone.stride_in_1x1
    assert settings.config.model.backbone.norm == "frozen_bn"


def test_a_cascade(data_dir: Path):
    box = settings_of(data_dir, "mm_cascade_r50_fpn").config.model.box
    assert box.box_weights == (10.0, 10.0, 5.0, 5.0)
    assert [iou for iou, _ in box.cascade] == [0.6, 0.7]
    assert box.cascade[1][1] == pytest.approx((1 / 0.033, 1 / 0.033, 1 / 0.067, 1 / 0.067))
    assert box.class_agnostic
    assert box.cascade_average == "logits"


def test_faster_rcnn_has_no_masks(data_dir: Path):
    assert settings_of(data_dir, more="model.roi_head.mask_head=None").config.model.mask is None


def test_a_config_of_2x():
    """Its colours and its size are in the steps of the pipeline."""
    text = """
norm = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
classes = ('cell', 'other')
model = dict(
    type='MaskRCNN',
    backbone=dict(type='ResNet', depth=101, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
                  norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True, style='caffe'),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    rpn_head=dict(type='RPNHead', anchor_generator=dict(type='AnchorGenerator', scales=[4, 8], ratios=[0.5, 1.0, 2.0],
                  strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type='StandardRoIHead', bbox_head=dict(type='Shared4Conv1FCBBoxHead', num_classes=2,
                  norm_cfg=dict(type='GN', num_groups=32)), mask_head=dict(type='FCNMaskHead', num_classes=2)),
    test_cfg=dict(rpn=dict(nms_pre=1000, nms_post=1000, max_num=500, nms_thr=0.6, min_bbox_size=0),
                  rcnn=dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.4), max_per_img=50)))
data = dict(samples_per_gpu=4, test=dict(classes=classes, pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(1000, 600), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'), dict(type='Normalize', **norm),
        dict(type='Pad', size_divisor=64)])]))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
"""
    settings = read_settings(config_of_text(text, "old"), "old")
    config = settings.config
    assert settings.bgr
    assert settings.classes == ("cell", "other")
    assert config.model.backbone.name == "resnet101"
    assert config.model.rpn.anchors.sizes[0] == (16.0, 32.0)
    assert (config.model.rpn.post_nms_test, config.model.rpn.nms_iou) == (500, 0.6)
    assert (config.model.box.convolutions, config.model.box.fully_connected, config.model.box.norm) == (4, 1, "gn")
    assert (config.model.box.score_threshold, config.model.box.detections_per_image) == (0.1, 50)
    assert (config.data.min_size, config.data.max_size, config.data.pad_multiple) == (600, 1000, 64)
    assert (config.train.batch_size, config.train.clip_norm, config.train.warmup_steps) == (4, 35.0, 500)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.type='RetinaNet'", "RetinaNet"),
        ("model.type='HybridTaskCascade'", "HybridTaskCascade"),
        ("model.backbone.type='RegNet'", "RegNet"),
        ("model.backbone.dcn=dict(type='DCN')", "dcn"),
        ("model.backbone.deep_stem=True", "deep_stem"),
        ("model.backbone.depth=77", "77 is not built here"),
        ("model.neck.type='PAFPN'", "PAFPN"),
        ("model.neck.conv_cfg=dict(type='ConvWS')", "ConvWS"),
        ("model.rpn_head.loss_cls.use_sigmoid=False", "use_sigmoid"),
        ("model.rpn_head.anchor_generator.strides=[8, 16, 32, 64, 128]", "strides"),
        ("model.rpn_head.bbox_coder.target_stds=[1.0, 0.0, 1.0, 1.0]", "positive"),
        ("model.roi_head.type='PointRendRoIHead'", "PointRendRoIHead"),
        ("model.roi_head.bbox_head.type='DoubleConvFCBBoxHead'", "DoubleConvFCBBoxHead"),
        ("model.roi_head.bbox_head.loss_cls.type='SeesawLoss'", "SeesawLoss"),
        ("model.roi_head.bbox_roi_extractor.type='GenericRoIExtractor'", "GenericRoIExtractor"),
        ("model.test_cfg.rcnn.nms.type='soft_nms'", "soft_nms"),
        ("model.test_cfg.rcnn.score_thr='much'", "no number"),
        ("model.test_cfg.rcnn.score_thr=float('nan')", "nan is no finite number"),
        ("model.backbone.depth=float('inf')", "inf is no finite number"),
        ("model.rpn_head.anchor_generator.scales=[float('inf')]", "no list of some numbers"),
        ("model.roi_head=dict(type='CascadeRoIHead', num_stages=900000000)", "from 1 to 10"),
        ("test_dataloader.dataset.pipeline=[dict(type='Resize', scale=[(1, 2), (3, 4)])]", "one size"),
    ],
)
def test_what_is_not_built_here_is_named(change: str, said: str, data_dir: Path):
    with pytest.raises(ConfigError, match=said):
        settings_of(data_dir, more=change).config.model  # noqa: B018


# ---------------------------------------------------------------- the text


def test_bases_are_merged(tmp_path: Path):
    (tmp_path / "base.py").write_text(
        "model = dict(a=dict(x=1, y=2), b=[dict(n=1), dict(n=2)], c=dict(d=1))\nlr = 0.1\n"
    )
    (tmp_path / "child.py").write_text(
        "_base_ = ['./base.py']\n"
        "model = dict(a=dict(y=3), b={'1': dict(n=5)}, c=dict(_delete_=True, e=2))\n"
        "twice = {{_base_.lr}} * 2\nname = '{{_base_.model.a.x}}'\nthird = _base_.model.a.y\n"
    )
    values = read_config_file(tmp_path / "child.py")
    assert values["model"] == {"a": {"x": 1, "y": 3}, "b": [{"n": 1}, {"n": 5}], "c": {"e": 2}}
    assert (values["lr"], values["twice"], values["name"], values["third"]) == (0.1, 0.2, 1, 2)


def test_nothing_is_run(tmp_path: Path):
    evil = tmp_path / "evil"
    values = config_of_text(
        f"import os\nx = os.system('touch {evil}')\ny = [c for c in ''.__class__.__mro__]\n"
        f"z = __import__('os')\nmodel = dict(type=x)\nbig = [0] * 10**9\nlong = 'a' * 10000000000\n",
        "evil",
    )
    assert not evil.exists()
    assert all(isinstance(values[name], Unread) for name in ("x", "y", "z", "model", "big", "long"))
    with pytest.raises(ConfigError, match="line 5"):
        read_settings(values, "evil")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = dict(", "no Python in line 1"),
        ("_base_ = './none.py'", "none.py"),
        ("_base_ = 'mmdet::x.py'", "another package"),
        ("with read_base():\n    from .a import *", "read_base"),
        ("a = " + "(" * 5000 + ")" * 5000, "no Python"),
        ("a = 1\n" * 300000, "characters"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(text: str, said: str, tmp_path: Path):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config_file(tmp_path / "config.py")


def test_a_config_that_inherits_from_itself_is_refused(tmp_path: Path):
    (tmp_path / "a.py").write_text("_base_ = 'b.py'")
    (tmp_path / "b.py").write_text("_base_ = 'a.py'")
    with pytest.raises(ConfigError, match="its own base"):
        read_config_file(tmp_path / "a.py")


@pytest.mark.parametrize(
    "text",
    [
        "a = [1]\n" + "a = [*a, *a]\n" * 40,
        "a = [1]\n" + "a = [a, a, a, a]\n" * 14,
        "a = dict(x=1)\n" + "a = dict(p=a, q=a, r=a, s=a)\n" * 14,
        "a = [0] * 10000\nb = [" + "*a, " * 1000 + "]\n",
        "a = [1] * 1000\na = [" + "a + a, " * 60 + "]\n",
        f"s = '{'x' * 100000}'\na = [s] * 1000\n",
    ],
)
def test_values_that_grow_without_end_are_refused(text: str):
    with pytest.raises(ConfigError, match="makes more than 100000 items"):
        config_of_text(text, "config.py")


def test_values_that_nest_without_end_are_refused():
    with pytest.raises(ConfigError, match="more than 100 deep"):
        config_of_text("a = []\n" + "a = [a]\n" * 3000, "config.py")


def test_many_bases_are_refused(tmp_path: Path):
    for i in range(40):
        (tmp_path / f"c{i}.py").write_text(f"_base_ = ['c{i + 1}.py', 'c{i + 1}.py']")
    (tmp_path / "c40.py").write_text("a = 1")
    with pytest.raises(ConfigError, match="more than 50 files"):
        read_config_file(tmp_path / "c0.py")


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    (tmp_path / "config.py").write_text("\ufeffa = 1", encoding="utf-8")
    assert read_config_file(tmp_path / "config.py") == {"a": 1}


def test_a_config_of_another_framework():
    with pytest.raises(
        ConfigError, match=r"balloon\.py: sets no model, so it is no config of MMDetection; give the one"
    ):
        read_settings({"NAME": "balloon"}, "balloon.py")
