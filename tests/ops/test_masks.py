"""Masks against pycocotools, torchvision and full-size arithmetic."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference
from torchvision.models.detection.roi_heads import paste_masks_in_image

from maskrcnn.data.resize import resize_image
from maskrcnn.errors import DataError
from maskrcnn.ops.crop_and_resize import crop_and_resize
from maskrcnn.ops.masks import (
    crop_masks,
    decode_rle,
    encode_mask,
    mask_to_rle,
    paste_masks,
    polygons_to_rle,
    rle_area,
    rle_to_polygons,
    roi_masks_to_rle,
)
from maskrcnn.ops.rle import decode_window, parse_counts, window_to_rle
from maskrcnn.structures import RLE, MaskFile, Polygons

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def blob(height: int, width: int, seed: int) -> np.ndarray:
    """A random bool mask with runs of all lengths."""
    random = np.random.default_rng(seed)
    coarse = random.random((max(height // 4, 1), max(width // 4, 1))) > 0.5
    mask = np.kron(coarse, np.ones((5, 5)))[:height, :width] > 0
    full = np.zeros((height, width), bool)
    full[: mask.shape[0], : mask.shape[1]] = mask
    return full ^ (random.random((height, width)) > 0.95)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_round_trip_and_bytes_equal_pycocotools(height, width, seed):
    mask = blob(height, width, seed)
    rle = encode_mask(mask)
    assert rle["counts"] == reference.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    assert np.array_equal(decode_rle(rle), mask)
    assert rle_area(rle) == mask.sum()
    runs = parse_counts(rle["counts"])
    assert runs.sum() == mask.size
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T, mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000), st.data())
def test_windows_cut_and_placed_without_the_frame(height, width, seed, data):
    mask = blob(height, width, seed)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    window = decode_window(encode_mask(mask), top, left, bottom, right)
    assert np.array_equal(window, mask[top:bottom, left:right])
    only = np.zeros_like(mask)
    only[top:bottom, left:right] = window
    assert window_to_rle(window, top, left, (height, width)) == encode_mask(only)


def test_a_wide_frame_decodes_far_from_its_start():
    mask = np.zeros((700, 900), bool)
    mask[100:650, 300:870] = blob(550, 570, 3)
    window = decode_window(encode_mask(mask), 200, 400, 333, 801)
    assert np.array_equal(window, mask[200:333, 400:801])


def test_polygons_fill_as_coco_does():
    rings = [np.array([[2.0, 3.0], [20.5, 4.0], [14.0, 18.0]]), np.array([[10.0, 10.0], [25.0, 12.0], [20.0, 28.0]])]
    expected = reference.merge(reference.frPyObjects([r.ravel().tolist() for r in rings], 30, 32))
    assert polygons_to_rle(rings, (30, 32))["counts"] == expected["counts"]
    assert mask_to_rle(Polygons(tuple(rings)), (30, 32))["counts"] == expected["counts"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1000))
def test_outlines_give_the_mask_back(height, width, seed):
    mask = blob(height, width, seed)
    rings = rle_to_polygons(encode_mask(mask))
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for ring in rings:  # even-odd rule at pixel centres
        assert len(ring) >= 4
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if x0 == x1:
                inside ^= (x > x0) & (y > min(y0, y1)) & (y < max(y0, y1))
    assert np.array_equal(inside, mask)


def test_outline_of_nothing_and_of_a_ring():
    assert rle_to_polygons(encode_mask(np.zeros((4, 4), bool))) == []
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    rings = rle_to_polygons(encode_mask(mask))
    assert sorted(len(r) for r in rings) == [4, 4]


@pytest.mark.parametrize("kind", ["rle", "file"])
def test_bitmap_crop_is_the_covered_fraction(kind, tmp_path):
    full = blob(64, 80, 1)
    Image.fromarray(full.astype(np.uint8) * 255).save(tmp_path / "m.png")
    mask = MaskFile(tmp_path / "m.png") if kind == "file" else RLE((64, 80), encode_mask(full)["counts"])
    box = np.array([[8.0, 16.0, 40.0, 48.0]])
    same = crop_masks([mask], box, IDENTITY, 32, (64, 80))[0]
    assert np.array_equal(same > 127, full[16:48, 8:40])
    half = crop_masks([mask], box, IDENTITY, 16, (64, 80))[0]
    expected = full[16:48, 8:40].reshape(16, 2, 16, 2).mean(axis=(1, 3)) * 255
    assert np.abs(half - expected).max() <= 1
    double = crop_masks([mask], box, IDENTITY, 64, (64, 80))[0]
    assert np.array_equal(double > 127, np.kron(full[16:48, 8:40], np.ones((2, 2))) > 0)


def test_crop_follows_a_flip_and_a_scale():
    full = blob(40, 60, 2)
    mask = RLE((40, 60), encode_mask(full)["counts"])
    flip_and_double = np.array([[-0.5, 0.0, 60.0], [0.0, 0.5, 0.0]])  # input is mirrored and twice as large
    crop = crop_masks([mask], np.array([[0.0, 0.0, 120.0, 80.0]]), flip_and_double, 120, (40, 60))[0]
    expected = np.kron(full[:, ::-1], np.ones((2, 2)))  # (80, 120)
    rows = np.minimum(((np.arange(120) + 0.5) / 120 * 80).astype(int), 79)
    assert np.array_equal(crop > 127, expected[rows] > 0)


def test_rotated_crop_samples_the_right_pixels():
    full = np.zeros((20, 20), bool)
    full[2:6, 10:18] = True
    mask = RLE((20, 20), encode_mask(full)["counts"])
    quarter = np.array([[0.0, -1.0, 20.0], [1.0, 0.0, 0.0]])  # x = 20 - y', y = x'
    crop = crop_masks([mask], np.array([[0.0, 0.0, 20.0, 20.0]]), quarter, 20, (20, 20))[0]
    assert np.array_equal(crop > 127, np.rot90(full, 1))


def test_polygon_crop_equals_the_filled_polygon():
    ring = np.array([[10.0, 10.0], [60.0, 15.0], [50.0, 55.0], [12.0, 50.0]])
    crop = crop_masks([Polygons((ring,))], np.array([[10.0, 10.0, 60.0, 60.0]]), IDENTITY, 100, (64, 64))[0] > 127
    full = decode_rle(polygons_to_rle([ring * 2], (128, 128)))[20:120, 20:120]
    assert (crop != full).mean() < 0.01


def test_crop_outside_the_content_is_empty():
    mask = Polygons((np.array([[0.0, 0.0], [50.0, 0.0], [50.0, 50.0], [0.0, 50.0]]),))
    crop = crop_masks([mask], np.array([[0.0, 0.0, 40.0, 40.0]]), IDENTITY, 8, (50, 50), visible=(20, 30))[0]
    assert (crop[:4, :6] == 255).all()
    assert (crop[4:] == 0).all()
    assert (crop[:, 6:] == 0).all()
    far = RLE((50, 50), encode_mask(np.ones((50, 50), bool))["counts"])
    assert not crop_masks([far], np.array([[60.0, 60.0, 70.0, 70.0]]), IDENTITY, 8, (50, 50)).any()
    assert crop_masks([], np.zeros((0, 4)), IDENTITY, 8, (50, 50)).shape == (0, 8, 8)


def predictions(count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth masks in boxes of all sizes, some past the border, some thinner than a pixel."""
    generator = torch.Generator().manual_seed(seed)
    masks = F.interpolate(torch.rand(count, 1, 5, 5, generator=generator), 28, mode="bicubic")[:, 0].clamp(0, 1)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 70.0]) - 10
    side = torch.rand(count, 2, generator=generator) ** 2 * 60 + 0.3
    return masks.numpy(), torch.cat([corner, corner + side], 1).numpy()


