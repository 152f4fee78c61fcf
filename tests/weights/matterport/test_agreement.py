"""Files of Matterport's Mask_RCNN give what the original code gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskrcnn.data.resize import resize_image, resized_size
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.model.content import Canvas
from maskrcnn.predict.predictor import Predictor
from maskrcnn.weights.load import load_weights
from tests.weights.oracle import compare, folder, oracles

NAMES = ["mp_resnet50", "mp_resnet101"]
SIDE = 256


@pytest.fixture
def opened(data_dir: Path, tmp_path: Path):
    """Opens an oracle from the file that the original read, with its Config's attributes."""
    pytest.importorskip("h5py")

    def opened(name: str):
        file = tmp_path / f"{name}.h5"
        oracles(data_dir).write(name, file)
        return load_weights(file, config=folder(data_dir, name) / "config.json")

    return opened


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_detection_of_the_original_is_found(name: str, data_dir: Path, opened):
    golden = oracles(data_dir).load_golden(name)
    predictor = Predictor(opened(name), device="cpu", precision="float32")
    found = compare(
        predictor(golden["image"], score_threshold=0.0),
        golden["final_boxes"][:, [1, 0, 3, 2]],
        golden["final_scores"],
        golden["final_classes"] - 1,
        golden["final_masks"],
    )
    assert found.found == found.count == found.ours
    assert found.boxes == 0  # whole pixels
    assert found.scores < 1e-4
    assert found.pixels == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_each_stage_gives_what_the_originals_did(name: str, data_dir: Path, opened):
    rebuild = oracles(data_dir)
    golden, model = rebuild.load_golden(name), opened(name)
    top, left, bottom, right = (int(side) for side in golden["window"][0])
    size = (bottom - top, right - left)
    picture = to_image_tensor(golden["image"])
    assert resized_size(picture.shape[1], picture.shape[2], model.data) == size
    inside = to_image_tensor(golden["resized"][top:bottom, left:right])
    assert resize_image(picture, size, model.data.interpolation).equal(inside)

    sizes, images = torch.tensor([size]), to_image_tensor(golden["resized"])[None]
    normalised = model.normalise(images, sizes).permute(0, 2, 3, 1)
    assert rebuild.difference(name, "net_input", normalised.numpy(), golden) < 1e-4
    features = model.features(images, sizes)
    for level, feature in enumerate(features[:4]):
        assert rebuild.difference(name, f"p{level + 2}", feature.permute(0, 2, 3, 1).numpy(), golden) < 2e-4

    boxes = torch.from_numpy(golden["proposals"])[..., [1, 0, 3, 2]] * (SIDE - 1)  # ends at the last pixel's index
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool)
    _, seen, output = model.classify(features, Canvas((SIDE, SIDE), sizes), boxes, valid)
    seen = seen.permute(0, 2, 3, 1)[None]
    assert rebuild.difference(name, "box_pooled", seen.numpy(), golden) < 2e-4
    assert rebuild.difference(name, "class_logits", output.logits.roll(1, -1).numpy(), golden) < 1e-3
    deltas = output.deltas[..., [1, 0, 3, 2]]
    assert torch.allclose(deltas, torch.from_numpy(golden["box_deltas"])[:, :, 1:], atol=1e-3)
