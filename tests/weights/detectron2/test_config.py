"""YAML configs of Detectron2: base files, literals, and what has no counterpart here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.presets import preset
from maskrcnn.presets.detectron2 import ZOO
from maskrcnn.weights.detectron2.config import read_config
from maskrcnn.weights.detectron2.model import open_detectron2
from maskrcnn.weights.detectron2.zoo import FILES, published_name
from maskrcnn.weights.recognise import framework_of
from tests.weights.oracle import empty_state, folder

FPN = '_BASE_: "../Base-RCNN-FPN.yaml"\n'
C4 = '_BASE_: "../Base-RCNN-C4.yaml"\n'
DC5 = '_BASE_: "../Base-RCNN-DilatedC5.yaml"\n'
KEYPOINTS = '_BASE_: "Base-Keypoint-RCNN-FPN.yaml"\n'
LONG = "SOLVER:\n  STEPS: (210000, 250000)\n  MAX_ITER: 270000\n"
X101 = (
    "PIXEL_STD: [57.375, 57.120, 58.395], "
    "RESNETS: {STRIDE_IN_1X1: False, NUM_GROUPS: 32, WIDTH_PER_GROUP: 8, DEPTH: 101}"
)


def written(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def close(one: Config, other: Config) -> bool:
    """The same but for rounding."""

    def same(a, b):
        if isinstance(a, dict):
            return all(same(a[key], b[key]) for key in a)
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(map(same, a, b))
        return a == pytest.approx(b) if isinstance(a, float) else a == b

    return same(dataclasses.asdict(one), dataclasses.asdict(other))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mask_rcnn_R_50_FPN_1x", FPN + "MODEL: {MASK_ON: True, RESNETS: {DEPTH: 50}}"),
        ("mask_rcnn_R_101_FPN_3x", FPN + "MODEL: {MASK_ON: True, RESNETS: {DEPTH: 101}}\n" + LONG),
        ("mask_rcnn_R_50_C4_3x", C4 + "MODEL: {MASK_ON: True}\n" + LONG),
        ("mask_rcnn_R_101_DC5_3x", DC5 + "MODEL: {MASK_ON: True, RESNETS: {DEPTH: 101}}\n" + LONG),
        ("faster_rcnn_R_50_FPN_1x", FPN + "MODEL: {MASK_ON: False}"),
        ("mask_rcnn_X_101_32x8d_FPN_3x", FPN + "MODEL: {MASK_ON: True, " + X101 + "}\n" + LONG),
        ("keypoint_rcnn_X_101_32x8d_FPN_3x", KEYPOINTS + "MODEL: {" + X101 + "}\n" + LONG),
        (
            "cascade_mask_rcnn_R_50_FPN_3x",
            FPN
            + "MODEL: {MASK_ON: True, ROI_HEADS: {NAME: CascadeROIHeads}, ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}, "
            + "RPN: {POST_NMS_TOPK_TRAIN: 2000}}\n"
            + LONG,
        ),
        (
            "mask_rcnn_R_50_FPN_3x_gn",
            FPN
            + "MODEL: {MASK_ON: True, RESNETS: {NORM: GN, STRIDE_IN_1X1: False}, FPN: {NORM: GN}, "
            + "ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: GN}, ROI_MASK_HEAD: {NORM: GN}}\n"
            + LONG,
        ),
        (
            "mask_rcnn_R_50_FPN_1x_cls_agnostic",
            FPN
            + "MODEL: {MASK_ON: True, ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}, "
            + "ROI_MASK_HEAD: {CLS_AGNOSTIC_MASK: True}}",
        ),
    ],
)
def test_a_config_of_the_zoo_is_the_preset_of_its_name(name, text, tmp_path):
    assert close(read_config(written(text, tmp_path)).config, preset(name))


def test_literals_data_set_and_schedule(tmp_path):
    text = (
        FPN
        + """
MODEL: {MASK_ON: "True", ROI_HEADS: {NUM_CLASSES: 8}, ANCHOR_GENERATOR: {SIZES: "[[16], [32], [64], [128], [256]]"}}
DATASETS: {TRAIN: "('cityscapes_fine_instance_seg_train',)"}
INPUT: {FORMAT: RGB, MIN_SIZE_TEST: 1000, MIN_SIZE_TRAIN: "(500, 1000)", RANDOM_FLIP: none}
SOLVER:
  IMS_PER_BATCH: 8
  BASE_LR: 0.01
  MAX_ITER: 1000
  STEPS: (600, 900)
  GAMMA: 0.5