def test_exact_paste_is_grid_sample():
    masks, boxes = predictions()
    height, width = 60, 80
    x0, y0, x1, y1 = torch.from_numpy(boxes).T
    x = (torch.arange(width)[None] + 0.5 - x0[:, None]) / (x1 - x0)[:, None] * 2 - 1
    y = (torch.arange(height)[None] + 0.5 - y0[:, None]) / (y1 - y0)[:, None] * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
    expected = F.grid_sample(torch.from_numpy(masks)[:, None], grid, align_corners=False)[:, 0].numpy()
    np.testing.assert_allclose(paste_masks(masks, boxes, (height, width)), expected, atol=1e-4)


@pytest.mark.parametrize("paste", ["exact", "torchvision"])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_rle_inside_the_box_is_rle_of_the_full_mask(paste, threshold):
    masks, boxes = predictions(seed=4)
    full = paste_masks(masks, boxes, (60, 80), paste) >= threshold
    results = roi_masks_to_rle(masks, boxes, (60, 80), threshold, paste)
    for mask, rle in zip(full, results, strict=True):
        assert rle["counts"] == reference.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    assert roi_masks_to_rle(masks[:0], boxes[:0], (60, 80)) == []


def test_torchvision_paste_gives_torchvision_pixels():
    masks, boxes = predictions(seed=7)
    boxes = boxes.clip(0, [80, 60, 80, 60])  # theirs fails on a box that lies outside
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    masks, boxes = masks[seen], boxes[seen]
    assert len(boxes) > 15
    theirs = paste_masks_in_image(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), (60, 80))[:, 0] >= 0.5
    ours = roi_masks_to_rle(masks, boxes, (60, 80), paste="torchvision")
    assert np.array_equal(np.stack([decode_rle(rle) for rle in ours]), theirs.numpy())


