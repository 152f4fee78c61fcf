"""Further box heads: their samples, their gradients, and what they say together."""

from __future__ import annotations

import pytest
import torch

from maskrcnn.errors import ConfigError
from maskrcnn.model.build import fused_copy
from maskrcnn.model.cascade import matched_anew, mean_probabilities, scale_gradient
from maskrcnn.model.content import Canvas
from maskrcnn.ops.boxes import clip, decode
from maskrcnn.structures import LossPart, Proposals, Samples, empty_targets
from tests.model.test_mask_rcnn import assert_same
from tests.model.tiny import batch, tiny_config, tiny_model, truth

CASCADE = {
    "model.box.class_agnostic": True,
    "model.box.cascade": ((0.6, (20.0, 20.0, 10.0, 10.0)), (0.7, (30.0, 30.0, 15.0, 15.0))),
    "model.box.score_threshold": 0.2,
}
EACH = {**CASCADE, "model.mask.each_stage": True}
LOSSES = ["rpn_score", "rpn_box", "class", "box", "class_2", "box_2", "class_3", "box_3"]


@torch.no_grad()
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_boxes_go_from_head_to_head_and_scores_are_averaged(average: str):
    model = tiny_model(**CASCADE, **{"model.box.cascade_average": average, "model.mask": None})
    images, sizes = batch(1)
    features = model.features(images, sizes)
    boxes = truth(1).boxes[:, :3]
    valid = torch.ones(1, 3, dtype=torch.bool)
    found = model.detect(features, Canvas((96, 96), sizes), Proposals(boxes, valid.float(), valid))
    logits = []
    weights_of_heads = [tuple(factor * weight for weight in (10.0, 10.0, 5.0, 5.0)) for factor in (1, 2, 3)]
    for head, weights in zip(model.box_heads, weights_of_heads, strict=True):
        output = model.classify(features, Canvas((96, 96), sizes), boxes, valid, head=head)[2]
        logits.append(output.logits)
        boxes = clip(decode(output.deltas[:, :, 0], boxes, weights), sizes)
    mean = torch.stack([some.softmax(-1) for some in logits]).mean(0)
    if average == "logits":
        mean = (sum(logits) / 3).softmax(-1)
    torch.testing.assert_close(mean_probabilities(logits, average), mean)
    assert found.valid.any()
    for box, score, label in zip(found.boxes[0], found.scores[0], found.labels[0] * found.valid[0], strict=True):
        if score > 0:
            row = (boxes[0] - box).abs().amax(-1).argmin()
            torch.testing.assert_close(boxes[0, row], box)
            torch.testing.assert_close(mean[0, row, label], score)


def test_samples_are_matched_anew_at_the_overlap_of_the_head():
    model = tiny_model(**CASCADE)
    targets = empty_targets(1, 2, 112)
    targets.boxes[0, 0] = torch.tensor([0.0, 0.0, 40.0, 40.0])
    targets.boxes[0, 1] = torch.tensor([60.0, 60.0, 90.0, 90.0])
    targets.labels[0, 0], targets.valid[0, 0], targets.crowd[0, 1] = 2, True, True
    boxes = torch.tensor(
        [
            [
                [0.0, 0.0, 26.0, 40.0],  # overlap 0.65
                [0.0, 0.0, 20.0, 40.0],  # 0.5
                [65.0, 65.0, 80.0, 80.0],  # in the crowd
                [50.0, 10.0, 50.0, 20.0],  # empty
                [0.0, 0.0, 36.0, 40.0],  # 0.9
            ]
        ]
    )
    ones = torch.ones(1, 5, dtype=torch.bool)
    before = Samples(boxes + 1, torch.zeros(1, 5).long(), torch.zeros(1, 5).long(), ones, ones, 2)
    second, third = (matched_anew(head, before, boxes, targets) for head in model.cascade)
    assert second.labels.tolist() == [[2, 2, 3, 3, 3]]  # foreground first
    assert second.boxes[0, :2].tolist() == [boxes[0, 0].tolist(), boxes[0, 4].tolist()]
    assert second.valid.sum() == 3
    assert second.max_foreground == 2
    assert third.foreground.tolist() == [[True, False, False, False, False]]
    assert third.boxes[0, 0].tolist() == boxes[0, 4].tolist()


@pytest.mark.parametrize("changes", [CASCADE, EACH], ids=["one mask head", "three"])
def test_trains_and_predicts(changes: dict[str, object]):
    model = tiny_model(**changes).train()
    losses = model(*batch(), truth())
    masks = ["mask", "mask_2", "mask_3"] if changes is EACH else ["mask"]
    assert list(losses) == LOSSES + masks
    sum(losses.values()).backward()
    assert {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None} == set()
    with torch.no_grad():
        images, sizes = batch()
        found = model.eval()(images, sizes)
        assert found.valid.any()
        assert found.masks.shape == (2, 40, 28, 28)
        assert_same(fused_copy(model)(images, sizes), found, atol=1e-3)


def test_counts_of_micro_batches_add_up():
    model = tiny_model(**EACH)
    images, sizes = batch()
    whole = model(images, sizes, truth(), reduction="sum")
    counts = model.loss_counts(images, sizes, truth())
    assert {name: int(part.count) for name, part in whole.items()} == {name: int(n) for name, n in counts.items()}
    assert all(isinstance(part, LossPart) for part in whole.values())


def test_images_without_objects_train():
    losses = tiny_model(**EACH)(*batch(), empty_targets(2, 8, 112))
    assert losses["mask_3"] == 0
    assert losses["box_2"] == 0
    sum(losses.values()).backward()


def test_a_scaled_gradient():
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x, 1 / 3)
    assert torch.equal(x, y)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.full((5,), 1 / 3))


@pytest.mark.slow
def test_compiles_and_exports_to_one_graph():
    model = tiny_model(**EACH)
    images, sizes = batch()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    expected = model(images, sizes, truth())
    for name, loss in compiled(images, sizes, truth()).items():
        torch.testing.assert_close(loss, expected[name], atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        assert_same(compiled(images, sizes), model(images, sizes))
        assert_same(torch.export.export(model, (images, sizes)).module()(images, sizes), model(images, sizes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.box.cascade": CASCADE["model.box.cascade"]}, "model.box.class_agnostic: must be true"),
        ({**CASCADE, "model.box.cascade": ((1.2, (1.0, 1.0, 1.0, 1.0)),)}, "0 < overlap <= 1"),
        ({"model.mask.each_stage": True}, "model.mask.each_stage: needs the stages"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)
