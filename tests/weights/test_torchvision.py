"""Same weights, same images: torchvision's detections and losses are ours."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss, paste_masks_in_image

from maskrcnn.errors import WeightsError
from maskrcnn.model.box_head import BoxOutput
from maskrcnn.model.content import canvas_of
from maskrcnn.model.rpn import RPNTargets
from maskrcnn.ops.boxes import encode
from maskrcnn.ops.masks import paste_masks
from maskrcnn.structures import Samples, empty_targets
from maskrcnn.weights.torchvision import from_torchvision, load_torchvision, rename

SIZES = [(240, 320), (300, 260), (211, 333)]


def perturb(model: MaskRCNN, seed: int = 1) -> MaskRCNN:
    """Weights that find things: wider predictors, and norms whose epsilon would show."""
    generator = torch.Generator().manual_seed(seed)
    gains = {"cls_score.weight": 9, "bbox_predictor.weight": 3, "rpn.head.cls_logits.weight": 10,
             "rpn.head.bbox_pred.weight": 10, "mask_fcn_logits.weight": 10, "bn3.weight": 0.5}  # fmt: skip
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            for ending, gain in gains.items():
                if name.endswith(ending):
                    value.mul_(gain)
            if name.endswith("cls_score.bias"):
                value[0] += 0.2  # background: leaves 20 to 100 detections above 0.05
    return model.eval()


def pictures(seed: int = 2) -> list[torch.Tensor]:
    """Smooth colour blobs, float 0..1 of whole uint8 steps."""
    generator = torch.Generator().manual_seed(seed)
    noise = (torch.rand(1, 3, 12, 16, generator=generator) for _ in SIZES)
    images = [F.interpolate(n, size=size, mode="bicubic")[0].clamp(0, 1) for n, size in zip(noise, SIZES, strict=True)]
    return [(image * 255).round() / 255 for image in images]


@pytest.fixture(scope="module")
def theirs() -> MaskRCNN:
    torch.manual_seed(0)
    return perturb(
        maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=7, min_size=256, max_size=400, box_score_thresh=0.16
        )
    )


@pytest.fixture(scope="module")
def ours(theirs):
    model = from_torchvision(theirs)
    model.box_head.config = dataclasses.replace(model.box_head.config, score_threshold=0.16)
    return model


def same_order(labels: torch.Tensor, boxes: torch.Tensor, theirs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Our index of each of their detections: scores closer than rounding may swap places."""
    distance = torch.cdist(boxes, theirs["boxes"], p=torch.inf) + 1e6 * (labels[:, None] != theirs["labels"])
    order = distance.argmin(dim=0)
    assert sorted(order.tolist()) == list(range(len(labels)))
    return order


def cut_by_chance(boxes: np.ndarray, within: float = 2e-3) -> np.ndarray:
    """Which of boxes (N, 4), grown for the paste, have a corner within rounding of a whole pixel."""
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * (30 / 28)
    grown = np.concatenate([centre - half, centre + half], axis=1)
    return (np.abs(grown - np.round(grown)) < within).any(axis=1)


def assert_same_masks(ours: np.ndarray, theirs: np.ndarray, boxes: np.ndarray) -> None:
    """(N, H, W) bool each, IoU at least 0.99.

    Their paste cuts the grown box to whole pixels: where a corner lies within rounding of a whole number, one pixel
    more or less is chance, so such masks (at most 5 in 100) are left out.
    """
    chance = cut_by_chance(boxes)
    assert chance.mean() <= 0.05
    common, union = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
    iou = np.where(union > 0, common / np.maximum(union, 1), 1)
    assert (iou[~chance] >= 0.99).all()


@torch.no_grad()
@pytest.mark.parametrize("batch", [[0], [1], [2], [0, 1, 2]])
def test_detections_agree(theirs, ours, batch):
    images = [pictures()[i] for i in batch]
    prepared, _ = theirs.transform(images)
    sizes = torch.tensor(prepared.image_sizes)
    expected = theirs(images)
    scale = torch.tensor(theirs.transform.image_std).view(3, 1, 1)
    shift = torch.tensor(theirs.transform.image_mean).view(3, 1, 1)
    detections = ours((prepared.tensors * scale + shift) * 255, sizes)
    for i, (image, theirs_found) in enumerate(zip(images, expected, strict=True)):
        count = int(detections.valid[i].sum())
        assert count == len(theirs_found["boxes"])
        assert 20 <= count <= 100
        ratio = torch.tensor(image.shape[-2:]) / sizes[i]
        boxes = detections.boxes[i, :count] * torch.stack([ratio[1], ratio[0]] * 2)
        order = same_order(detections.labels[i, :count] + 1, boxes, theirs_found)
        boxes = boxes[order]
        assert torch.equal(detections.labels[i, order] + 1, theirs_found["labels"])
        assert (boxes - theirs_found["boxes"]).abs().max() < 0.05
        assert (detections.scores[i, order] - theirs_found["scores"]).abs().max() < 1e-4
        pasted = paste_masks(detections.masks[i, order].numpy(), boxes.numpy(), tuple(image.shape[-2:]), "torchvision")
        assert_same_masks(pasted >= 0.5, theirs_found["masks"][:, 0].numpy() >= 0.5, boxes.numpy())