"""
    )
    found = read_config(written(text, tmp_path))
    config = found.config
    assert (found.classes, found.bgr, found.dataset) == (8, False, "cityscapes_fine_instance_seg_train")
    assert config.model.image_mean == (103.53, 116.28, 123.675)  # as it is written: red first
    assert config.model.rpn.anchors.sizes[0] == (16.0,)
    assert (config.data.min_size, config.data.scale_jitter, config.data.horizontal_flip) == (1000, (0.5, 1.0), 0.0)
    assert config.train.rates == ((0, 0.01), (600, 0.005), (900, 0.0025))
    assert read_config(written(FPN, tmp_path)).config.model.image_mean == (123.675, 116.28, 103.53)


def test_base_files_that_are_there_come_first(tmp_path):
    (tmp_path / "Base-RCNN-FPN.yaml").write_text("_BASE_: common.yaml\nMODEL: {ROI_HEADS: {NUM_CLASSES: 3}}")
    (tmp_path / "common.yaml").write_text('_BASE_: "../Base-RCNN-FPN.yaml"\nMODEL: {MASK_ON: True}')
    path = written("_BASE_: Base-RCNN-FPN.yaml", tmp_path)
    found = read_config(path)
    assert found.classes == 3
    assert found.config.model.mask is not None
    (tmp_path / "common.yaml").write_text("_BASE_: Base-RCNN-FPN.yaml")
    with pytest.raises(ConfigError, match="files name each other"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: mine.yaml", r"_BASE_: mine\.yaml is not there and no base file of Detectron2"),
        ("A: !!python/object/apply:os.system ['touch hacked']", "configs with Python tags are not run"),
        ("model: {_target_: a}", r"a lazy config.*new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ"),
        ("[]", "holds no table of keys"),
        ("MODEL: {META_ARCHITECTURE: RetinaNet}", r"MODEL\.META_ARCHITECTURE: 'RetinaNet' is not here"),
        ("MODEL: {BACKBONE: {NAME: build_swin}}", r"MODEL\.BACKBONE\.NAME: 'build_swin' is not here"),
        (FPN + "MODEL: {RESNETS: {DEFORM_ON_PER_STAGE: [False, True, True, True]}}", "deformable convolutions"),
        (FPN + "MODEL: {RESNETS: {DEPTH: 77}}", "77 with 1 groups of 64 is not here"),
        (FPN + "MODEL: {RPN: {IN_FEATURES: [p3, p4]}}", "must be P2 to P6"),
        (FPN + "MODEL: {ROI_BOX_HEAD: {POOLER_TYPE: ROIPool}}", "'ROIPool' is not here"),
        (FPN + "MODEL: {ROI_BOX_HEAD: 3}", r"MODEL\.ROI_BOX_HEAD: expected a table of keys"),
        (FPN + "MODEL: {RPN: {NMS_THRESH: high}}", r"MODEL\.RPN\.NMS_THRESH: expected a number, got 'high'"),
        (FPN + "INPUT: {FORMAT: L}", "'L' is not here; known: 'BGR', 'RGB'"),
        (FPN + "INPUT: {MIN_SIZE_TEST: 0}", "images that are not resized"),
        (FPN + "INPUT: {MIN_SIZE_TRAIN: []}", r"MIN_SIZE_TRAIN: expected a list of numbers, got \[\]"),
        (FPN + "MODEL: {RPN: {PRE_NMS_TOPK_TEST: .inf}}", "PRE_NMS_TOPK_TEST: expected a number of a usual size"),
        (FPN + "MODEL: {RPN: {PRE_NMS_TOPK_TEST: .nan}}", "PRE_NMS_TOPK_TEST: expected a number of a usual size"),
        (FPN + "MODEL: {RPN: {CONV_DIMS: [a]}}", "CONV_DIMS: expected a list of numbers"),
        (FPN + "MODEL: {ANCHOR_GENERATOR: {ASPECT_RATIOS: []}}", "ASPECT_RATIOS: expected a list of lists of numbers"),
        (FPN + "SOLVER: {MAX_ITER: 0}", "MAX_ITER: expected a number above 0"),
        (FPN + "X: &x {y: *x}", "stands for what it is part of"),
        (FPN + "X: " + "[" * 3000 + "]" * 3000, "nested too deep"),
        (
            "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
            "too many values",
        ),
    ],
)
def test_what_is_not_here_is_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_config(written(text, tmp_path))
    assert not (tmp_path / "hacked").exists()


def test_what_has_no_effect_is_noted(tmp_path):
    text = (
        FPN + "MODEL: {META_ARCHITECTURE: PanopticFPN, RPN: {BBOX_REG_LOSS_TYPE: giou}}\nTEST: {AUG: {ENABLED: True}}"
    )
    notes = read_config(written(text, tmp_path)).notes
    assert [note.partition(":")[0] for note in notes] == [
        "MODEL.META_ARCHITECTURE PanopticFPN",
        "MODEL.RPN.BBOX_REG_LOSS_TYPE giou",
        "TEST.AUG",
    ]


@pytest.mark.parametrize("name", ["d2_r50_fpn", "d2_r50_c4", "d2_r50_dc5", "d2_cascade_r50_fpn", "d2_x101_fpn"])
def test_the_dumped_configs_of_the_oracles(name, data_dir):
    found = read_config(folder(data_dir, name) / "config.yaml")
    assert (found.classes, found.bgr, found.config.data.min_size) == (80, True, 256)
    assert found.config.data.interpolation == "pillow"


def test_the_zoo():
    assert published_name("a/model_final_f10217.pkl") == "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert published_name("model_final.pth") is None
    assert set(FILES.values()) <= set(ZOO)
    for name in ZOO:
        preset(name)
    assert preset("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml") == preset("mask_rcnn_R_50_FPN_3x")
    assert preset("mask_rcnn_R_50_FPN_1x").model.box.score_threshold == 0.05  # COCO's, not LVIS's
    assert preset("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x").model.box.detections_per_image == 300


@pytest.mark.parametrize(
    ("name", "std", "jitter", "steps"),
    [
        ("Misc/scratch_mask_rcnn_R_50_FPN_3x_gn", (1.0, 1.0, 1.0), (0.8, 1.0), 270_000),
        ("Misc/scratch_mask_rcnn_R_50_FPN_9x_gn", (58.395, 57.12, 57.375), (0.8, 1.0), 202_500),
        ("LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", (1.0, 1.0, 1.0), (0.8, 1.0), 90_000),
        ("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", (1.0, 1.0, 1.0), (0.8, 1.0), 180_000),
        ("Cityscapes/mask_rcnn_R_50_FPN", (1.0, 1.0, 1.0), (0.78125, 1.0), 24_000),
        ("Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x", (1.0, 1.0, 1.0), (0.8, 1.0), 90_000),
        ("Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x", (1.0, 1.0, 1.0), (1.0, 1.0), 90_000),
    ],
)
def test_where_names_of_the_zoo_differ(name, std, jitter, steps):
    config = preset(name)
    assert (config.model.image_std, config.data.scale_jitter, config.train.steps) == (std, jitter, steps)


def test_hasty():
    model = preset("hasty").model
    assert (model.box.convolutions, model.box.fully_connected) == (4, 2)
    assert (model.rpn.pre_nms_train, model.rpn.post_nms_train) == (4000, 1000)
    assert (model.rpn.pre_nms_test, model.rpn.post_nms_test) == (2000, 1000)


def test_the_instances_of_a_panoptic_fpn(data_dir):
    state = empty_state(folder(data_dir, "d2_r50_fpn"))
    convolutions = ("p2.0", "p3.0", "p4.0", "p4.2", "p5.0", "p5.2", "p5.4")
    parts = [f"{name}.{part}" for name in convolutions for part in ("weight", "norm.weight", "norm.bias")]
    names = [f"sem_seg_head.{part}" for part in (*parts, "predictor.weight", "predictor.bias")]
    state |= dict.fromkeys(names, torch.zeros(1))
    assert framework_of(state) == "detectron2"
    alone = [name for name in state if name.startswith(("backbone.", "sem_seg_head."))]
    with pytest.raises(WeightsError, match="this is a semantic segmentation checkpoint"):
        framework_of(alone)
    with pytest.warns(UserWarning, match="a Panoptic FPN: its instances are found, its semantic head is left out"):
        model, config = open_detectron2("model_final_c10459.pkl", data={"model": state})
    assert config == preset("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x")
    assert model.mask_head is not None


def test_a_config_of_another_framework(data_dir, tmp_path):
    (tmp_path / "mine.py").write_text("model = dict(type='MaskRCNN')")
    state = empty_state(folder(data_dir, "d2_r50_fpn"))
    with pytest.raises(ConfigError, match=r"mine\.py: is no YAML config of Detectron2, whose weights these are; give"):
        open_detectron2(tmp_path / "model.pth", data={"model": state}, config=tmp_path / "mine.py")
