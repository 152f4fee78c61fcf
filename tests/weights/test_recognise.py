"""Whose weights a file holds; other networks are called by their name."""

from __future__ import annotations

import pytest
import torch
import torchvision.models.detection as detection

from maskrcnn.errors import WeightsError
from maskrcnn.weights.classes import class_names
from maskrcnn.weights.facts import shape_of
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.recognise import framework_of, state_of
from tests.weights.oracle import empty_state, folder

ONE = torch.zeros(1)


@pytest.mark.parametrize(
    ("name", "framework"),
    [
        *((name, "detectron2") for name in ("d2_r50_fpn", "d2_r50_c4", "d2_cascade_r50_fpn", "d2_x101_fpn", "d2_lsj")),
        *((name, "mmdetection") for name in ("mm_r50_fpn", "mm_swin_t", "mm_convnext_t", "mm_cascade_r50_fpn")),
        *((name, "torchvision") for name in ("tv_maskrcnn_resnet50_fpn", "tv_maskrcnn_resnet50_fpn_v2")),
        ("tv_keypointrcnn_resnet50_fpn", "torchvision"),
    ],
)
def test_every_oracle_is_recognised(name, framework, data_dir):
    assert framework_of(empty_state(folder(data_dir, name))) == framework


@pytest.mark.parametrize(
    "data",
    [
        {"model": {"module.rpn.head.cls_logits.bias": ONE}, "optimizer": {"state": {}}, "epoch": 3},
        {"state_dict": {"model.rpn.head.cls_logits.bias": ONE}, "pytorch-lightning_version": "2"},
        {"_orig_mod.module.rpn.head.cls_logits.bias": ONE},
        {"model": {"state_dict": {"rpn.head.cls_logits.bias": ONE}}},
    ],
)
def test_the_table_is_found_in_what_is_around_it(data):
    state = state_of(data)
    assert list(state) == ["rpn.head.cls_logits.bias"]
    assert framework_of(state) == "torchvision"


@pytest.mark.parametrize(
    ("builder", "kind"),
    [
        ("retinanet_resnet50_fpn", "a RetinaNet"),
        ("fcos_resnet50_fpn", "an FCOS"),
        ("ssdlite320_mobilenet_v3_large", "an SSD"),
    ],
)
def test_other_detectors_of_torchvision_are_named(builder, kind, tmp_path):
    with torch.device("meta"):
        model = getattr(detection, builder)(weights=None, weights_backbone=None)
    path = tmp_path / "model.pth"
    torch.save({name: torch.zeros(()) for name in model.state_dict()}, path)
    with pytest.raises(WeightsError, match=rf"model\.pth: this is {kind} checkpoint \(tensor '"):
        load_weights(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.0.conv.weight", "a YOLO"),
        ("model.model.22.cv2.0.0.conv.weight", "a YOLO"),
        ("backbone.backbone.dark2.0.conv.weight", "a YOLO"),
        ("module_list.0.Conv2d.weight", "a YOLO"),
        ("bbox_head.retina_cls.weight", "a RetinaNet"),
        ("head.cls_subnet.0.weight", "a RetinaNet"),
        ("bbox_head.conv_centerness.weight", "an FCOS"),
        ("transformer.encoder.layers.0.self_attn.in_proj_weight", "a DETR"),
        ("query_embed.weight", "a DETR"),
        ("sem_seg_head.predictor.query_feat.weight", "a MaskFormer"),
        ("vgg.0.weight", "an SSD"),
        ("image_encoder.pos_embed", "a Segment Anything"),
        ("rpn.anchor_generator.cell_anchors.0", "a maskrcnn-benchmark"),
        ("classifier.linear_class.weight", "a PyTorch port of Matterport's"),
        ("decode_head.conv_seg.weight", "a semantic segmentation"),
    ],
)
def test_other_networks_are_named(name, kind):
    with pytest.raises(WeightsError, match=f"this is {kind} checkpoint"):
        framework_of(state_of({name: ONE, "backbone.layer1.0.conv1.weight": ONE}))


def test_a_trunk_and_an_unknown_network():
    with pytest.raises(WeightsError, match=r"a trunk without detector \(tensor 'conv1\.weight'\).*--weights"):
        framework_of(["conv1.weight", "layer1.0.conv1.weight", "fc.weight"])
    with pytest.raises(WeightsError, match=r"is no network that we know \(tensor 'a\.b'\)"):
        framework_of(["a.b"])
    with pytest.raises(WeightsError, match="holds no table of tensors"):
        state_of({"epoch": 3})


def test_names_and_shapes_are_checked():
    with pytest.raises(WeightsError, match="a tensor is called 0, not by a text"):
        state_of({0: ONE})
    with pytest.raises(WeightsError, match=r"tensor 'a' is missing"):
        shape_of({}, "a", 1)
    with pytest.raises(WeightsError, match=r"tensor 'a' has shape \(\); 1 dimensions"):
        shape_of({"a": torch.zeros(())}, "a", 1)


@pytest.mark.parametrize("classes", ["ab", [1, 2], 2])
def test_classes_are_a_list_of_names(classes):
    with pytest.raises(WeightsError, match="classes= takes a list of names"):
        class_names(2, classes)


def test_a_config_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.PTH"
    torch.save({"rpn.head.conv.weight": ONE}, path)
    with pytest.raises(WeightsError, match=r"config= takes a Config of maskrcnn, got dict"):
        load_weights(path, config={})
