"""Boxes, keypoints and masks back in the photo: what the originals made of their own detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.ops.masks import decode_rle, roi_masks_to_rle
from maskrcnn.predict.frame import boxes_to_photo, keypoints_to_photo
from tests.weights.oracle import oracles


def test_by_hand() -> None:
    frames = [torch.tensor(pair) for pair in ((20, 40), (10, 20), (6, 4))]
    boxes = torch.tensor([[4.0, 6, 24, 26], [0, 0, 99, 99]])
    assert boxes_to_photo(boxes, *frames, inclusive=False).tolist() == [[0, 0, 10, 10], [0, 0, 20, 10]]
    assert keypoints_to_photo(torch.tensor([[14.0, 8, 0.3]]), *frames).tolist() == [[5, 1, pytest.approx(0.3)]]
    last = boxes_to_photo(torch.tensor([[4.0, 6, 44, 26], [4, 6, 5, 7]]), *frames, inclusive=True)
    np.testing.assert_allclose(last, [[0, 0, 20, 10], [0, 0, 1, 1]])  # the first and the last pixel stay so


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_single_pixel(inclusive: bool) -> None:
    frames = [torch.tensor(pair) for pair in ((1, 1), (1, 3), (0, 0))]
    boxes = boxes_to_photo(torch.tensor([[0.0, 0, 1, 1]]), *frames, inclusive=inclusive)
    assert boxes.isfinite().all()


@pytest.mark.parametrize("name", ["mp_resnet50", "mp_resnet101"])
def test_matterports_whole_pixels(name: str, data_dir: Path) -> None:
    golden = oracles(data_dir).load_golden(name)
    top, left, bottom, right = golden["window"][0].tolist()
    frames = [torch.tensor(pair) for pair in ((bottom - top, right - left), golden["image"].shape[:2], (top, left))]
    side = golden["resized"].shape[0]
    found = golden["raw_detections"][0][:, [1, 0, 3, 2]].astype(np.float64) * (side - 1) + [0, 0, 1, 1]
    boxes = boxes_to_photo(torch.from_numpy(found).float(), *frames, inclusive=True).round().numpy()
    wanted = golden["final_boxes"][:, [1, 0, 3, 2]]
    np.testing.assert_array_equal(boxes, wanted)
    size = golden["image"].shape[:2]
    rles = roi_masks_to_rle(golden["raw_masks"], boxes, size, 0.5, "matterport")
    np.testing.assert_array_equal(np.stack([decode_rle(rle) for rle in rles]), golden["final_masks"])


@pytest.mark.parametrize("name", ["d2_r50_fpn", "d2_kp_r50_fpn", "mm_r50_fpn", "tv_keypointrcnn_resnet50_fpn"])
def test_boxes_keypoints_and_masks_of_the_others(name: str, data_dir: Path) -> None:
    golden = oracles(data_dir).load_golden(name)
    size = golden["image"].shape[:2]
    frames = [torch.tensor(tuple(pair), dtype=torch.float64) for pair in (golden["image_size"], size, (0, 0))]
    boxes = boxes_to_photo(torch.from_numpy(golden["raw_boxes"]), *frames, inclusive=False)
    np.testing.assert_allclose(boxes, golden["final_boxes"], atol=1e-4)
    if "raw_keypoints" in golden:
        points = keypoints_to_photo(torch.from_numpy(golden["raw_keypoints"]), *frames)
        np.testing.assert_allclose(points, golden["final_keypoints"], atol=1e-4)
    if "raw_masks" in golden:
        rles = roi_masks_to_rle(golden["raw_masks"][:, 0], golden["final_boxes"], size)
        unlike = np.stack([decode_rle(rle) for rle in rles]) != golden["final_masks"]
        assert unlike.sum() <= 2
