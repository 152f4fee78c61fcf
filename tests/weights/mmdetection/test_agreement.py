"""Checkpoints of MMDetection give what the original code gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.data.resize import pad_to, resize_image, resized_size
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.model.content import Canvas
from maskrcnn.predict.predictor import Predictor
from maskrcnn.weights.load import load_weights
from tests.weights.oracle import compare, oracles

NAMES = ["mm_r50_fpn", "mm_r50_caffe_fpn", "mm_cascade_r50_fpn", "mm_swin_t", "mm_convnext_t"]
# Without batch norms whose scale is fixed, rounding is amplified.
SCORE = {"mm_swin_t": 1e-3, "mm_convnext_t": 1e-3}
FEATURE = 2e-4  # of maps with values up to some ten


def model_of(data_dir: Path, name: str, tmp_path: Path):
    file = tmp_path / "model.pth"
    oracles(data_dir).write(name, file)
    return load_weights(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_detection_of_the_original_is_found(name: str, data_dir: Path, tmp_path: Path):
    golden = oracles(data_dir).load_golden(name)
    predictor = Predictor(model_of(data_dir, name, tmp_path), device="cpu", precision="float32")
    picture = np.ascontiguousarray(golden["image"][..., ::-1])  # theirs are BGR
    found = compare(
        predictor(picture, score_threshold=0.0),
        golden["final_boxes"],
        golden["final_scores"],
        golden["final_classes"],
        golden["final_masks"],
    )
    assert found.found == found.count == found.ours
    assert found.boxes < 0.05
    assert found.scores < SCORE.get(name, 1e-4)
    assert found.mask is not None
    assert found.mask >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_each_stage_gives_what_the_originals_did(name: str, data_dir: Path, tmp_path: Path):
    rebuild = oracles(data_dir)
    golden = rebuild.load_golden(name)
    model = model_of(data_dir, name, tmp_path)
    resized = to_image_tensor(np.ascontiguousarray(golden["resized"][..., ::-1]))
    picture = to_image_tensor(np.ascontiguousarray(golden["image"][..., ::-1]))
    size = resized_size(picture.shape[1], picture.shape[2], model.data)
    assert size == (resized.shape[1], resized.shape[2])
    assert resize_image(picture, size, model.data.interpolation).equal(resized)

    frame, sizes = (256, 416), torch.tensor([size])
    images = pad_to(resized, frame)[None]
    net_input = model.normalise(images, sizes)
    if name == "mm_r50_caffe_fpn":
        net_input = net_input.flip(1)  # the first convolution was turned instead
    assert rebuild.difference(name, "net_input", net_input.numpy(), golden) < 1e-5
    features = model.features(images, sizes)
    logits, deltas = model.rpn(features)
    anchors = model.anchors_of(features, frame)
    for level in range(5):
        assert rebuild.difference(name, f"p{level + 2}", features[level].numpy(), golden) < FEATURE
        height, width = features[level].shape[-2:]
        maps = logits[level].view(1, height, width, 3).permute(0, 3, 1, 2)
        assert rebuild.difference(name, f"rpn_logits{level}", maps.numpy(), golden) < FEATURE
        maps = deltas[level].view(1, height, width, 12).permute(0, 3, 1, 2)
        assert rebuild.difference(name, f"rpn_deltas{level}", maps.numpy(), golden) < FEATURE
        assert rebuild.difference(name, f"anchors{level}", anchors[level].numpy(), golden) < 1e-4
    boxes = torch.from_numpy(golden["proposals"])[None]
    _, _, output = model.classify(features, Canvas(frame, sizes), boxes, torch.ones(boxes.shape[:2], dtype=torch.bool))
    stage = "0" if model.config.box.cascade else ""
    assert rebuild.difference(name, f"class_logits{stage}", output.logits[0].numpy(), golden) < 1e-3
    assert rebuild.difference(name, f"box_deltas{stage}", output.deltas[0].flatten(1).numpy(), golden) < 1e-3
