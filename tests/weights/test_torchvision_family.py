"""Every two-stage detector of torchvision opens, goes back, and finds what it found there."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from urllib.error import URLError

import pytest
import torch
from torchvision.models.detection import (
    MaskRCNN,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.predict.predictor import Predictor
from maskrcnn.presets import preset
from maskrcnn.presets.torchvision import torchvision_v1, torchvision_v2
from maskrcnn.weights.classes import keypoint_schema
from maskrcnn.weights.facts import facts_of
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.start import network_of
from maskrcnn.weights.torchvision import from_torchvision, to_torchvision
from maskrcnn.weights.torchvision.names import to_ours
from tests.weights.oracle import compare, empty_state, folder, oracles


@pytest.mark.parametrize(
    "name", ["tv_maskrcnn_resnet50_fpn", "tv_maskrcnn_resnet50_fpn_v2", "tv_keypointrcnn_resnet50_fpn"]
)
def test_every_name_has_its_place_and_shape(name, data_dir):
    ours = to_ours(empty_state(folder(data_dir, name)))
    fixed = facts_of(ours)
    v2, keypoints = name.endswith("v2"), bool(fixed.keypoints)
    config = torchvision_v2() if v2 else torchvision_v1(masks=not keypoints, keypoints=keypoints)
    assert config.replace(**fixed.fields) == config
    with torch.device("meta"):
        points = keypoint_schema(fixed.keypoints) if keypoints else None
        model = build_model(config.model, classes=[str(i) for i in range(fixed.classes)], keypoints=points)
    own = {n: v.shape for n, v in model.state_dict().items() if n not in ("mean", "std")}
    assert {n: v.shape for n, v in ours.items()} == own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "fields"),
    [
        (maskrcnn_resnet50_fpn_v2, {"rpn.convolutions": 2, "box.norm": "bn", "mask.norm": "bn", "fpn.norm": "bn"}),
        (fasterrcnn_resnet50_fpn, {"mask": None}),
        (fasterrcnn_resnet50_fpn_v2, {"mask": None, "box.convolutions": 4, "box.fully_connected": 1}),
        (keypointrcnn_resnet50_fpn, {"mask": None, "keypoint.convolutions": 8, "keypoint.score": "logit"}),
    ],
)
def test_each_detector_opens_and_goes_back(builder, fields):
    torch.manual_seed(0)
    source = builder(weights=None, weights_backbone=None, num_classes=3).eval()
    model = from_torchvision(source)
    for name, value in fields.items():
        assert functools.reduce(getattr, name.split("."), model.config) == value, name
    state = to_torchvision(model)
    again = builder(weights=None, weights_backbone=None, num_classes=3)
    again.load_state_dict(state)
    for (name, a), b in zip(again.state_dict().items(), source.state_dict().values(), strict=True):
        rows = {"bbox_pred": 4, "mask_fcn_logits": 1}.get(name.split(".")[-2], 0) if "roi_heads" in name else 0
        assert torch.equal(a[rows:] if rows else a, b[rows:] if rows else b), name


def test_a_detector_built_by_hand_on_another_trunk():
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    generator = AnchorGenerator(sizes=tuple((s,) for s in (16, 32, 64, 128, 256)), aspect_ratios=((0.5, 1.0),) * 5)
    source = MaskRCNN(backbone, 4, rpn_anchor_generator=generator, min_size=320, max_size=512, box_nms_thresh=0.4)
    model = from_torchvision(source, classes=["a", "b", "c"], **{"box.score_threshold": 0.3})
    config = model.config
    assert config.backbone.name == "resnet18"
    assert config.rpn.anchors.sizes == ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    assert config.rpn.anchors.ratios == (0.5, 1.0)
    assert (config.box.nms_iou, config.box.score_threshold) == (0.4, 0.3)
    assert (model.data.min_size, model.data.max_size) == (320, 512)


def test_what_torchvision_cannot_hold_is_refused():
    config = preset("r18-fpn")
    model = build_model(config.model, classes=["a"], data=config.data)
    with pytest.warns(UserWarning, match=r"torchvision will not do as this model does in model\.rpn\.anchors\.rounded"):
        to_torchvision(model)
    config = preset("mask_rcnn_R_50_FPN_3x")
    with pytest.raises(WeightsError, match="no ResNet that halves its map in the first 1x1 convolution"):
        to_torchvision(build_model(config.model, classes=["a"]))


def test_published_weights_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    urls = []

    def download(url, file, hash_prefix=None):
        urls.append(url)
        torch.save(keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict(), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.warns(UserWarning, match="downloaded once and kept there; .* weights without a licence"):
        model = load_weights("torchvision:keypointrcnn_resnet50_fpn", **{"box.score_threshold": 0.5})
    assert urls == ["https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth"]
    assert (model.config.backbone.norm_eps, model.config.box.score_threshold) == (0.0, 0.5)
    assert model.classes == ("person",)
    monkeypatch.setattr("maskrcnn.weights.torchvision.published.TOLD", set())  # another process
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert network_of("torchvision:keypointrcnn_resnet50_fpn") is not None  # opened without a word
    with pytest.warns(UserWarning, match=r"fc266e95\.pth: kept there; .* publishes these weights without a licence"):
        load_weights("torchvision:keypointrcnn_resnet50_fpn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights("torchvision:keypointrcnn_resnet50_fpn")  # said already
    assert model.keypoints is not None
    assert model.keypoints.names[:2] == ("nose", "left_eye")
    with pytest.raises(WeightsError, match=r"unknown, did you mean 'maskrcnn_resnet50_fpn'\?; known: maskrcnn"):
        load_weights("torchvision:maskrcn_resnet50_fpn")
    with pytest.raises(WeightsError, match=r"unknown weights 'COCO_V9'; known: COCO_LEGACY, COCO_V1"):
        load_weights("torchvision:keypointrcnn_resnet50_fpn/COCO_V9")

    def offline(*arguments, **keywords):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(
        WeightsError, match=r"cannot download torchvision:maskrcnn_resnet50_fpn_v2 .*no internet, fetch"
    ):
        load_weights("torchvision:maskrcnn_resnet50_fpn_v2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "eps"),
    [
        ("tv_maskrcnn_resnet50_fpn", 0.0),
        ("tv_maskrcnn_resnet50_fpn_v2", None),
        ("tv_keypointrcnn_resnet50_fpn", 0.0),
    ],
)
def test_every_detection_of_the_oracle_is_found_again(name, eps, data_dir, tmp_path):
    rebuild, path = oracles(data_dir), tmp_path / "model.pth"
    folder(data_dir, name)
    rebuild.write(name, path)
    model = load_weights(path, norm_eps=eps, **{"rpn.post_nms_test": 300})
    model.data = dataclasses.replace(model.data, min_size=256, max_size=400)
    golden = rebuild.load_golden(name)
    picture = torch.from_numpy(golden["image"].copy()).permute(2, 0, 1)
    found = Predictor(model, device="cpu", precision="float32")(picture, score_threshold=0.0)
    result = compare(
        found,
        golden["final_boxes"],
        golden["final_scores"],
        golden["final_classes"] - 1,
        masks=golden.get("final_masks"),
        keypoints=golden.get("final_keypoints"),
    )
    print(name, result)
    assert result.found == result.count == result.ours
    assert result.boxes <= 0.05
    assert result.scores <= 1e-4
    assert result.mask is None or result.mask >= 0.99
    assert result.keypoints is None or result.keypoints <= 0.5
