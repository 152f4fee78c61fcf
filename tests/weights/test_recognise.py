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
from maskrcnn.weights.torchvision.model import load_torchvision
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
        ("bbox_head.convs_pred.0.weight", "a YOLOv3"),
        ("bbox_head.multi_level_cls_convs.0.0.conv.weight", "a YOLO"),
        ("bbox_head.rtm_cls.0.weight", "an RTMDet"),
        ("decoder.dec_score_head.0.weight", "an RT-DETR"),
        ("model.decoder.enc_score_head.weight", "an RT-DETR"),
        ("encoder.pan_blocks.0.conv1.conv.weight", "an RT-DETR"),
        ("backbone.res_layers.0.blocks.0.branch2a.conv.weight", "an RT-DETR"),
        ("encoder.encoder.0.layers.0.self_attn.in_proj_weight", "an RT-DETR"),
        ("decoder.denoising_class_embed.weight", "an RT-DETR"),
        ("model.encoder_input_proj.0.0.weight", "an RT-DETR"),
        ("sem_seg_head.predictor.query_feat.weight", "a Mask2Former"),
        ("panoptic_head.query_feat.weight", "a Mask2Former"),
        ("sem_seg_head.predictor.query_embed.weight", "a MaskFormer"),
        ("sem_seg_head.predictor.weight", "a semantic segmentation"),
        ("mask_head.conv_mask_list.0.weight", "a SOLO"),
        ("mask_head.mask_feature_head.conv_pred.conv.weight", "a SOLO"),
        ("ins_head.cate_pred.weight", "a SOLO"),
        ("bbox_head.controller.weight", "a CondInst"),
        ("proposal_generator.controller.weight", "a CondInst"),
        ("proposal_generator.fcos_head.cls_logits.weight", "an FCOS"),
        ("head.ctrness.weight", "an FCOS"),
        ("bbox_head.cls_convs.0.0.weight", "an SSD"),
        ("neck.l2_norm.weight", "an SSD"),
        ("bbox_head.heatmap_head.0.weight", "a CenterNet"),
        ("hm.2.weight", "a CenterNet"),
        ("bbox_head.cls_branches.0.weight", "a DETR"),
        ("class_labels_classifier.weight", "a DETR"),
        ("transformer.encoder.layers.0.self_attn.in_proj_weight", "a DETR"),
        ("query_embed.weight", "a DETR"),
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


def test_a_network_with_marks_of_two_families():
    """CondInst and Mask2Former have parts of the families that they grew out of."""
    with pytest.raises(WeightsError, match="this is a CondInst"):
        framework_of(["bbox_head.conv_centerness.weight", "bbox_head.controller.weight"])
    with pytest.raises(WeightsError, match="this is an FCOS"):
        framework_of(["bbox_head.conv_cls.weight", "bbox_head.conv_centerness.weight"])
    with pytest.raises(WeightsError, match="this is a Mask2Former"):
        framework_of(["sem_seg_head.predictor.query_embed.weight", "sem_seg_head.predictor.query_feat.weight"])
    with pytest.raises(WeightsError, match="this is an RT-DETR"):
        framework_of(["class_embed.0.weight", "model.decoder.layers.0.fc1.weight", "model.enc_score_head.weight"])
    with pytest.raises(WeightsError, match="this is an RT-DETR"):
        framework_of(["transformer.decoder.layers.0.norm1.weight", "decoder.dec_bbox_head.0.layers.0.weight"])


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
    with pytest.raises(WeightsError, match=r"not a whole detector: tensor 'a' is missing"):
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


def test_the_wrong_number_of_names():
    with pytest.raises(WeightsError, match="but 1 names are given; give one for each, in the order of its rows"):
        class_names(2, ["a"])


@pytest.mark.parametrize(
    "name", ["roi_heads.box_predictor.cls_score.bias", "roi_heads.box_head.fc7.weight", "backbone.body.bn1.bias"]
)
def test_a_tensor_that_torchvisions_file_lacks(name, data_dir, tmp_path):
    state = empty_state(folder(data_dir, "tv_maskrcnn_resnet50_fpn"))
    del state[name]
    with pytest.raises(WeightsError, match=rf"m\.pth: not a whole detector of torchvision: tensor '{name}' is missing"):
        load_torchvision(tmp_path / "m.pth", data=state)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "a Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"junk" * 9, "truncated or no safetensors file; fetch it again"),
        (b"\2\0\0\0\0\0\0\0{}", "no model.json beside it"),
    ],
)
def test_what_lies_where_a_safetensors_file_should_be(content, said, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"model\.safetensors: {said}"):
        load_weights(path)
