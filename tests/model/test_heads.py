"""Anchors, RPN, box and mask head on their own."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from maskrcnn.model.anchors import Anchors, cell_anchors
from maskrcnn.model.content import canvas_of
from maskrcnn.model.losses import mask_bce, mask_dice, masked_sum, smooth_l1
from maskrcnn.model.mask_head import own_logits, resample, upsampled_logits
from maskrcnn.model.rpn import RPNTargets
from maskrcnn.ops.crop_and_resize import crops_of_full_masks
from maskrcnn.ops.matching import gather
from maskrcnn.structures import LossPart, Proposals, empty_targets
from tests.model.tiny import batch, tiny_model, truth

SIZES = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
RATIOS = (0.5, 1.0, 2.0)


@pytest.mark.parametrize("padded", [(256, 416), (224, 320)])
def test_anchors_equal_torchvision(padded):
    features = [torch.zeros(1, 1, -(-padded[0] // 2**i), -(-padded[1] // 2**i)) for i in range(2, 7)]
    ours = Anchors(SIZES, RATIOS, rounded=True, grid_stride=True)(features, padded)
    theirs = AnchorGenerator(SIZES, (RATIOS,) * 5)(ImageList(torch.zeros(1, 3, *padded), [padded]), features)
    assert torch.equal(torch.cat(ours), theirs[0])


def test_exact_anchors_have_their_area_and_ratio():
    cell = cell_anchors((32.0, 50.0), RATIOS, rounded=False)
    sides = cell[:, 2:] - cell[:, :2]
    torch.testing.assert_close(sides.prod(1).sqrt(), torch.tensor([32.0, 50.0] * 3))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor(RATIOS).repeat_interleave(2))


def test_smooth_l1_equals_torch():
    a, b = torch.randn(50), torch.randn(50)
    for beta in (1 / 9, 1.0):
        expected = torch.nn.functional.smooth_l1_loss(a, b, beta=beta, reduction="none")
        torch.testing.assert_close(smooth_l1(a, b, beta), expected)
    assert torch.equal(smooth_l1(a, b, 0.0), (a - b).abs())


def test_mask_losses_by_hand():
    target = torch.zeros(2, 4, 4)
    target[0, :2] = 1
    sure = (target * 2 - 1) * 30
    assert mask_bce(sure, target).max() < 1e-6
    assert mask_dice(sure, target).max() < 1e-6
    torch.testing.assert_close(mask_bce(torch.zeros(2, 4, 4), target), torch.full((2,), 0.6931), atol=1e-4, rtol=0)
    assert mask_dice(-sure, target)[0] > 0.9


def test_masked_infinity_does_not_leak():
    values = torch.tensor([[1.0, float("inf")], [2.0, float("nan")]])
    assert masked_sum(values, torch.tensor([[True, False], [True, False]])) == 3


@torch.no_grad()
def test_proposals_of_a_batch_compete_when_asked():
    images, sizes = batch(2)
    alone, shared = tiny_model(), tiny_model(**{"model.rpn.post_nms_across_batch": True})
    found = []
    for model in (alone, shared):
        features = model.features(images, sizes)
        logits, deltas = model.rpn(features)
        found.append(model.rpn.decode(logits, deltas, model.anchors(features, (96, 96)), sizes, train=False))
    assert found[0].valid.sum() == 2 * 60
    assert found[1].valid.sum() == 60
    best = found[0].scores.flatten().sort(descending=True).values[:60]
    torch.testing.assert_close(found[1].scores[found[1].valid].sort(descending=True).values, best)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"convolutions": 2},
        {"kernel": 5, "channels": 12},
        {"dilation": 2, "activation": "relu6", "score": "softmax"},
        {"kernel": 1},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_rpn_at_some_anchors_equals_all_anchors_there(changes):
    model = tiny_model(**{f"model.rpn.{name}": value for name, value in changes.items()})
    images, sizes = batch(2)
    features = [f.detach().requires_grad_() for f in model.features(images, sizes)]
    anchors = [3 * f.shape[2] * f.shape[3] for f in features]
    total = sum(anchors)
    # Every level and its corners, some anchors twice.
    ends = torch.tensor(anchors).cumsum(0)
    indices = torch.cat([torch.arange(total - 60, total), ends - 1, ends % total, torch.arange(0, total, 7)])
    indices = torch.stack([indices, indices.flip(0)])
    inputs = [*features, *model.rpn.parameters()]
    results = []
    for found in (model.rpn.at(features, indices), [torch.cat(part, 1) for part in model.rpn(features)]):
        logits, deltas = (part if part.shape[1] == indices.shape[1] else gather(part, indices) for part in found)
        loss = logits.square().sum() + deltas.sin().sum()
        results.append([logits, deltas, *torch.autograd.grad(loss, inputs)])
    for some, everything in zip(*results, strict=True):
        scale = float(everything.detach().abs().max()) + 1e-6
        torch.testing.assert_close(some / scale, everything / scale, atol=1e-5, rtol=0)


def test_rpn_samples_half_positive_at_most_and_all_objects_get_one():
    model = tiny_model()
    images, sizes = batch()
    anchors = torch.cat(model.anchors(model.features(images, sizes), (96, 96)))
    chosen = model.rpn.targets(anchors, truth(), sizes)
    assert isinstance(chosen, RPNTargets)
    assert (chosen.sampled.sum(1) == 256).all()
    assert (chosen.positive.sum(1) <= 128).all()
    assert (chosen.positive.sum(1) >= 3).all()
    again = model.rpn.targets(anchors, truth(), sizes)
    assert torch.equal(chosen.indices, again.indices)  # the same key, the same choice
    other = truth()
    other.keys += 1000
    assert not torch.equal(chosen.indices, model.rpn.targets(anchors, other, sizes).indices)


def test_box_samples_put_foreground_first_and_carry_the_match():
    model, targets = tiny_model(), truth()
    boxes = torch.cat([targets.boxes[:, :3] + 1, torch.tensor([[70.0, 70.0, 90.0, 90.0]]).expand(2, 20, 4)], 1)
    proposals = Proposals(boxes, torch.ones(2, 23), torch.ones(2, 23, dtype=torch.bool))
    samples = model.box_head.targets(proposals, targets)
    assert samples.boxes.shape == (2, 31 if samples.boxes.shape[1] == 31 else samples.boxes.shape[1], 4)
    count = samples.foreground.sum(1)
    assert (count == 6).all()  # three shifted proposals, three true boxes
    for i in range(2):
        assert samples.foreground[i, :6].all()
        assert torch.equal(samples.labels[i, :6], targets.labels[i, samples.matched[i, :6]])
        assert (samples.labels[i][samples.valid[i] & ~samples.foreground[i]] == 3).all()  # background is last
    assert (samples.valid.sum(1) == 26).all()


def test_crowd_proposals_are_not_background():
    model = tiny_model(**{"model.box.add_truth": False})
    targets = empty_targets(1, 2, 112)
    targets.boxes[0, 0] = torch.tensor([0.0, 0.0, 50.0, 50.0])
    targets.crowd[0, 0] = True
    boxes = torch.tensor([[[5.0, 5.0, 20.0, 20.0], [60.0, 60.0, 90.0, 90.0]]])
    samples = model.box_head.targets(Proposals(boxes, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)), targets)
    assert samples.boxes[0, samples.valid[0]].tolist() == [[60, 60, 90, 90]]


def disc(size: int) -> torch.Tensor:
    """(size, size) float32, 1 inside a blob that touches the border."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size * 2 - 1] * 2, indexing="ij")
    return ((x**2 + y**2 <= 1) & ~((x > 0.1) & (y.abs() < 0.2))).float()


