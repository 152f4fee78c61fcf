"""What training starts from: detectors of other frameworks, trunks, published names."""

from __future__ import annotations

import pickle

import pytest
import torch

from maskrcnn.config import TrainConfig
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.start import coco_name, network_of, read_start, trunk_state
from maskrcnn.weights.torchvision import to_torchvision

NARROW = {
    "model.backbone.name": "resnet18",
    "model.fpn.channels": 32,
    "model.box.fully_connected_channels": 16,
    "model.mask.channels": 8,
}


@pytest.fixture
def detector(tmp_path):
    """A narrow detector by torchvision's names."""
    config = preset("torchvision-r50-fpn").replace(**NARROW)
    model = build_model(config.model, classes=["class 1", "class 2"], data=config.data)
    torch.save(to_torchvision(model), tmp_path / "model.pth")
    return tmp_path / "model.pth", model


def test_a_detector_brings_its_network(detector):
    path, model = detector
    start = read_start(path, preset("r18-fpn").model, {})
    assert start.classes == model.classes
    assert torch.equal(start.state["fpn.lateral.0.0.weight"], model.fpn.lateral[0][0].weight)
    assert start.notes == (
        "warning: made with model.box.pooler.aligned False (here True); they start better with the same",
    )
    assert read_start(path, model.config, {}).notes == ()
    found = network_of(str(path))
    assert (found.model, found.data) == (model.config, model.data)
    assert found.train == TrainConfig()


def test_a_trunk_is_no_detector(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "trunk.pth")
    assert read_start(tmp_path / "trunk.pth", preset("r18-fpn").model, {}) is None
    assert network_of(str(tmp_path / "trunk.pth")) is None
    assert network_of("none-there") is None
    with pytest.raises(WeightsError, match=r"gone.pth: no such file"):
        read_start(tmp_path / "gone.pth", preset("r18-fpn").model, {})


@pytest.mark.parametrize("blobs", [True, False])
def test_trunks_of_detectron(tmp_path, blobs):
    own = build_backbone(preset("r50-fpn").model.backbone).state_dict()
    first = own["conv1.weight"] = torch.randn(64, 3, 7, 7)
    theirs = {}
    for name, value in own.items():
        theirs[(blob_name if blobs else detectron2_name)(name)] = value.numpy()
    theirs = {name: value for name, value in theirs.items() if name} | {
        "fc1000_w" if blobs else "stem.fc.weight": first.numpy()
    }
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(theirs if blobs else {"model": theirs}))
    state, note = trunk_state(tmp_path / "R-50.pkl")
    assert ("stride_in_1x1" in note) is blobs
    assert torch.equal(state["conv1.weight"], first.flip(1) if blobs else first)
    assert {name for name in own if not name.endswith("num_batches_tracked")} <= set(state)


def detectron2_name(name: str) -> str:
    for ours, there in (("downsample.0", "shortcut"), ("downsample.1", "shortcut.norm"), ("bn", "conv")):
        if ours in name:
            number = "." if ours != "bn" else ""
            name = name.replace(ours, there)
            if not number:
                head, _, rest = name.rpartition("conv")
                name = f"{head}conv{rest[0]}.norm{rest[1:]}"
    for stage in range(1, 5):
        name = name.replace(f"layer{stage}.", f"res{stage + 1}.")
    return name if name.startswith("res") else f"stem.{name}"


def blob_name(name: str) -> str:
    parts = name.split(".")
    kind = {"weight": "s", "bias": "b"}.get(parts[-1])
    if kind is None:
        return ""  # Detectron's norms have no statistics
    if len(parts) == 2:
        return "conv1_w" if parts[0] == "conv1" else f"res_conv1_bn_{kind}"
    block = f"res{int(parts[0][-1]) + 1}_{parts[1]}_branch"
    branch = "1" if parts[2] == "downsample" else f"2{'abc'[int(parts[2][-1]) - 1]}"
    norm = parts[2].startswith("bn") or parts[3:4] == ["1"]
    return f"{block}{branch}_bn_{kind}" if norm else f"{block}{branch}_w"


def test_the_published_detector_with_the_same_parts():
    names = {
        "maskrcnn_resnet50_fpn": preset("r50-fpn"),
        "maskrcnn_resnet50_fpn_v2": preset("torchvision-r50-fpn-v2"),
        "fasterrcnn_resnet50_fpn": preset("r50-fpn").replace(**{"model.mask": None}),
        "keypointrcnn_resnet50_fpn": preset("keypoint_rcnn_R_50_FPN_3x"),
    }
    assert {coco_name(config.model) for config in names.values()} == {f"torchvision:{name}" for name in names}
    assert network_of("coco").model.backbone.norm_eps == 0.0
    with pytest.raises(ConfigError, match=r"--weights coco: torchvision's detectors are on resnet50 .* mobilenet_v2"):
        coco_name(preset("small").model)
