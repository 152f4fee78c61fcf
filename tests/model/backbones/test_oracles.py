"""Trunks and pyramids against the maps that Matterport's, Detectron2's and MMDetection's code computed."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import BackboneConfig, PoolerConfig
from maskrcnn.model.backbones import build_backbone, build_stage_two, fold_norms
from maskrcnn.model.fpn import FPN
from maskrcnn.model.roi_features import from_map
from tests.model.backbones.oracles import (
    CONVNEXT,
    DETECTRON2,
    NECK,
    SWIN,
    error,
    keras_state,
    network_input,
    of,
    rebuild,
    torch_state,
)

MSRA = BackboneConfig(stride_in_1x1=True)
PYRAMIDS = {
    "d2_r50_fpn": (MSRA, "none", DETECTRON2, 1e-5),
    "d2_r50_fpn_gn": (BackboneConfig(norm="gn"), "gn", DETECTRON2, 5e-5),
    "mm_r50_caffe_fpn": (MSRA, "none", NECK, 1e-5),
    "mm_swin_t": (BackboneConfig(name="swin_t"), "none", SWIN, 1e-5),
    "mm_convnext_t": (BackboneConfig(name="convnext_tiny"), "none", CONVNEXT, 1e-5),
    "mp_resnet50": (BackboneConfig(stride_in_1x1=True, stem_pool="same", norm_eps=1e-3), "none", None, 1e-5),
}


@torch.no_grad()
@pytest.mark.parametrize("name", PYRAMIDS)
def test_the_pyramid_is_the_originals(name: str):
    config, norm, rules, tolerance = PYRAMIDS[name]
    rebuild()  # skips
    state = keras_state(name) if rules is None else torch_state(name, rules)
    trunk = build_backbone(config).eval()
    fpn = FPN(trunk.channels, 256, norm).eval()
    trunk.load_state_dict(of(state, "backbone"))
    fpn.load_state_dict(of(state, "fpn"))
    golden, x = rebuild().load_golden(name), network_input(name)
    assert error(name, "net_input", x) < 1e-6
    for fold in (False, True):
        if fold:
            fold_norms(trunk), fold_norms(fpn)
        maps = trunk(x)
        found = dict(zip(("c2", "c3", "c4", "c5"), maps, strict=True))
        found |= dict(zip(("p2", "p3", "p4", "p5", "p6"), fpn(maps), strict=True))
        errors = {key: error(name, key, value) for key, value in found.items() if key in golden}
        assert set(errors) >= {"p2", "p3", "p4", "p5"}
        assert max(errors.values()) < tolerance, errors


@torch.no_grad()
@pytest.mark.parametrize(("name", "output", "key"), [("d2_r50_c4", "c4", "c4"), ("d2_r50_dc5", "c5", "c5")])
def test_one_map_is_detectron2s(name: str, output: str, key: str):
    config = BackboneConfig(stride_in_1x1=True, stride=16, output=output)
    rebuild()  # skips
    state = torch_state(name, DETECTRON2, r"^(backbone|roi_heads\.res5)\.")
    trunk = build_backbone(config).eval()
    trunk.load_state_dict({k: v for k, v in of(state, "backbone").items() if output == "c5" or "layer4" not in k})
    golden, x = rebuild().load_golden(name), network_input(name, padded=False)
    assert error(name, "net_input", x) < 1e-6
    (found,) = trunk(x)
    assert error(name, key, found) < 1e-5
    pooler = PoolerConfig(resolution=14 if output == "c4" else 7, sampling_ratio=0, aligned=True)
    boxes, image = torch.from_numpy(golden["proposals"][:50]), torch.zeros(50, dtype=torch.int64)
    pooled = from_map(found, boxes, image, pooler, stride=16, sizes=torch.tensor([x.shape[2:]]))
    assert error(name, "box_pooled", pooled) < 1e-5
    if output == "c4":
        second = build_stage_two(config).eval()
        second.load_state_dict({k: v for k, v in of(state, "backbone").items() if "layer4" in k})
        assert second(pooled).shape == (50, 2048, 7, 7)
        assert error(name, "box_res5", second(pooled)) < 1e-5
