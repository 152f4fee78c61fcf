"""Detectron2's checkpoints: every name has its place, and what does not fit is said."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.classes import contiguous_names, keypoint_schema
from maskrcnn.weights.detectron2.caffe2 import from_caffe2
from maskrcnn.weights.detectron2.model import load_detectron2, open_detectron2
from maskrcnn.weights.detectron2.names import ratio_major, rename, to_ours
from tests.weights.oracle import empty_state, folder

ORACLES = {
    "d2_r50_fpn": "mask_rcnn_R_50_FPN_3x",
    "d2_r50_c4": "mask_rcnn_R_50_C4_3x",
    "d2_r50_dc5": "mask_rcnn_R_50_DC5_3x",
    "d2_r50_fpn_gn": "mask_rcnn_R_50_FPN_3x_gn",
    "d2_cascade_r50_fpn": "cascade_mask_rcnn_R_50_FPN_3x",
    "d2_kp_r50_fpn": "keypoint_rcnn_R_50_FPN_3x",
    "d2_lsj": "mask_rcnn_R_50_FPN_100ep_LSJ",
    "d2_x101_fpn": "mask_rcnn_X_101_32x8d_FPN_3x",
}
OLD = {
    "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    "pixel_mean": torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1),
    "pixel_std": torch.ones(3, 1, 1),
}


@pytest.mark.parametrize(("name", "zoo"), ORACLES.items())
def test_every_name_has_its_place_and_shape(name, zoo, data_dir):
    state = empty_state(folder(data_dir, name))
    ours, dropped = to_ours(state | OLD)
    assert sorted(dropped) == sorted(OLD)
    assert len(ours) == len(state)
    config, count = preset(zoo).model, len(ours["box_head.class_logits.bias"]) - 1
    with torch.device("meta"):  # no numbers: the largest has 172 million
        points = keypoint_schema(17) if name == "d2_kp_r50_fpn" else None
        model = build_model(config, classes=[str(i) for i in range(count)], keypoints=points)
    own = {n: v.shape for n, v in model.state_dict().items() if n not in ("mean", "std")}
    assert {n: v.shape for n, v in ours.items()} == own


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    """A ResNet-18 with a narrow pyramid and 80 classes, by Detectron2's names."""
    config = preset("mask_rcnn_R_50_FPN_1x").replace(
        **{
            "model.backbone.name": "resnet18",
            "model.backbone.stride_in_1x1": False,
            "model.fpn.channels": 32,
            "model.box.fully_connected_channels": 16,
            "model.mask.channels": 8,
        }
    )
    model = build_model(config.model, classes=[f"class {i}" for i in range(80)])
    places = [
        (r"backbone\.conv1", "backbone.bottom_up.stem.conv1"),
        (r"backbone\.bn1", "backbone.bottom_up.stem.conv1.norm"),
        (
            r"backbone\.layer(\d)\.(\d)\.downsample\.0",
            lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.shortcut",
        ),
        (
            r"backbone\.layer(\d)\.(\d)\.downsample\.1",
            lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.shortcut.norm",
        ),
        (r"backbone\.layer(\d)\.(\d)\.conv(\d)", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.conv{m[3]}"),
        (
            r"backbone\.layer(\d)\.(\d)\.bn(\d)",
            lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm",
        ),
        (r"fpn\.(lateral|output)\.(\d)\.0", lambda m: f"backbone.fpn_{m[1]}{int(m[2]) + 2}"),
        (r"rpn\.convolutions\.0", "proposal_generator.rpn_head.conv"),
        (r"rpn\.objectness", "proposal_generator.rpn_head.objectness_logits"),
        (r"rpn\.deltas", "proposal_generator.rpn_head.anchor_deltas"),
        (r"box_head\.fully_connected\.(\d)", lambda m: f"roi_heads.box_head.fc{int(m[1]) + 1}"),
        (r"box_head\.class_logits", "roi_heads.box_predictor.cls_score"),
        (r"box_head\.box_deltas", "roi_heads.box_predictor.bbox_pred"),
        (r"mask_head\.layers\.(\d)\.0", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}"),
        (r"mask_head\.layers\.4", "roi_heads.mask_head.deconv"),
        (r"mask_head\.logits", "roi_heads.mask_head.predictor"),
    ]
    state = {}
    for name, value in model.state_dict().items():
        if name not in ("mean", "std"):
            module, _, kind = name.rpartition(".")
            theirs = next(re.sub(p, r, module) for p, r in places if re.fullmatch(p, module))
            assert rename(f"{theirs}.{kind}") == name
            state[f"{theirs}.{kind}"] = value
    return state


def test_colours_are_turned(small, tmp_path):
    with pytest.warns(UserWarning, match=r"no config\.yaml lies beside it.*blue first.*the 3x3 convolution"):
        model = load_detectron2(tmp_path / "model.pth", data={"model": small})
    first = small["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], first.flip(1))
    assert model.config.image_mean == (123.675, 116.28, 103.53)
    (tmp_path / "config.yaml").write_text(
        "_BASE_: Base-RCNN-FPN.yaml\n"
        "MODEL: {MASK_ON: True, PIXEL_MEAN: [1, 2, 3], RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}, "
        "FPN: {OUT_CHANNELS: 32}, ROI_BOX_HEAD: {FC_DIM: 16}, ROI_MASK_HEAD: {CONV_DIM: 8}}\nINPUT: {FORMAT: RGB}\n"
    )
    model, run = open_detectron2(tmp_path / "model.pth", data=small, **{"box.nms_iou": 0.3})
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], first)
    assert model.config.image_mean == (1.0, 2.0, 3.0)
    assert (model.config.box.nms_iou, run.train.batch_size) == (0.3, 16)
    assert (model.classes[0], model.category_ids[-1]) == ("person", 90)


