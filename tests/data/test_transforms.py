"""Image, boxes, masks and keypoints move together, from one key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as V

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import resized_size
from maskrcnn.data.transforms import Placement, augment, chances_of, place, place_image, place_objects
from maskrcnn.ops.masks import encode_mask
from maskrcnn.structures import RLE, Polygons, Record

WILD = DataConfig(
    min_size=96,
    max_size=160,
    horizontal_flip=0.5,
    vertical_flip=0.5,
    scale_jitter=(0.5, 2.0),
    crop=0.7,
    mask_size=56,
)
SIZE = (90, 120)


def ellipse(centre: tuple[float, float], radii: tuple[float, float], corners: int = 40) -> np.ndarray:
    """Ring (P, 2) around (x, y)."""
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn)], -1)


def record_of(rings: list[np.ndarray], size: tuple[int, int] = SIZE, **changes) -> Record:
    """A record with one polygon an object, box tight around it."""
    boxes = np.array([[*ring.min(0), *ring.max(0)] for ring in rings], np.float32).reshape(-1, 4)
    n = len(rings)
    values = {
        "path": Path("a.png"),
        "image_id": 1,
        "height": size[0],
        "width": size[1],
        "boxes": boxes,
        "labels": np.arange(n, dtype=np.int64),
        "masks": tuple(Polygons((ring,)) for ring in rings),
        "crowd": np.zeros(n, bool),
        "areas": np.ones(n, np.float32),
        "annotation_ids": np.arange(n, dtype=np.int64),
    }
    return Record(**(values | changes))


def painted(ring: np.ndarray, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """(3, H, W) uint8: 255 where the pixel's centre is inside the ring (even-odd), written out in full."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    inside = np.zeros(size, bool)
    for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, 0), strict=True):
        crosses = (ya > y) != (yb > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
    return torch.from_numpy(inside.astype(np.uint8) * 255).expand(3, *size).contiguous()


def pasted(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Box-local (S, S) uint8 -> (H, W) bool, nearest cell."""
    cells = len(mask)
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    row = np.floor((y - box[1]) / (box[3] - box[1]) * cells).astype(int)
    column = np.floor((x - box[0]) / (box[2] - box[0]) * cells).astype(int)
    inside = (row >= 0) & (row < cells) & (column >= 0) & (column < cells)
    return inside & (mask[row.clip(0, cells - 1), column.clip(0, cells - 1)] >= 128)


def test_no_key_is_the_plain_resize():
    record = record_of([ellipse((60, 45), (20, 30))])
    image, objects = augment(painted(ellipse((60, 45), (20, 30))), record, WILD, None)
    assert tuple(image.shape[-2:]) == resized_size(*SIZE, WILD) == (96, 128)
    assert np.allclose(objects.boxes, record.boxes * (96 / 90), atol=1e-4)
    assert objects.masks.shape == (1, 56, 56)
    assert objects.labels.tolist() == [0]


def test_the_same_key_is_the_same_sample_and_another_is_not():
    record = record_of([ellipse((60, 45), (20, 30))])
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, *SIZE), np.uint8))
    data = DataConfig(**(vars(WILD) | {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}))
    first, second, other = (augment(image, record, data, key, (96, 160)) for key in (7, 7, 8))
    assert torch.equal(first[0], second[0])
    assert (first[1].boxes == second[1].boxes).all()
    assert (first[1].masks == second[1].masks).all()
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_one_augmentation_more_does_not_change_the_others():
    with_colour = DataConfig(**(vars(WILD) | {"brightness": 0.4, "hue": 0.1}))
    for key in range(20):
        assert place(SIZE, WILD, (96, 160), chances_of(key)) == place(SIZE, with_colour, (96, 160), chances_of(key))


def test_affine_by_hand():
    """Window of 40 x 20 at (10, 30), resized to half, mirrored left-right."""
    placement = Placement((30, 10, 50, 50), (10, 20), flip_x=True)
    assert placement.to_original.tolist() == [[-2.0, 0.0, 50.0], [0.0, 2.0, 30.0]]
    assert placement.to_input(np.array([[50.0, 30.0], [10.0, 50.0]])).tolist() == [[0.0, 0.0], [20.0, 10.0]]


@settings(max_examples=200, deadline=None)
@given(
    key=st.integers(0, 2**63 - 1),
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    canvas=st.tuples(st.sampled_from([32, 96, 160]), st.sampled_from([32, 96, 160])),
)
def test_placement_stays_inside_image_and_canvas(key: int, height: int, width: int, canvas: tuple[int, int]):
    placement = place((height, width), WILD, canvas, chances_of(key))
    y0, x0, y1, x1 = placement.window
    assert 0 <= y0 < y1 <= height
    assert 0 <= x0 < x1 <= width
    assert 1 <= placement.size[0] <= canvas[0]
    assert 1 <= placement.size[1] <= canvas[1]


@settings(max_examples=60, deadline=None)
@given(
    key=st.integers(0, 2**63 - 1),
    x=st.floats(25, 95),
    y=st.floats(25, 65),
    wide=st.floats(8, 25),
    high=st.floats(8, 25),
)
def test_box_and_mask_follow_the_image(key: int, x: float, y: float, wide: float, high: float):
    """The picture shows the object; what augmentation makes of box and mask must be what it makes of the picture."""
    ring = ellipse((x, y), (wide, high))
    image, objects = augment(painted(ring), record_of([ring]), WILD, key, (96, 160))
    shown = image[0].numpy() >= 128
    if not len(objects):  # dropped: hardly anything left to see
        assert shown.mean() < 0.25
        return
    box, size = objects.boxes[0], tuple(image.shape[-2:])
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    zoom = max(1.0, size[0] / 45, size[1] / 60)  # one pixel of the painted truth, at the largest scale
    assert np.abs(box - seen).max() <= 1.5 * zoom + 0.5
    ours = pasted(objects.masks[0], box, size)
    assert (ours & shown).sum() / (ours | shown).sum() > (0.85 if shown.sum() > 300 else 0.6)


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True), (True, True)])
def test_mirrored_keypoints_swap_only_when_the_image_is_mirrored(flip: tuple[bool, bool]):
    keypoints = np.array([[[10, 20, 2], [30, 40, 1], [0, 0, 0]]], np.float32)
    record = record_of([ellipse((60, 45), (50, 40))], keypoints=keypoints)
    placement = Placement((0, 0, *SIZE), SIZE, *flip)
    moved = place_objects(record, placement, WILD, [(0, 1)]).keypoints
    assert moved is not None
    first, second = ([10, 20, 2], [30, 40, 1])
    if flip[0]:
        first, second = ([110, 20, 2], [90, 40, 1])
    if flip[1]:
        first, second = ([first[0], 70, 2], [second[0], 50, 1])
    expected = [second, first] if flip[0] != flip[1] else [first, second]
    assert np.allclose(moved[0], [*expected, [0, 0, 0]])


def test_keypoints_outside_the_window_are_not_labelled():
    record = record_of([ellipse((60, 45), (50, 40))], keypoints=np.array([[[30, 45, 2], [80, 45, 2]]], np.float32))
    moved = place_objects(record, Placement((0, 0, 90, 60), (90, 60)), WILD).keypoints
    assert moved is not None
    assert moved[0].tolist() == [[30, 45, 2], [0, 0, 0]]


def test_box_of_a_cut_polygon_is_tight_around_what_is_left():
    triangle = np.array([[10.0, 80.0], [110.0, 80.0], [110.0, 10.0]])
    boxes = place_objects(record_of([triangle]), Placement((0, 0, 90, 60), (90, 60)), WILD).boxes
    assert np.allclose(boxes, [[10, 45, 60, 80]], atol=1e-4)  # the clipped box would begin at y 10


def test_box_of_a_cut_rle_is_tight_around_its_pixels():
    full = painted(np.array([[10.0, 80.0], [110.0, 80.0], [110.0, 10.0]]))[0].numpy() > 0
    rle = encode_mask(full)
    record = record_of([np.array([[10.0, 80.0], [110.0, 80.0], [110.0, 10.0]])])
    mask = RLE(tuple(rle["size"]), rle["counts"])
    record = record_of([ellipse((1, 1), (1, 1))], boxes=record.boxes, masks=(mask,))
    objects = place_objects(record, Placement((0, 0, 90, 60), (90, 60)), WILD)
    assert np.allclose(objects.boxes, [[11, 45, 60, 80]])  # column 10 has no pixel: the corner is too thin
    shown = pasted(objects.masks[0], objects.boxes[0], (90, 60))
    assert (shown & full[:, :60]).sum() / (shown | full[:, :60]).sum() > 0.95


def test_scraps_are_dropped_and_crowds_stay():
    whole, scrap, gone = ellipse((30, 45), (10, 10)), ellipse((68, 45), (10, 10)), ellipse((100, 45), (10, 10))
    window = Placement((0, 0, 90, 60), (90, 60))
    assert place_objects(record_of([whole, scrap, gone]), window, WILD).labels.tolist() == [0]
    crowd = place_objects(record_of([whole, scrap, gone], crowd=np.array([False, True, True])), window, WILD)
    assert crowd.labels.tolist() == [0, 1]
    assert crowd.crowd.tolist() == [False, True]
    assert crowd.masks[0].any()
    assert not crowd.masks[1].any()


def test_tiny_boxes_are_dropped():
    record = record_of([ellipse((30, 45), (10, 0.3)), ellipse((60, 45), (10, 10))])
    assert place_objects(record, Placement((0, 0, *SIZE), SIZE), WILD).labels.tolist() == [1]


@pytest.mark.parametrize("keypoints", [None, np.zeros((0, 3, 3), np.float32)])
def test_no_object_is_ordinary(keypoints: np.ndarray | None):
    record = record_of([], keypoints=keypoints)
    image, objects = augment(torch.zeros(3, *SIZE, dtype=torch.uint8), record, WILD, 3, (96, 160))
    assert image.dtype == torch.uint8
    assert objects.boxes.shape == (0, 4)
    assert objects.labels.shape == (0,)
    assert objects.masks.shape[0] == 0
    assert (objects.keypoints is None) == (keypoints is None)


def test_boxes_without_masks():
    record = record_of([ellipse((60, 45), (20, 30))], masks=())
    objects = place_objects(record, Placement((0, 0, 90, 60), (90, 60)), WILD)
    assert np.allclose(objects.boxes, [[40, 15, 60, 75]])
    assert objects.masks.shape == (1, 0, 0)


def test_colour_equals_torchvisions():
    data = DataConfig(brightness=0.4, contrast=0.5, saturation=0.6, hue=0.1, horizontal_flip=0)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 60), np.uint8))
    chances = chances_of(11)
    spread = {
        name: 1 + (2 * chances[name] - 1) * getattr(data, name) for name in ("brightness", "contrast", "saturation")
    }
    expected = V.adjust_brightness(image, spread["brightness"])
    expected = V.adjust_contrast(expected, spread["contrast"])
    expected = V.adjust_saturation(expected, spread["saturation"])
    expected = V.adjust_hue(expected, (2 * chances["hue"] - 1) * 0.1)
    ours = place_image(image, Placement((0, 0, 40, 60), (40, 60)), data, chances)
    assert (ours.int() - expected.int()).abs().float().mean() < 0.5  # its mean of greys is a float sum


def test_image_moves_as_the_affine_says():
    """A horizontal and a vertical ramp keep their values at mapped positions."""
    y, x = np.mgrid[0:200, 0:240] + 0.5
    image = torch.from_numpy(np.stack([x, y, x * 0]).astype(np.uint8))
    for key in range(30):
        placement = place((200, 240), WILD, (96, 160), chances_of(key))
        moved = place_image(image, placement, WILD)
        height, width = placement.size
        affine = placement.to_original
        xs, ys = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        inner = np.s_[4:-4, 4:-4]  # the filter leaves the window's border as it is
        assert np.abs(moved[0].numpy() - (affine[0, 0] * xs + affine[0, 2] - 0.5))[inner].max(initial=0) <= 1.5
        assert np.abs(moved[1].numpy() - (affine[1, 1] * ys + affine[1, 2] - 0.5))[inner].max(initial=0) <= 1.5
