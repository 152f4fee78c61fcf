"""The arrangement without a pyramid: one map, and the trunk's last stage for each box."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.model.box_head import drop
from maskrcnn.model.build import build_model, fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.presets import preset
from tests.model.tiny import batch, truth


def thin_config(**changes: object) -> Config:
    """Inception v2 with an eighth of its channels, few proposals and detections."""
    return preset("mask_rcnn_inception_v2_coco").replace(
        **{
            "model.backbone.width": 0.125,
            "model.rpn.channels": 24,
            "model.rpn.anchors.sizes": ((12.0, 24.0, 48.0),),
            "model.rpn.post_nms_train": 40,
            "model.rpn.post_nms_test": 30,
            "model.box.detections_per_image": 20,
            "model.box.detections_per_class": 8,
            "model.box.samples_per_image": 16,
            "model.mask.channels": 8,
            **changes,
        }
    )


def thin_model(**changes: object) -> MaskRCNN:
    model = build_model(thin_config(**changes).model, classes=["square", "circle", "triangle"]).eval()
    with torch.no_grad():
        for layer in (model.rpn.objectness, model.rpn.deltas, model.box_head.class_logits, model.box_head.box_deltas):
            layer.weight.mul_(30)
    return model


KNOBS = [
    {},
    {"model.mask": None},
    {"model.rpn.anchors.border": "clip"},
    {"model.rpn.anchors.border": "keep"},
    {"model.rpn.kernel": 5, "model.rpn.dilation": 2, "model.rpn.convolutions": 2},
    {"model.rpn.score": "sigmoid", "model.rpn.activation": "relu", "model.rpn.channels": None},
    {"model.rpn.clip_after_nms": False, "model.rpn.pre_nms_train": 50, "model.rpn.pre_nms_test": 50},
    {"model.box.clip_after_nms": False, "model.box.limit_log_scale": True},
    {"model.box.candidates_per_image": 60},
    {"model.box.candidates_per_image": 60, "model.box.detections_per_class": None},
    {"model.box.class_agnostic": True, "model.mask.class_agnostic": True},
    {"model.box.dropout": 0.5},
    {"model.box.pooler.kind": "roi_align", "model.box.pooler.max_pool": (1, 1)},
    {"model.mask.resize": None, "model.mask.upsamplings": 1, "model.mask.predictor_kernel": 1},
    {"model.mask.predictor_kernel": 1, "model.mask.paste": "exact"},
]


@pytest.mark.parametrize("changes", KNOBS, ids=lambda changes: ",".join(changes))
def test_every_knob_trains_and_predicts(changes: dict[str, object]):
    model = thin_model(**changes).train()
    losses = model(*batch(), truth())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None} == set()
    with torch.no_grad():
        found = model.eval()(*batch())
    assert found.boxes.shape == (2, 20, 4)
    assert found.valid.any()
    if model.mask_head is not None:
        side = model.mask_head.resolution
        assert found.masks.shape == (2, 20, side, side)


@torch.no_grad()
def test_a_batch_of_equal_sizes_gives_what_each_gives_alone():
    model = thin_model()
    images, _ = batch(3)
    sizes = torch.full((3, 2), 96)
    together = model(images, sizes)
    for i in range(3):
        alone = model(images[i : i + 1], sizes[i : i + 1])
        torch.testing.assert_close(together.boxes[i], alone.boxes[0], atol=1e-3, rtol=0)
        torch.testing.assert_close(together.masks[i], alone.masks[0], atol=1e-3, rtol=0)


@torch.no_grad()
def test_nothing_is_found_outside_the_content_and_no_class_has_too_many():
    images, sizes = batch(3)
    found = thin_model()(images, sizes)
    limit = sizes.flip(1).repeat(1, 2)[:, None].float()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= limit).all()
    sides = found.boxes[..., 2:] - found.boxes[..., :2]
    assert (sides[found.valid] > 0).all()
    for image in range(3):
        assert found.labels[image][found.valid[image]].bincount().max() <= 8
        assert (found.scores[image].diff() <= 0).all()


@torch.no_grad()
def test_folded_norms_give_the_same():
    model = thin_model()
    images, sizes = batch()
    plain, fused = model(images, sizes), fused_copy(model)(images, sizes)
    torch.testing.assert_close(plain.boxes, fused.boxes, atol=1e-2, rtol=0)


def test_anchors_that_leave_the_image_do_not_train():
    model = thin_model()
    images, sizes = batch()
    anchors = torch.cat(model.anchors(model.features(images, sizes), (96, 96)))
    chosen = model.rpn.targets(anchors, truth(), sizes)
    for image in range(2):
        used = anchors[chosen.indices[image][chosen.sampled[image]]]
        height, width = sizes[image].tolist()
        assert len(used)
        assert (used >= 0).all()
        assert (used <= torch.tensor([width, height, width, height])).all()
    everything, inside = model.rpn.on_images(anchors, sizes, train=False)
    assert inside is None
    assert everything.shape == (2, len(anchors), 4)
    assert (everything[0, :, 2] <= sizes[0, 1]).all()


def test_the_difference_of_two_scores_has_their_loss():
    scores = torch.randn(50, 2)
    positive = torch.rand(50) > 0.5
    both = torch.nn.functional.cross_entropy(scores, positive.long(), reduction="none")
    one = torch.nn.functional.binary_cross_entropy_with_logits(
        scores[:, 1] - scores[:, 0], positive.float(), reduction="none"
    )
    torch.testing.assert_close(both, one)


def test_dropout_follows_the_keys_and_is_off_without():
    x, rows, keys = torch.ones(60, 40), torch.arange(60), torch.tensor([3, 9])
    dropped = drop(x, rows, 30, keys, 0.25)
    assert abs(float((dropped == 0).float().mean()) - 0.25) < 0.03
    torch.testing.assert_close(dropped[dropped > 0].unique(), torch.tensor([1 / 0.75]))
    assert torch.equal(drop(x[7:], rows[7:], 30, keys, 0.25), dropped[7:])  # by place, not by order
    assert not torch.equal(drop(x, rows, 30, keys + 1, 0.25), dropped)
    model = thin_model(**{"model.box.dropout": 0.9}).train()
    with torch.no_grad():
        assert torch.equal(model(*batch()).boxes, model.eval()(*batch()).boxes)


def test_a_trunk_without_a_last_stage_of_its_own_is_named():
    with pytest.raises(ConfigError, match="mobilenet_v2"):
        build_model(thin_config(**{"model.backbone.name": "mobilenet_v2"}).model, classes=["a"])
    pyramid = Config().replace(**{"model.backbone.name": "inception_v2"})
    with pytest.raises(ConfigError, match="one map"):
        build_model(pyramid.model, classes=["a"])