@pytest.mark.parametrize("kind", [RLE, Polygons])
def test_memory_follows_the_boxes_not_the_image(kind):
    ring = np.array([[4000.0, 5000.0], [4500.0, 5100.0], [4300.0, 5600.0]])
    counts = polygons_to_rle([ring], (8000, 8000))["counts"]
    mask = Polygons((ring,)) if kind is Polygons else RLE((8000, 8000), counts)
    boxes = np.tile([[4000.0, 5000.0, 4500.0, 5600.0]], (20, 1))
    tracemalloc.start()
    crops = crop_masks([mask] * 20, boxes, IDENTITY, 112, (8000, 8000))
    rles = roi_masks_to_rle(crops / np.float32(255), boxes, (8000, 8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6  # one frame as bool takes 64e6
    for rle in rles:
        assert abs(rle_area(rle) / rle_area({"size": [8000, 8000], "counts": counts}) - 1) < 0.02


def test_bad_mask_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: the mask file is missing"):
        mask_to_rle(MaskFile(tmp_path / "gone.png"), (4, 4))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"bad\.png: the mask file cannot be read"):
        mask_to_rle(MaskFile(tmp_path / "bad.png"), (4, 4))
    Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8)).save(tmp_path / "labels.png")
    assert decode_rle(mask_to_rle(MaskFile(tmp_path / "labels.png", value=2), (2, 2))).tolist() == [[0, 0], [1, 1]]


def test_tensorflow_paste_is_crop_and_resize_of_the_mask():
    """The image, as a box in the frame of the object's box, read from the mask; pixels above 0.5 belong to it."""
    numbers, side = np.random.default_rng(0), 40
    masks = numbers.random((6, 9, 9), np.float32)
    corner = numbers.uniform(-0.1, 0.6, (6, 2))
    boxes = np.concatenate([corner, corner + numbers.uniform(0.1, 0.5, (6, 2))], 1).astype(np.float32)
    boxes[0] = [0, 0, 1, 1]
    boxes[1, 2:] = boxes[1, :2]  # without an area
    sides = np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-4), 2)
    whole = (np.array([0, 0, 1, 1], np.float32) - np.tile(boxes[:, :2], 2)) / sides
    index = torch.arange(6)
    read = crop_and_resize(
        torch.from_numpy(masks)[:, None],
        torch.from_numpy(whole),
        index,
        sizes=torch.ones(6, 2, dtype=torch.int64),
        cells=torch.full((6, 2), 9),
        resolution=side,
    )[:, 0].numpy()
    pasted = paste_masks(masks, boxes * side, (side, side), "tensorflow")
    np.testing.assert_allclose(pasted, read, atol=1e-4)
    rles = roi_masks_to_rle(masks, boxes * side, (side, side), 0.5, "tensorflow")
    assert np.array_equal(np.stack([decode_rle(rle) for rle in rles]), pasted > 0.5)


def test_tensorflow_masks_need_more_than_the_threshold():
    half, box = np.full((1, 5, 5), 0.5, np.float32), np.array([[0.0, 0.0, 8.0, 8.0]], np.float32)
    assert not decode_rle(roi_masks_to_rle(half, box, (8, 8), 0.5, "tensorflow")[0]).any()
    assert decode_rle(roi_masks_to_rle(half, box, (8, 8), 0.5, "exact")[0]).any()
    flat = roi_masks_to_rle(half + 0.1, np.array([[0.0, 0.0, 8.0, 1.0]], np.float32), (1, 8), 0.5, "tensorflow")[0]
    assert decode_rle(flat).all()  # an image of one row


def test_matterport_paste_is_skimages_resize_to_the_whole_box():
    masks = np.random.default_rng(0).uniform(0.2, 1, (4, 28, 28)).astype(np.float32)
    masks[3] += 0.5
    boxes = np.array([[3, 5, 50, 61], [10.4, 2.5, 12.6, 3.5], [0, 0, 80, 60], [30, 20, 40, 90]], np.float32)
    pasted = paste_masks(masks, boxes, (60, 80), "matterport")
    for full, mask, (x0, y0, x1, y1) in zip(pasted, masks, np.rint(boxes).astype(int).tolist(), strict=True):
        whole = resize_image(torch.from_numpy(mask)[None], (y1 - y0, x1 - x0), "skimage")[0].numpy()[: 60 - y0]
        np.testing.assert_allclose(full[y0:y1, x0:x1], whole, atol=1e-6)
        assert np.count_nonzero(full) == np.count_nonzero(whole)  # nothing beyond the box
    rles = roi_masks_to_rle(masks, boxes, (60, 80), 0.5, "matterport")
    assert np.array_equal(np.stack([decode_rle(rle) for rle in rles]), pasted >= 0.5)


def test_matterport_paste_of_an_empty_box():
    mask = np.ones((1, 28, 28), np.float32)
    for box in ([5, 5, 5, 9], [-9, -9, -2, -2], [70, 5, 99, 9]):
        assert not rle_area(roi_masks_to_rle(mask, np.array([box], np.float32), (20, 30), paste="matterport")[0])
