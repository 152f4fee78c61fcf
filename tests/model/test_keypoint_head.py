"""Keypoints: loss, decoding, and a network with boxes, masks and keypoints."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from maskrcnn.config import BackboneConfig, Config, KeypointHeadConfig, PoolerConfig
from maskrcnn.errors import ConfigError
from maskrcnn.model.build import build_model
from maskrcnn.model.foreground import Foreground
from maskrcnn.model.keypoint_head import KeypointHead
from maskrcnn.structures import Detections, KeypointSchema
from tests.model.test_mask_rcnn import assert_same
from tests.model.tiny import batch, pointed, tiny_config, tiny_model, truth

SMALL = {"model.keypoint": KeypointHeadConfig(convolutions=2, channels=8)}


@pytest.fixture(scope="module")
def model():
    return tiny_model(**SMALL)


def test_layers_are_those_of_the_paper():
    head = KeypointHead(32, 17, KeypointHeadConfig())
    assert head(torch.randn(2, 32, 14, 14)).shape == (2, 17, 56, 56)
    assert [tuple(p.shape) for name, p in head.named_parameters() if name.startswith("logits")] == [
        (512, 17, 4, 4),
        (17,),
    ]
    assert sum(name.startswith("convolutions") for name, _ in head.named_parameters()) == 16


def test_loss_counts_visible_points_alone():
    head = KeypointHead(4, 3, KeypointHeadConfig(pooler=PoolerConfig(resolution=2), loss_weight=2.0))
    targets = pointed(truth(1, real=2))
    rows = torch.tensor([0, 0, 1])
    chosen = Foreground(
        rows, targets.boxes[0, rows], torch.zeros(3).long(), rows, rows, torch.tensor([True, False, True])
    )
    cells, visible = head.targets(chosen, targets)
    assert visible.tolist() == [[True, True, False], [False] * 3, [True, True, True]]
    assert cells[2].tolist() == [4, 32, 36]  # of 8 x 8
    logits = torch.randn(3, 3, 8, 8)
    part = head.loss(logits, cells, visible)["keypoint"]
    expected = sum(
        F.cross_entropy(logits[r, k].flatten()[None], cells[r, k][None]) for r, k in visible.nonzero().tolist()
    )
    torch.testing.assert_close(part.total, 2 * expected)
    assert part.count == 5


@torch.no_grad()
@pytest.mark.parametrize("score", ["probability", "logit"])
def test_scores(score: str):
    head = KeypointHead(
        4, 3, KeypointHeadConfig(convolutions=1, channels=4, pooler=PoolerConfig(resolution=3), score=score)
    )
    x = torch.randn(2, 4, 3, 3)
    detections = Detections(
        torch.tensor([[[5.0, 5.0, 60.0, 40.0], [0.0, 0.0, 30.0, 90.0], [0.0] * 4]]),
        torch.ones(1, 3), torch.zeros(1, 3).long(), torch.tensor([[True, True, False]]),
    )  # fmt: skip
    found = head.decode(x, torch.tensor([0, 1]), detections, (96, 96))
    assert (found[0, 2] == 0).all()
    top = F.interpolate(head(x)[:1], size=(35, 55), mode="bicubic")[0].amax((1, 2))
    expected = top if score == "logit" else 1 / (head(x)[0] - top[:, None, None]).exp().sum((1, 2))
    torch.testing.assert_close(found[0, 0, :, 2], expected)


def test_trains_and_predicts(model):
    losses = model(*batch(), pointed(truth()))
    assert list(losses) == ["rpn_score", "rpn_box", "class", "box", "mask", "keypoint"]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.keypoint_head.parameters())
    model.zero_grad()
    with torch.no_grad():
        found = model(*batch())
    assert found.keypoints.shape == (2, 40, 3, 3)
    assert (found.keypoints[~found.valid] == 0).all()
    boxes = found.boxes[found.valid][:, None]
    points = found.keypoints[found.valid][..., :2]
    assert (points >= boxes[..., :2]).all()
    assert (points <= boxes[..., 2:].maximum(boxes[..., :2] + 1)).all()


def test_counts_and_the_loss_without_points(model):
    images, sizes = batch()
    targets = pointed(truth())
    whole = model(images, sizes, targets, reduction="sum")
    counts = model.loss_counts(images, sizes, targets)
    assert {name: int(part.count) for name, part in whole.items()} == {name: int(n) for name, n in counts.items()}
    targets.keypoints[..., 2] = 0
    part = model(images, sizes, targets, reduction="sum")["keypoint"]
    assert part.total == 0
    assert part.total.requires_grad


@pytest.mark.slow
def test_compiles_and_exports_to_one_graph(model):
    images, sizes = batch()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    expected = model(images, sizes, pointed(truth()))
    for name, loss in compiled(images, sizes, pointed(truth())).items():
        torch.testing.assert_close(loss, expected[name], atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        eager = model(images, sizes)
        for other in (compiled(images, sizes), torch.export.export(model, (images, sizes)).module()(images, sizes)):
            assert_same(other, eager)
            torch.testing.assert_close(other.keypoints, eager.keypoints, atol=1e-3, rtol=1e-3)


def test_learns_where_a_point_is():
    head = KeypointHead(1, 1, KeypointHeadConfig(convolutions=1, channels=64, pooler=PoolerConfig(resolution=4)))
    x = torch.zeros(16, 1, 4, 4)
    x.flatten(1)[torch.arange(16), torch.arange(16)] = 1
    inner = torch.arange(4) * 4 + 2
    cells = (inner[:, None] * 16 + inner).view(16, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(60):
        part = head.loss(head(x), cells, torch.ones(16, 1, dtype=torch.bool))["keypoint"]
        optimizer.zero_grad()
        (part.total / part.count).backward()
        optimizer.step()
    found = head(x).flatten(2).argmax(2)
    assert (found // 16 - cells // 16).abs().max() <= 1  # the last enlargement makes equal neighbours
    assert (found % 16 - cells % 16).abs().max() <= 1


def test_the_head_is_built_for_the_points_of_the_data():
    points = KeypointSchema(("a", "b"))
    model = build_model(tiny_config(**SMALL).model, classes=["x"], keypoints=points)
    assert model.keypoint_head.logits.weight.shape[1] == 2
    plain = build_model(tiny_config().model, classes=["x"], keypoints=points)  # keeps the names alone
    assert plain.keypoints == points
    assert plain.keypoint_head is None
    own = plain.state_dict()  # the same seed makes the same other heads
    assert all(value.equal(own[name]) for name, value in model.state_dict().items() if name in own)
    with pytest.raises(ConfigError, match=r"model\.keypoint: finds keypoints, but none are named; take data with"):
        build_model(tiny_config(**SMALL).model, classes=["x"])


def test_needs_a_map_of_the_whole_image():
    one_map = {"model.fpn": None, "model.backbone": BackboneConfig(stride=16), "model.keypoint": KeypointHeadConfig()}
    anchors = {"model.rpn.anchors.sizes": ((32.0, 64.0),), "model.box.fully_connected": 0}
    with pytest.raises(ConfigError, match=r"model\.keypoint: reads a map of the whole image"):
        Config().replace(**one_map, **anchors)
