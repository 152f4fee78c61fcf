"""Content in the middle, boxes that end at their last pixel, one list of proposals, one class a proposal."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.config import DataConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.box_head import BoxOutput
from maskrcnn.model.content import Canvas, content_mask, detection_limits, enter, leave, proposal_limits
from maskrcnn.structures import Proposals
from tests.model.test_mask_rcnn import assert_same
from tests.model.tiny import batch, tiny_config, tiny_model, truth

CENTRE = DataConfig(pad_place="centre", pad_value="black")
CROPS = {"kind": "crop_and_resize", "levels": "round"}
MATTERPORT = {
    **{f"model.{head}.pooler.{name}": value for head in ("box", "mask") for name, value in CROPS.items()},
    "model.inclusive": True,
    "model.rpn.pool": "image",
    "model.rpn.score": "softmax",
    "model.rpn.min_size": 0.0,
    "model.rpn.limit_log_scale": False,
    "model.box.classes_per_box": "best",
    "model.box.score_threshold": 0.2,
    "data.pad_place": "centre",
    "data.pad_value": "black",
}


def test_the_content_lies_in_the_middle():
    sizes = torch.tensor([[5, 8], [4, 3]])
    inside = content_mask(sizes, (8, 8), CENTRE)[:, 0]
    assert inside.sum(dim=(1, 2)).tolist() == [40, 12]
    assert inside[0, 1:6].all()  # (8 - 5) // 2 = 1 row above
    assert inside[1, 2:6, 2:5].all()
    assert detection_limits(sizes, (8, 8), CENTRE, inclusive=False).tolist() == [[0, 1, 8, 6], [2, 2, 5, 6]]
    assert detection_limits(sizes, (8, 8), CENTRE, inclusive=True).tolist() == [[0, 1, 7, 5], [2, 2, 4, 5]]
    assert proposal_limits(sizes, (8, 8), CENTRE, inclusive=True).tolist() == [[7, 7], [7, 7]]
    assert proposal_limits(sizes, (8, 8), DataConfig(), inclusive=False) is sizes


def test_boxes_enter_and_leave():
    box = torch.tensor([[3.0, 4.0, 10.0, 12.0]])
    assert enter(box, inclusive=True).tolist() == [[3.0, 4.0, 9.0, 11.0]]
    assert torch.equal(leave(enter(box, inclusive=True), inclusive=True), box)
    assert enter(box, inclusive=False) is box


@torch.no_grad()
def test_black_padding_is_minus_the_mean():
    model = tiny_model(**{"data.pad_value": "black"})
    images, _ = batch(1)
    x = model.normalise(images, torch.tensor([[40, 50]]))
    torch.testing.assert_close(x[0, :, 60, 60], (-model.mean / model.std).flatten())
    y = tiny_model().normalise(images, torch.tensor([[40, 50]]))
    torch.testing.assert_close(x[..., :40, :50], y[..., :40, :50])
    assert (y[..., 60, 60] == 0).all()


@torch.no_grad()
def test_proposals_of_all_levels_compete():
    images, sizes = batch(1)
    found = []
    for pool in ("levels", "image"):
        model = tiny_model(**{"model.rpn.pool": pool, "model.rpn.pre_nms_test": 30})
        features = model.features(images, sizes)
        logits, deltas = model.rpn(features)
        anchors, canvas = model.anchors_of(features, (96, 96)), Canvas((96, 96), sizes)
        proposals = model.propose(logits, deltas, anchors, canvas, train=False)
        found.append(int(proposals.valid.sum()))
    assert found[1] <= 30 < found[0]


@torch.no_grad()
def test_the_best_class_alone_and_the_threshold_included():
    model = tiny_model(**{"model.box.classes_per_box": "best", "model.box.score_threshold": 0.4, "model.mask": None})
    p = torch.tensor([[[0.4, 0.35, 0.2, 0.05], [0.41, 0.0, 0.0, 0.59], [0.1, 0.2, 0.6, 0.1], [0.39, 0.2, 0.2, 0.21]]])
    boxes = torch.tensor(
        [[[0.0, 0.0, 9.0, 9.0], [20.0, 0.0, 29.0, 9.0], [40.0, 0.0, 49.0, 9.0], [60.0, 0.0, 69.0, 9.0]]]
    )
    valid = torch.ones(1, 4, dtype=torch.bool)
    output = BoxOutput(p.log(), torch.zeros(1, 4, 3, 4))
    sizes = torch.tensor([[96, 96]])
    found = model.box_head.decode(output, Proposals(boxes, valid.float(), valid), sizes, probabilities=p)
    assert found.valid.sum() == 2
    assert found.labels[0, :2].tolist() == [2, 0]
    assert found.boxes[0, :2, 0].tolist() == [40.0, 0.0]
    flat = Proposals(boxes[..., [0, 1, 0, 3]], valid.float(), valid)  # without width
    assert not model.box_head.decode(output, flat, sizes, probabilities=p).valid.any()
    assert model.box_head.decode(output, flat, sizes, probabilities=p, flat=True).valid.sum() == 2


def test_all_of_it_trains_predicts_and_exports():
    model = tiny_model(**MATTERPORT)
    images, sizes = batch()
    losses = model(images, sizes, truth())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    counts = model.loss_counts(images, sizes, truth())
    assert set(counts) == set(losses)
    with torch.no_grad():
        found = model(images, sizes)
        assert found.valid.any()
        limits = detection_limits(sizes, (96, 96), CENTRE, inclusive=False)[:, None].float()
        boxes = torch.where(found.valid[..., None], found.boxes, limits)
        assert (boxes >= limits[..., [0, 1, 0, 1]]).all()
        assert (boxes <= limits[..., [2, 3, 2, 3]]).all()
        assert (found.boxes[~found.valid] == 0).all()
        assert_same(torch.export.export(model, (images, sizes)).module()(images, sizes), found)


@pytest.mark.slow
def test_compiles_to_one_graph():
    model = tiny_model(**MATTERPORT)
    images, sizes = batch()
    expected = model(images, sizes, truth())
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    for name, loss in compiled(images, sizes, truth()).items():
        torch.testing.assert_close(loss, expected[name], atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        assert_same(compiled(images, sizes), model(images, sizes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.inclusive": True}, "model.inclusive: needs a pyramid and crop_and_resize"),
        ({"model.box.pooler.levels": "round"}, "model.box.pooler.levels: round needs"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)