@pytest.mark.filterwarnings("ignore:.*no config.yaml lies beside it")
def test_old_files_tell_their_preprocessing(small, tmp_path):
    std = torch.tensor([57.375, 57.12, 58.395]).view(3, 1, 1)
    model = load_detectron2(tmp_path / "m.pth", data=small | OLD | {"pixel_std": std})
    assert model.config.image_std == pytest.approx((58.395, 57.12, 57.375))
    config = "_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: True, RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}}"
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(WeightsError, match=r"m\.pth: pixel_std \(57\.37.* in the weights, but \(1\.0, 1\.0, 1\.0\) in"):
        load_detectron2(tmp_path / "m.pth", data=small | OLD | {"pixel_std": std})


@pytest.mark.filterwarnings("ignore:.*no config.yaml lies beside it")
def test_weights_and_config_that_do_not_belong_together(small, tmp_path):
    path = tmp_path / "m.pth"
    with pytest.raises(
        WeightsError, match=r"arrangement: fpn in the weights, but c4 in mask_rcnn_R_50_C4_1x; give the"
    ):
        load_detectron2(path, data=small, config="mask_rcnn_R_50_C4_1x")
    with pytest.raises(WeightsError, match=r"mask head: one in the weights, but none in the config given"):
        load_detectron2(path, data=small, config=preset("faster_rcnn_R_50_FPN_1x"))
    with pytest.raises(WeightsError, match=r"trunk \(model\.backbone\.name\): resnet18 in the weights, but resnet50"):
        load_detectron2(path, data=small, config="mask_rcnn_R_50_FPN_1x")
    with pytest.raises(ConfigError, match=r"mask_rcn_R_50: neither a YAML file that is there nor a name of Detectron2"):
        load_detectron2(path, data=small, config="mask_rcn_R_50")
    with pytest.raises(WeightsError, match="has 80 classes besides the background, but 2 names"):
        load_detectron2(path, data=small, classes=["a", "b"])
    (tmp_path / "config.yaml").write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {ROI_HEADS: {NUM_CLASSES: 3}}")
    with pytest.raises(WeightsError, match=r"number of classes: 80 in the weights, but 3 in .*config\.yaml"):
        load_detectron2(path, data=small)
    rest = {name: value for name, value in small.items() if "objectness" not in name}
    with pytest.raises(
        WeightsError, match=r"m\.pth: not a whole detector of Detectron2: tensor 'proposal_generator\.rpn_head\.obj"
    ):
        load_detectron2(path, data=rest)
    with pytest.raises(WeightsError, match="deformable convolutions have no counterpart here"):
        load_detectron2(path, data=small | {"backbone.bottom_up.res4.0.conv2_offset.weight": torch.zeros(1)})
    rest = {name: value for name, value in small.items() if "fc2.bias" not in name}
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(
        WeightsError, match=r"m\.pth: not .*: tensor 'roi_heads\.box_head\.fc2\.bias' is missing; give the whole"
    ):
        load_detectron2(path, data=rest)