@torch.no_grad()
def test_predictor_repeats_their_resize(theirs, ours):
    from maskrcnn.predict.predictor import Predictor

    ours.data = dataclasses.replace(ours.data, min_size=256, max_size=400)
    for image in pictures():
        found = Predictor(ours, device="cpu")((image * 255).round().to(torch.uint8), score_threshold=0.0)
        expected = theirs([image])[0]
        assert len(found) == len(expected["boxes"])
        found = found[same_order(torch.from_numpy(found.labels) + 1, torch.from_numpy(found.boxes), expected).numpy()]
        assert found.labels.tolist() == (expected["labels"] - 1).tolist()
        np.testing.assert_allclose(found.boxes, expected["boxes"].numpy(), atol=0.05)
        np.testing.assert_allclose(found.scores, expected["scores"].numpy(), atol=1e-4)
        assert_same_masks(found.masks, expected["masks"][:, 0].numpy() >= 0.5, found.boxes)


def test_losses_agree_given_their_matches_and_samples(theirs, ours):
    images = pictures()
    generator = torch.Generator().manual_seed(3)
    truth = []
    for image in images:
        height, width = image.shape[-2:]
        corner = torch.rand(6, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
        side = torch.rand(6, 2, generator=generator) * 80 + 15
        boxes = torch.cat([corner, corner + side], 1)
        masks = torch.zeros(6, height, width, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0 : (x0 + x1) // 2] = 1
        truth.append({"boxes": boxes, "labels": torch.randint(1, 7, (6,), generator=generator), "masks": masks})
    prepared, resized = theirs.transform(images, truth)
    targets = empty_targets(3, 6, 0)
    for i, t in enumerate(resized):
        targets.boxes[i], targets.labels[i], targets.valid[i] = t["boxes"], t["labels"] - 1, True

    features = list(theirs.backbone(prepared.tensors).values())
    logits, deltas = ours.rpn(features)
    logits, deltas = torch.cat(logits, 1), torch.cat(deltas, 1)
    # RPN: their anchors, matches and samples; our loss on our outputs, their loss on theirs.
    anchors = theirs.rpn.anchor_generator(prepared, features)
    labels, matched = theirs.rpn.assign_targets_to_anchors(anchors, resized)
    torch.manual_seed(0)
    positive, negative = theirs.rpn.fg_bg_sampler(labels)
    chosen = [torch.cat([p.nonzero()[:, 0], n.nonzero()[:, 0]]) for p, n in zip(positive, negative, strict=True)]
    indices = torch.stack(chosen)  # 256 each
    goal = torch.stack([m[c] for m, c in zip(matched, chosen, strict=True)])
    is_positive = torch.stack([label[c] == 1 for label, c in zip(labels, chosen, strict=True)])
    rpn_targets = RPNTargets(
        indices,
        is_positive,
        torch.ones_like(is_positive),
        encode(goal, anchors[0][indices], ours.rpn.config.box_weights),
    )
    parts = ours.rpn.loss(*ours.rpn.at(features, indices), rpn_targets)
    torch.manual_seed(0)
    regression = [theirs.rpn.box_coder.encode(matched, anchors)][0]
    score_loss, box_loss = theirs.rpn.compute_loss(logits.reshape(-1, 1), deltas.reshape(-1, 4), labels, regression)
    assert abs(parts["rpn_score"].total / parts["rpn_score"].count - score_loss) < 1e-4
    assert abs(parts["rpn_box"].total / parts["rpn_box"].count - box_loss) < 1e-4

    # Heads: their samples.
    theirs.train()
    proposals, _ = theirs.rpn(prepared, dict(enumerate(features)), resized)
    proposals, matched_index, head_labels, head_regression = theirs.roi_heads.select_training_samples(
        [p.detach() for p in proposals], resized
    )
    theirs.eval()
    named = {str(i): f for i, f in enumerate(features[:4])} | {"pool": features[4]}
    pooled = theirs.roi_heads.box_roi_pool(named, proposals, prepared.image_sizes)
    class_logits, box_deltas = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(pooled))
    class_loss, box_loss = fastrcnn_loss(class_logits, box_deltas, head_labels, head_regression)
    labels_here = torch.stack(head_labels)
    samples = Samples(
        boxes=torch.stack(proposals),
        labels=torch.where(labels_here > 0, labels_here - 1, 6),
        matched=torch.stack(matched_index),
        foreground=labels_here > 0,
        valid=torch.ones_like(labels_here, dtype=torch.bool),
    )
    assert samples.foreground.sum() > 5
    canvas = canvas_of(prepared.tensors, torch.tensor(prepared.image_sizes))
    _, _, output = ours.classify(features, canvas, samples.boxes, samples.valid)
    assert isinstance(output, BoxOutput)
    parts = ours.box_head.loss(output, samples, targets)
    assert abs(parts["class"].total / parts["class"].count - class_loss) < 1e-4
    assert abs(parts["box"].total / parts["box"].count - box_loss) < 1e-4

    # Masks: their targets, RoIAligned from full-size masks.
    positive_boxes = [p[label > 0] for p, label in zip(proposals, head_labels, strict=True)]
    positive_index = [m[label > 0] for m, label in zip(matched_index, head_labels, strict=True)]
    pooled = theirs.roi_heads.mask_roi_pool(named, positive_boxes, prepared.image_sizes)
    mask_logits = theirs.roi_heads.mask_predictor(theirs.roi_heads.mask_head(pooled))
    expected = maskrcnn_loss(
        mask_logits, positive_boxes, [t["masks"] for t in resized], [t["labels"] for t in resized], positive_index
    )
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    target = torch.cat(
        [project_masks_on_boxes(t["masks"], b, i, 28)
         for t, b, i in zip(resized, positive_boxes, positive_index, strict=True)]
    )  # fmt: skip
    image_index = torch.cat([torch.full((len(b),), i) for i, b in enumerate(positive_boxes)])
    labels_of = torch.cat([t["labels"][i] - 1 for t, i in zip(resized, positive_index, strict=True)])
    ours_logits = ours.mask_head(ours.see_masks(features, canvas, torch.cat(positive_boxes), image_index), labels_of)
    part = ours.mask_head.loss(ours_logits, target, torch.ones(len(target), dtype=torch.bool))["mask"]
    assert abs(part.total / part.count - expected) < 1e-4


def test_paste_convention_is_theirs():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 28, 28, generator=generator)
    corner = torch.rand(5, 2, generator=generator) * 60 - 10
    boxes = torch.cat([corner, corner + torch.rand(5, 2, generator=generator) * 50 + 0.3], 1)
    expected = paste_masks_in_image(masks[:, None], boxes, (64, 80))[:, 0].numpy()
    np.testing.assert_allclose(paste_masks(masks.numpy(), boxes.numpy(), (64, 80), "torchvision"), expected, atol=1e-5)


