"""Whole networks on each trunk: a pyramid, the last stage on crops (C4), the last stage on the image (C5)."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.model.build import build_model, fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from tests.model.tiny import batch, tiny_config, tiny_model, truth

ONE_MAP = {
    "model.fpn": None,
    "model.backbone.stride": 16,
    "model.rpn.anchors.sizes": ((16.0, 32.0, 64.0),),
    "model.box.pooler.sampling_ratio": 0,
}
ARRANGEMENTS = {
    "c4": ONE_MAP | {"model.box.fully_connected": 0, "model.box.pooler.resolution": 14, "model.mask.convolutions": 0},
    "c5": ONE_MAP | {"model.backbone.output": "c5", "model.mask.pooler.sampling_ratio": 0},
    "gn": {
        "model.backbone.norm": "gn",
        "model.fpn.norm": "gn",
        "model.box.norm": "gn",
        "model.mask.norm": "gn",
        "model.mask.channels": 32,
        "model.box.convolutions": 2,
        "model.box.convolution_channels": 32,
        "model.box.fully_connected": 1,
    },
    "keras": {"model.backbone.stem_pool": "same", "model.backbone.norm_eps": 1e-3},
}


def network(name: str) -> MaskRCNN:
    return tiny_model(**ARRANGEMENTS[name])


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_every_arrangement_trains_and_predicts(name: str):
    model = network(name).train()
    losses = model(*batch(), truth())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        found = model.eval()(*batch())
        assert found.valid.any()
        assert found.masks.shape == (2, 40, *((14, 14) if name == "c4" else (28, 28)))
        fused = fused_copy(model)(*batch())
        torch.testing.assert_close(found.boxes, fused.boxes, atol=1e-2, rtol=0)


def test_what_the_arrangements_are_made_of():
    c4, c5 = network("c4"), network("c5")
    assert c4.backbone.layer4 is None
    assert {name.partition(".")[0] for name in c4.stage_two.state_dict()} == {"layer4"}
    assert c4.rpn.deltas.out_channels == c5.rpn.deltas.out_channels == 36
    assert c5.stage_two is None
    assert c5.box_head.fully_connected[0].in_features == 512 * 49
    with torch.no_grad():
        assert c5.features(*batch())[0].shape == (2, 512, 6, 6)


@pytest.mark.parametrize("name", ["swin_t", "mobilenet_v2", "convnext_tiny"])
def test_trunks_that_serve_a_pyramid_alone_are_named(name: str):
    with pytest.raises(ConfigError, match=f"{name!r} has no second stage, which a model without a pyramid needs"):
        build_model(tiny_config(**ARRANGEMENTS["c4"], **{"model.backbone.name": name}).model, classes=["a"])


@pytest.mark.slow
def test_a_pyramid_on_swin_trains():
    model = build_model(Config().replace(**{"model.backbone.name": "swin_t"}).model, classes=["a", "b", "c"])
    losses = model.train()(*batch(), truth())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    frozen = {name for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {"0", "1"}  # the stem and the first stage, and its norm
