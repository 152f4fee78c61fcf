"""Equalities of the whole model: batched = single, compiled = eager, exported = eager, compact = padded."""

import pytest
import torch

from maskrcnn.errors import ConfigError
from maskrcnn.model.build import build_model, fused_copy
from maskrcnn.ops import compact
from maskrcnn.presets import preset
from maskrcnn.structures import Detections, LossPart, empty_targets
from tests.model.tiny import batch, tiny_config, tiny_model, truth

LOSSES = ["rpn_score", "rpn_box", "class", "box", "mask"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def assert_same(a: Detections, b: Detections, atol: float = 1e-4) -> None:
    assert torch.equal(a.valid, b.valid)
    assert torch.equal(a.labels, b.labels)
    for name in ("boxes", "scores", "masks"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=1e-4)


@torch.no_grad()
def test_batch_gives_what_each_image_gives_alone(model):
    images, sizes = batch(3)
    together = model(images, sizes)
    assert 5 < together.valid.sum() < together.valid.numel()
    for i in range(3):
        alone = model(images[i : i + 1], sizes[i : i + 1])
        assert_same(alone, together.map(lambda t, i=i: t[i : i + 1]))


@torch.no_grad()
def test_detections_are_sorted_inside_the_content_and_zero_where_invalid(model):
    images, sizes = batch(3)
    found = model(images, sizes)
    for i, (height, width) in enumerate(sizes.tolist()):
        boxes = found.boxes[i, found.valid[i]]
        assert (boxes[:, 0] < boxes[:, 2]).all()
        assert (boxes[:, 1] < boxes[:, 3]).all()
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        assert (found.scores[i].diff() <= 0).all()
    for name in ("boxes", "scores", "labels", "masks"):
        assert (getattr(found, name)[~found.valid] == 0).all()


@torch.no_grad()
def test_what_lies_in_the_padding_does_not_matter(model):
    images, sizes = batch(2)
    dirty = images.clone()
    for image, (height, width) in zip(dirty, sizes.tolist(), strict=True):
        image[:, height:] = 200
        image[:, :, width:] = 77
    assert_same(model(images, sizes), model(dirty, sizes), atol=0)


def test_losses_are_named_scalars_with_gradients(model):
    losses = model(*batch(), truth())
    assert list(losses) == LOSSES
    assert all(loss.shape == () and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.zero_grad()


def test_sums_and_counts_add_up_over_micro_batches(model):
    images, sizes = batch()
    whole = model(images, sizes, truth(), reduction="sum")
    counts = model.loss_counts(images, sizes, truth())
    for i in range(2):
        part = truth().map(lambda t, i=i: t[i : i + 1])
        scaled = model(images[i : i + 1], sizes[i : i + 1], part, counts=counts)
        parts = model(images[i : i + 1], sizes[i : i + 1], part, reduction="sum")
        for name in LOSSES:
            torch.testing.assert_close(scaled[name], parts[name].total / counts[name])
            rest = whole[name].total - parts[name].total, whole[name].count - parts[name].count
            whole[name] = LossPart(*rest)
    for name in LOSSES:
        assert whole[name].count == 0
        assert abs(whole[name].total) < 1e-3


def test_padding_the_truth_changes_nothing(model):
    images, sizes = batch()
    short, long = model(images, sizes, truth(objects=3)), model(images, sizes, truth(objects=70))
    for name in LOSSES:
        torch.testing.assert_close(short[name], long[name])


def test_images_without_objects_train_and_predict(model):
    images, sizes = batch()
    losses = model(images, sizes, empty_targets(2, 8, 112))
    assert losses["mask"] == 0
    assert losses["box"] == 0
    assert losses["rpn_box"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)  # connected: no process hangs
    model.zero_grad()
    nothing = tiny_model(**{"model.box.score_threshold": 0.9999})
    with torch.no_grad():
        found = nothing(images, sizes)
    assert not found.valid.any()
    assert found.masks.shape == (2, 40, 28, 28)


def test_batch_norm_survives_a_batch_without_objects():
    model = tiny_model(**{"model.backbone.norm": "bn", "model.mask.norm": "bn", "model.fpn.norm": "bn"}).train()
    losses = model(*batch(), empty_targets(2, 8, 112))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_three_hundred_objects_in_one_image(model):
    images, sizes = batch(1)
    losses = model(images, sizes, truth(1, objects=304, real=300))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_fixed_shape_equals_compact(model, monkeypatch):
    images, sizes = batch()
    with torch.no_grad():
        found = model(images, sizes)
    losses = model(images, sizes, truth())
    monkeypatch.setattr(compact.torch.compiler, "is_compiling", lambda: True)
    with torch.no_grad():
        assert_same(found, model(images, sizes))
    for name, loss in model(images, sizes, truth()).items():
        torch.testing.assert_close(loss, losses[name])


def check_compiled(model, backend: str, atol: float) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=backend)
    images, sizes = batch()
    expected = model(images, sizes, truth())
    losses = compiled(images, sizes, truth())
    for name in LOSSES:
        torch.testing.assert_close(losses[name], expected[name], atol=atol, rtol=1e-3)
    sum(losses.values()).backward()
    model.zero_grad()
    with torch.no_grad():
        assert_same(compiled(images, sizes), model(images, sizes), atol=atol)
    torch._dynamo.reset()
    assert torch._dynamo.explain(model)(images, sizes, truth()).graph_break_count == 0
    with torch.no_grad():
        assert torch._dynamo.explain(model)(images, sizes).graph_break_count == 0


def test_compiles_to_one_graph(model):
    check_compiled(model, "aot_eager", 1e-4)


@pytest.mark.slow
def test_compiles_with_inductor(model):
    check_compiled(model, "inductor", 1e-3)


@torch.no_grad()
def test_exports(model):
    images, sizes = batch()
    program = torch.export.export(model, (images, sizes))
    assert_same(program.module()(images, sizes), model(images, sizes))


@torch.no_grad()
def test_fused_copy_gives_the_same(model):
    images, sizes = batch()
    assert_same(fused_copy(model)(images, sizes), model(images, sizes), atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.mask": None},
        {"model.mask.loss": "dice"},
        {"model.mask.loss": "bce+dice"},
        {"model.mask.class_agnostic": True, "model.box.class_agnostic": True},
        {"model.mask.upsamplings": 2, "model.mask.convolutions": 2},
        {"model.mask.upsamplings": 0},
        {"model.mask.soft_targets": True},
        {"model.box.convolutions": 2, "model.box.fully_connected": 1, "model.box.norm": "bn"},
        {"model.box.pooler.sampling_ratio": 0, "model.mask.pooler.sampling_ratio": 0},
        {"model.box.pooler.aligned": False, "model.box.pooler.resolution": 5},
        {"model.rpn.post_nms_across_batch": True},
        {"model.rpn.convolutions": 2, "model.rpn.smooth_l1_beta": 0.0},
        {"model.rpn.anchors.sizes": ((16.0, 24.0), (32.0, 48.0), (64.0, 90.0), (96.0, 110.0), (128.0, 200.0))},
        {"model.rpn.anchors.rounded": True, "model.rpn.anchors.stride": "grid"},
        {"model.box.add_truth": False},
        {"model.rpn.low_quality_matches": False},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_every_knob_trains_and_predicts(changes):
    model = tiny_model(**changes).train()
    losses = model(*batch(), truth())
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        found = model.eval()(*batch())
    if model.mask_head is None:
        assert found.masks is None
        assert "mask" not in losses
    else:
        assert found.masks.shape[-1] == model.mask_head.resolution


def test_overfits_two_images():
    torch.manual_seed(0)
    model = build_model(tiny_config(**{"model.backbone.norm": "bn"}).model, classes=["square", "circle", "triangle"])
    images, sizes = batch(2, 64)
    images, sizes = torch.zeros_like(images) + 20, torch.full_like(sizes, 64)
    targets = truth(2, objects=2, real=2)
    targets.boxes[:] = torch.tensor([[[4.0, 4.0, 28.0, 24.0], [34.0, 30.0, 60.0, 58.0]]])
    for i in range(2):  # each object a patch of its own colour, mask = the whole box
        for j in range(2):
            x0, y0, x1, y1 = targets.boxes[i, j].int().tolist()
            images[i, :, y0:y1, x0:x1] = (
                torch.tensor([60 + 150 * j, 240 - 150 * j, 90 * i]).view(3, 1, 1).to(torch.uint8)
            )
    targets.labels[:] = torch.tensor([[0, 1], [1, 2]])
    targets.masks[:] = 255
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    model.train()
    for step in range(60):
        targets.keys[:] = torch.tensor([2 * step, 2 * step + 1])
        loss = sum(model(images, sizes, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.0  # from 3.0
    with torch.no_grad():
        found = model(images, sizes)
    assert found.scores[:, 0].min() > 0.8


def test_weights_depend_on_the_seed_alone():
    config = tiny_config().model
    torch.manual_seed(3)
    a = build_model(config, classes=["x"], seed=5)
    torch.manual_seed(4)
    b = build_model(config, classes=["x"], seed=5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_bad_classes_are_refused():
    with pytest.raises(ConfigError, match="no classes"):
        build_model(preset("shapes").model, classes=[])
    with pytest.raises(ConfigError, match="class 'a' is there twice"):
        build_model(preset("shapes").model, classes=["a", "b", "a"])