@pytest.mark.filterwarnings("ignore:.*no config.yaml lies beside it")
def test_a_lazy_config_beside_is_not_read(small, tmp_path, data_dir):
    shutil.copy(folder(data_dir, "d2_lsj") / "config.yaml", tmp_path)
    assert load_detectron2(tmp_path / "m.pth", data=small).config.backbone.name == "resnet18"


def test_anchors_of_one_map_go_ratio_by_ratio():
    scores, deltas = torch.arange(6.0), torch.arange(24.0)  # 2 sizes x 3 ratios, size by size
    state = {
        "rpn.objectness.weight": scores.view(6, 1, 1, 1), "rpn.objectness.bias": scores,
        "rpn.deltas.weight": deltas.view(24, 1, 1, 1), "rpn.deltas.bias": deltas,
    }  # fmt: skip
    ratio_major(state, 2, 3)
    assert state["rpn.objectness.bias"].tolist() == [0, 3, 1, 4, 2, 5]
    assert state["rpn.deltas.weight"].flatten().tolist()[:8] == [0, 1, 2, 3, 12, 13, 14, 15]


def test_blobs_of_detectron():
    blobs = {
        "conv1_w": torch.zeros(64, 3, 7, 7), "res_conv1_bn_s": torch.ones(64), "res_conv1_bn_b": torch.zeros(64),
        "res2_0_branch2a_w": torch.zeros(1), "res2_0_branch2a_bn_s": torch.ones(64), "res2_0_branch1_w": torch.zeros(1),
        "fpn_inner_res5_2_sum_w": torch.zeros(1), "fpn_inner_res4_5_sum_lateral_b": torch.zeros(1),
        "fpn_res5_2_sum_w": torch.zeros(1), "conv_rpn_fpn2_w": torch.zeros(1), "fc6_w": torch.zeros(1),
        "rpn_bbox_pred_fpn2_b": torch.zeros(1), "_[mask]_fcn1_w": torch.zeros(1), "conv5_mask_w": torch.zeros(1),
        "cls_score_w": torch.arange(3.0).view(3, 1), "cls_score_b": torch.arange(3.0),
        "bbox_pred_w": torch.arange(12.0).view(12, 1), "bbox_pred_b": torch.arange(12.0),
        "mask_fcn_logits_w": torch.arange(3.0).view(3, 1), "conv1_w_momentum": torch.zeros(1),
    }  # fmt: skip
    state = from_caffe2(blobs)
    assert all(rename(name) for name in state), [name for name in state if not rename(name)]
    assert state["roi_heads.box_predictor.cls_score.bias"].tolist() == [1, 2, 0]
    assert state["roi_heads.box_predictor.bbox_pred.bias"].tolist() == list(range(4, 12))
    assert state["roi_heads.mask_head.predictor.weight"].flatten().tolist() == [1, 2]
    assert "backbone.bottom_up.res2.0.conv1.norm.running_var" in state
    assert not any("momentum" in name for name in state)


def test_names_of_classes():
    assert contiguous_names(80)[1][-1] == 90
    assert contiguous_names(1203)[0][:2] == ["aerosol_can", "air_conditioner"]
    assert contiguous_names(1230)[0][-1] == "zucchini"
    assert contiguous_names(8, dataset="cityscapes_fine_instance_seg_train") == (
        ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"],
        [24, 25, 26, 27, 28, 31, 32, 33],
    )
    assert contiguous_names(8)[0][0] == "class 1"
    assert contiguous_names(20, dataset="voc_2007_trainval")[0][14] == "person"
    coco, ids = contiguous_names(80)
    assert contiguous_names(80, tuple(coco)) == (coco, ids)
