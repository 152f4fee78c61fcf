"""Each stage of a thin Inception v2 against the TensorFlow Object Detection API, fed what that gave before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrcnn.data.resize import resize_image, resized_size
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.model.box_head import BoxOutput
from maskrcnn.model.build import build_model
from maskrcnn.model.content import Canvas
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.roi_features import from_map
from maskrcnn.ops.compact import put, take
from maskrcnn.ops.crop_and_resize import crops_of_full_masks
from maskrcnn.ops.masks import crop_masks, paste_masks, roi_masks_to_rle
from maskrcnn.ops.rle import decode_rle, encode_mask
from maskrcnn.presets import preset
from maskrcnn.structures import RLE, Detections, Proposals, Targets, empty_targets
from maskrcnn.weights.tensorflow.names import variables_to_state

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden(data_dir: Path) -> Path:
    folder = data_dir.parent / "oracles" / "tensorflow" / "tiny_inception_v2"
    if not folder.is_dir():
        pytest.skip(f"the thin TensorFlow model is not at {folder}")
    return folder


def arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def build(golden: Path, **changes: object) -> MaskRCNN:
    config = preset("mask_rcnn_inception_v2_coco").replace(
        **{
            "model.backbone.width": 0.0625,
            "model.backbone.min_width": 8,
            "model.rpn.channels": 16,
            "model.rpn.post_nms_test": 20,
            "model.box.detections_per_class": 10,
            "model.box.detections_per_image": 20,
            "model.mask.channels": 8,
            "data.min_size": 96,
            "data.max_size": 128,
            **changes,
        }
    )
    model = build_model(config.model, classes=["one", "two", "three"], data=config.data).eval()
    missing, unexpected = model.load_state_dict(
        variables_to_state(arrays(golden / "variables.npz"), "inception_v2"), strict=False
    )
    assert (missing, unexpected) == (["mean", "std"], [])
    return model


@pytest.fixture(scope="module")
def model(golden: Path) -> MaskRCNN:
    return build(golden)


@pytest.fixture(scope="module", params=["case0", "case1"])
def case(golden: Path, request: pytest.FixtureRequest) -> Arrays:
    return arrays(golden / f"{request.param}.npz")


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def maps(array: np.ndarray) -> Tensor:
    """NHWC -> NCHW."""
    return tensor(array).permute(0, 3, 1, 2)


def boxes(array: np.ndarray) -> Tensor:
    """y, x -> x, y; deltas too."""
    return tensor(array)[..., [1, 0, 3, 2]].contiguous()


def frame(case: Arrays) -> tuple[int, int]:
    return case["preprocessed"].shape[1], case["preprocessed"].shape[2]


def canvas(case: Arrays) -> Canvas:
    return Canvas(frame(case), torch.tensor([frame(case)]))


def rpn_output(case: Arrays) -> tuple[list[Tensor], list[Tensor]]:
    scores = tensor(case["rpn_objectness_predictions_with_background"])
    return [scores[..., 1] - scores[..., 0]], [boxes(case["rpn_box_encodings"])]


def proposals(case: Arrays) -> Proposals:
    found = boxes(case["proposal_boxes"])
    valid = torch.arange(found.shape[1])[None] < int(case["num_proposals"][0])
    return Proposals(found, valid.float(), valid)


def detections(case: Arrays) -> Detections:
    height, width = frame(case)
    found = boxes(case["detection_boxes"]) * torch.tensor([width, height, width, height])
    valid = torch.arange(found.shape[1])[None] < int(case["num_detections"][0])
    labels = tensor(case["detection_classes"]).long()
    return Detections(found, tensor(case["detection_scores"]), labels, valid, tensor(case["detection_masks"]))


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


# ---------------------------------------------------------------- one stage at a time


def test_the_image_is_resized_and_normalised(model: MaskRCNN, case: Arrays) -> None:
    image = to_image_tensor(case["image"])
    size = resized_size(image.shape[1], image.shape[2], model.data)
    assert size == frame(case)
    resized = resize_image(image, size, model.data.interpolation)
    close(model.normalise(resized[None], torch.tensor([size])), maps(case["preprocessed"]), 1e-6)


@torch.no_grad()
def test_rpn(model: MaskRCNN, case: Arrays) -> None:
    logits, deltas = model.rpn([maps(case["rpn_features_to_crop"])])
    expected = rpn_output(case)
    close(logits[0], expected[0][0], 1e-4)
    close(deltas[0], expected[1][0], 1e-4)


@torch.no_grad()
def test_anchors_and_proposals(model: MaskRCNN, case: Arrays) -> None:
    sizes = torch.tensor([frame(case)])
    anchors = model.anchors([maps(case["rpn_features_to_crop"])], frame(case))
    cut, _ = model.rpn.on_images(anchors[0], sizes, train=False)
    close(cut[0], boxes(case["anchors"]), 1e-4)
    found, expected = model.rpn.decode(*rpn_output(case), anchors, sizes, train=False), proposals(case)
    assert torch.equal(found.valid, expected.valid)
    close(found.boxes, expected.boxes, 0.05)


@torch.no_grad()
def test_crops_and_stage_two(model: MaskRCNN, case: Arrays) -> None:
    found = proposals(case).boxes[0]
    image = torch.zeros(len(found), dtype=torch.int64)
    pooler, feature = model.config.box.pooler, maps(case["rpn_features_to_crop"])
    crops = from_map(feature, found, image, pooler, stride=16, sizes=torch.tensor([frame(case)]))
    close(crops[:8], maps(case["crops_stage2_first8"]), 1e-4)
    close(crops.mean(dim=(2, 3)), tensor(case["crops_stage2_spatial_mean"]), 1e-4)
    seen = model.see_boxes([feature], canvas(case), found, image)
    expected = tensor(case["head_features_stage2_spatial_mean"])
    close(seen.mean(dim=(2, 3)) / expected.abs().max(), expected / expected.abs().max(), 1e-3)


@torch.no_grad()
def test_box_head_and_its_postprocessing(model: MaskRCNN, case: Arrays) -> None:
    found = proposals(case)
    everything = torch.ones_like(found.valid)
    _, _, output = model.classify([maps(case["rpn_features_to_crop"])], canvas(case), found.boxes, everything)
    expected = BoxOutput(
        tensor(case["class_predictions_with_background"]).roll(-1, -1)[None], boxes(case["refined_box_encodings"])[None]
    )
    close(output.logits, expected.logits, 1e-4)
    close(output.deltas, expected.deltas, 1e-4)
    decoded, wanted = model.box_head.decode(expected, found, torch.tensor([frame(case)])), detections(case)
    assert torch.equal(decoded.labels, wanted.labels)
    assert torch.equal(decoded.valid, wanted.valid)
    close(decoded.boxes, wanted.boxes, 0.05)
    close(decoded.scores, wanted.scores, 1e-4)


@torch.no_grad()
def test_masks(model: MaskRCNN, case: Arrays) -> None:
    found = detections(case)
    rows = torch.arange(found.valid.numel())
    seen = model.see_masks([maps(case["rpn_features_to_crop"])], canvas(case), found.boxes[0], torch.zeros_like(rows))
    assert model.mask_head is not None
    masks = model.mask_head.decode(seen, rows, found)
    assert found.masks is not None
    close(masks[found.valid], found.masks[found.valid], 1e-3)


def test_full_masks_are_equal_pixel_by_pixel(case: Arrays) -> None:
    height, width = case["image"].shape[:2]
    found = boxes(case["detection_boxes"])[0].numpy() * np.array([width, height, width, height], np.float32)
    expected = np.unpackbits(case["full_masks_packed"], axis=2)[:, :, :width].astype(bool)
    masks = case["detection_masks"][0]
    ours = np.stack([decode_rle(rle) for rle in roi_masks_to_rle(masks, found, (height, width), 0.5, "tensorflow")])
    assert (ours != expected).sum() == 0
    pasted = paste_masks(masks[:4], found[:4], (height, width), "tensorflow")
    np.testing.assert_allclose(pasted, case["full_masks_prob_first4"], atol=1e-4)


# ---------------------------------------------------------------- everything after one another


@torch.no_grad()
def test_from_the_image_to_the_masks(model: MaskRCNN, case: Arrays) -> None:
    image = resize_image(to_image_tensor(case["image"]), frame(case), model.data.interpolation)
    found, expected = model(image[None], torch.tensor([frame(case)])), detections(case)
    close(found.boxes, expected.boxes, 0.05)
    close(found.scores, expected.scores, 1e-4)
    assert torch.equal(found.labels, expected.labels)
    assert found.masks is not None
    assert expected.masks is not None
    apart = (found.masks - expected.masks).abs().amax(dim=(2, 3))[expected.valid]
    # The last bit decides whether the outer samples of a box that ends with the image are read: one mask in twenty.
    assert (apart > 1e-3).sum() <= 1
    assert apart.max() < 0.3


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def lesson(golden: Path) -> Arrays:
    return arrays(golden / "loss.npz")


@pytest.fixture(scope="module")
def exhaustive(golden: Path) -> MaskRCNN:
    """Every anchor and proposal is in the loss, as in the recording."""
    changes = {"rpn.samples_per_image": 10**6, "rpn.positive_fraction": 1.0, "rpn.post_nms_train": 64}
    return build(
        golden, **{f"model.{name}": value for name, value in changes.items()}, **{"model.box.positive_fraction": 1.0}
    ).train()


def truth(lesson: Arrays) -> Targets:
    height, width = frame(lesson)
    original = lesson["image"].shape[:2]
    targets = empty_targets(1, len(lesson["gt_boxes"]), 112)
    targets.boxes = (boxes(lesson["gt_boxes"]) * torch.tensor([width, height, width, height]))[None]
    targets.labels, targets.valid[:] = tensor(lesson["gt_classes"])[None], True
    encoded = [encode_mask(mask > 0) for mask in lesson["gt_masks"]]
    masks = [RLE(tuple(rle["size"]), rle["counts"]) for rle in encoded]
    to_original = np.array([[original[1] / width, 0, 0], [0, original[0] / height, 0]])
    targets.masks = tensor(crop_masks(masks, targets.boxes[0].numpy(), to_original, 112, original))[None]
    return targets


def test_losses(exhaustive: MaskRCNN, lesson: Arrays) -> None:
    model, targets, size = exhaustive, truth(lesson), frame(lesson)
    sizes, features = torch.tensor([size]), model.backbone(maps(lesson["preprocessed"]))
    anchors = model.anchors(features, size)
    sampled = model.rpn.targets(torch.cat(anchors), targets, sizes)
    parts = model.rpn.loss(*model.rpn.at(features, sampled.indices), sampled)

    found = model.rpn.decode(*model.rpn(features), anchors, sizes, train=True)
    assert torch.equal(found.valid, proposals(lesson).valid)
    close(found.boxes, proposals(lesson).boxes, 0.05)

    samples = model.box_head.targets(proposals(lesson), targets)
    rows, seen, output = model.classify(features, Canvas(size, sizes), samples.boxes, samples.valid, targets.keys)
    parts |= model.box_head.loss(output, samples, targets)

    assert model.mask_head is not None
    chosen = model.mask_head.foreground(samples)
    logits = model.mask_head(take(put(seen, rows, *samples.valid.shape), chosen.places), chosen.labels)
    goal = crops_of_full_masks(
        tensor(lesson["gt_masks"]), chosen.boxes, chosen.matched, frame=size, resolution=model.mask_head.resolution
    )
    parts |= model.mask_head.loss(logits, goal, chosen.valid)
    for ours, theirs in {
        "rpn_score": "RPNLoss.objectness_loss",
        "rpn_box": "RPNLoss.localization_loss",
        "class": "BoxClassifierLoss.classification_loss",
        "box": "BoxClassifierLoss.localization_loss",
        "mask": "BoxClassifierLoss.mask_loss",
    }.items():
        loss = float(parts[ours].total.detach() / parts[ours].count)
        assert loss == pytest.approx(float(lesson[f"loss|{theirs}"]), rel=1e-5), ours


def test_box_local_mask_targets_are_near_those_of_full_masks(exhaustive: MaskRCNN, lesson: Arrays) -> None:
    """0.4 % of the loss, on an image of 96 pixels: nearest neighbour moves the outline by up to a pixel."""
    image = resize_image(to_image_tensor(lesson["image"]), frame(lesson), "tensorflow")
    losses = exhaustive(image[None], torch.tensor([frame(lesson)]), truth(lesson))
    assert float(losses["mask"].detach()) == pytest.approx(float(lesson["loss|BoxClassifierLoss.mask_loss"]), rel=0.01)