def test_mask_targets_equal_aligned_roi_align_of_the_full_mask():
    generator = torch.Generator().manual_seed(0)
    full = torch.zeros(1, 1, 200, 260)
    side = 112
    full[0, 0, 40 : 40 + side, 60 : 60 + side] = disc(side)
    crop_box = torch.tensor([[60.0, 40.0, 172.0, 152.0]]).expand(40, 4)
    boxes = crop_box + (torch.rand(40, 4, generator=generator) - 0.5) * 50
    ours = resample(disc(side).expand(40, -1, -1), crop_box, boxes, 28)
    theirs = roi_align(full, [boxes], 28, aligned=True)[:, 0]
    difference = (ours - theirs).abs().mean(dim=(1, 2))
    assert difference.max() <= 0.02
    assert ((ours >= 0.5) != (theirs >= 0.5)).float().mean() <= 0.02


def test_resample_of_a_box_onto_itself_averages_the_crop():
    crop = disc(112)[None]
    box = torch.tensor([[10.0, 20.0, 45.0, 70.0]])
    mean = torch.nn.functional.avg_pool2d(crop[None], 4)[0]
    torch.testing.assert_close(resample(crop, box, box, 28), mean, atol=1e-5, rtol=0)


def test_mask_logits_of_the_last_deconvolution_equal_the_plain_layers():
    deconvolution = torch.nn.ConvTranspose2d(6, 5, 2, stride=2)
    x, weight = torch.randn(4, 6, 3, 3, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    inputs = [x, weight, *deconvolution.parameters()]
    ours = upsampled_logits(x, deconvolution, weight)
    plain = torch.einsum("rchw,rc->rhw", deconvolution(x).relu(), weight)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
def test_logits_of_the_own_class_are_those_of_the_whole_convolution(kernel):
    x = torch.randn(6, 4, 7, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, labels = torch.randn(5, 4, kernel, kernel, requires_grad=True), torch.randint(0, 5, (6,))
    ours = own_logits(x, weight[labels])
    plain = torch.nn.functional.conv2d(x, weight, padding=kernel // 2)[torch.arange(6), labels]
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (x, weight)) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_mask_targets_with_cells_on_the_border_equal_crop_and_resize_of_the_full_mask():
    """Within a pixel of the mask's outline, which TensorFlow moves by up to half a pixel."""
    side = 112
    full = torch.zeros(1, 400, 520)
    full[0, 80 : 80 + 2 * side, 120 : 120 + 2 * side] = disc(2 * side)
    crop_box = torch.tensor([[120.0, 80.0, 344.0, 304.0]]).expand(40, 4)
    boxes = crop_box + (torch.rand(40, 4) - 0.5) * 100
    ours = resample(disc(side).expand(40, -1, -1), crop_box, boxes, 33, corners=True)
    matched = torch.zeros(40, dtype=torch.int64)
    theirs = crops_of_full_masks(full, boxes, matched, frame=(400, 520), resolution=33)
    assert (ours - theirs).abs().mean() < 0.01
    centred = resample(disc(side).expand(40, -1, -1), crop_box, boxes, 33)
    assert (centred - theirs).abs().mean() > 2 * (ours - theirs).abs().mean()


def test_mask_loss_without_foreground_is_a_connected_zero():
    model, targets = tiny_model(), empty_targets(2, 4, 112)
    proposals = Proposals(
        torch.rand(2, 5, 4) * 30 + torch.tensor([0, 0, 40, 40]), torch.ones(2, 5), torch.ones(2, 5) > 0
    )
    chosen = model.mask_head.foreground(model.box_head.targets(proposals, targets))
    seen = model.see_masks(model.features(*batch()), canvas_of(*batch()[:2]), chosen.boxes, chosen.image_index)
    part = model.mask_head.train_on(seen, chosen, targets)["mask"]
    assert isinstance(part, LossPart)
    assert part.total == 0
    assert part.count == 0
    part.total.backward()
    assert model.mask_head.logits.weight.grad is not None