def test_old_spellings_are_known():
    assert rename("backbone.fpn.inner_blocks.1.weight") == rename("backbone.fpn.inner_blocks.1.0.weight")
    assert rename("rpn.head.conv.bias") == rename("rpn.head.conv.0.0.bias")
    assert rename("roi_heads.mask_head.mask_fcn1.weight") == rename("roi_heads.mask_head.0.0.weight")


def test_file_round_trip_and_messages(theirs, ours, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(theirs.state_dict(), path)
    loaded = load_torchvision(path, classes=list("abcdef"))
    assert loaded.classes == tuple("abcdef")
    for (name, a), b in zip(loaded.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(WeightsError, match="has 6 classes besides the background, but 2 names"):
        load_torchvision(path, classes=["a", "b"])
    with pytest.raises(WeightsError, match=r"nowhere\.pth: no such file"):
        load_torchvision(tmp_path / "nowhere.pth")
    path.write_text("<html>")
    with pytest.raises(WeightsError, match="a web page, not weights"):
        load_torchvision(path)
    path.write_text("weights")
    with pytest.raises(WeightsError, match="plain text, not weights"):
        load_torchvision(path)
    torch.save({"features.0.0.weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"a trunk without detector \(tensor 'features\.0\.0\.weight'\)"):
        load_torchvision(path)
    state = theirs.state_dict()
    torch.save({**state, "backbone.body.0.0.weight": torch.zeros(3)}, path)
    with pytest.raises(
        WeightsError, match=r"its trunk \(tensor 'backbone\.features\.0\.0\.weight', 1 blocks\) is none"
    ):
        load_torchvision(path)
    torch.save({name: value for name, value in state.items() if "bbox_pred" not in name}, path)
    with pytest.raises(
        WeightsError, match=r"not a whole .*'roi_heads\.box_predictor\.bbox_pred\.weight' and 1 more are"
    ):
        load_torchvision(path)
