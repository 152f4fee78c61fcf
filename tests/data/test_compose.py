"""Copy-paste and mosaic: what the image shows of each object is what its mask says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.config import DataConfig
from maskrcnn.data.compose import mosaic, paste
from maskrcnn.data.objects import Objects, joined, place_objects
from maskrcnn.data.transforms import augment, chances_of, place, place_image
from maskrcnn.errors import DataError
from maskrcnn.structures import Record
from tests.data.painted import box_around, ellipse, overlap, pasted, picture, record_of

SIZE = (150, 200)
CANVAS = (160, 224)
DATA = DataConfig(min_size=150, max_size=200, horizontal_flip=0.5, copy_paste=1.0)
KINDS = ["polygon", "rle", "file"]


def pool(*members: tuple[torch.Tensor, Record]) -> Callable[[int, Callable[[torch.Tensor, Record], Any]], Any]:
    return lambda number, use: use(*members[number % len(members)])


def placed(image: torch.Tensor, record: Record, data: DataConfig = DATA) -> tuple[torch.Tensor, Objects]:
    return place_image(image, place(record.size, data), data), place_objects(record, place(record.size, data), data)


def assert_agrees(objects: Objects, rows: np.ndarray, shown: np.ndarray, least: int = 400) -> None:
    """The union of these objects is what is shown, and each box is tight around its part."""
    union = np.zeros(shown.shape, bool)
    for row in rows.tolist():
        union |= pasted(objects.masks[row], objects.boxes[row], shown.shape)
    if shown.sum() > least:
        assert overlap(union, shown) > (0.95 if shown.sum() > 1500 else 0.9)  # half a pixel around a small shape
    elif not len(rows):
        assert shown.sum() < 400


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(key=st.integers(0, 2**63 - 1), x=st.floats(60, 140), y=st.floats(50, 100), angle=st.sampled_from([0.0, 40.0]))
def test_pasted_and_covered_objects_agree_with_the_image(
    tmp_path_factory: pytest.TempPathFactory, kind: str, key: int, x: float, y: float, angle: float
):
    ours, theirs = ellipse((x, y), (40, 30)), ellipse((100, 75), (50, 25))
    folder = tmp_path_factory.getbasetemp()
    record = record_of([ours], SIZE, kind, folder)
    other = record_of([theirs], SIZE, kind if kind != "file" else "rle", labels=np.array([7]))
    data = replace(DATA, scale_jitter=(0.6, 1.4), rotation=angle)
    image, objects = augment(
        picture([ours], SIZE), record, data, key, CANVAS, others=pool((picture([theirs], SIZE, 1), other))
    )
    red, green = (image[channel].numpy() >= 128 for channel in (0, 1))
    for shown, rows in ((red, np.flatnonzero(objects.labels == 0)), (green, np.flatnonzero(objects.labels == 7))):
        assert_agrees(objects, rows, shown)
        if len(rows) and shown.sum() > 400:
            assert np.abs(objects.boxes[rows[0]] - box_around(shown)).max() <= 2


def overlaid(ours: np.ndarray, theirs: np.ndarray, key: int = 1, **changes: Any) -> tuple[torch.Tensor, Objects]:
    """Theirs over ours at the same place: no mirror, full size."""
    data = replace(DATA, horizontal_flip=0.0, min_box_side=1.0)
    content, objects = placed(picture([ours], SIZE), record_of([ours], SIZE, **changes), data)
    other = record_of([theirs], SIZE, labels=np.array([7]))
    return paste(content, objects, data, key, pool((picture([theirs], SIZE, 1), other)))


def pasting_key(ours: np.ndarray) -> int:
    """A key whose coin says that the one object is pasted."""
    return next(key for key in range(50) if 7 in overlaid(ours, ours, key)[1].labels)


def test_what_is_hidden_goes_and_what_is_half_hidden_shrinks():
    square = np.array([[60.0, 40.0], [120.0, 40.0], [120.0, 100.0], [60.0, 100.0]])
    key = pasting_key(square)
    _, gone = overlaid(square, square, key)
    assert gone.labels.tolist() == [7]
    _, scrap = overlaid(square, square - [4, 0], key)  # 4 of 60 columns are left: less than a tenth
    assert scrap.labels.tolist() == [7]
    image, half = overlaid(square, square - [30, 0], key)
    assert half.labels.tolist() == [0, 7]
    assert np.allclose(half.boxes[0], [90, 40, 120, 100])
    assert half.masks[0].min() == 255
    assert image[:, 70, 100].tolist() == [255, 0, 0]
    assert image[:, 70, 80].tolist() == [0, 255, 0]
    _, apart = overlaid(square, square - [60, 0], key)
    assert np.allclose(apart.boxes[0], [60, 40, 120, 100])


def test_a_hole_in_the_middle_leaves_the_box():
    square = np.array([[50.0, 30.0], [150.0, 30.0], [150.0, 130.0], [50.0, 130.0]])
    _, objects = overlaid(square, square * 0.5 + [50, 40], pasting_key(square))
    assert np.allclose(objects.boxes[0], [50, 30, 150, 130])
    assert not objects.masks[0][40:70, 40:70].any()
    assert objects.masks[0].mean() == pytest.approx(255 * 0.75, abs=1)


def test_hidden_keypoints_are_labelled_but_not_visible():
    square = np.array([[50.0, 30.0], [150.0, 30.0], [150.0, 130.0], [50.0, 130.0]])
    points = np.array([[[100, 90, 2], [55, 35, 2], [0, 0, 0]]], np.float32)
    _, objects = overlaid(square, square * 0.5 + [50, 40], pasting_key(square), keypoints=points)
    assert objects.keypoints is not None
    assert objects.keypoints[0].tolist() == [[100, 90, 1], [55, 35, 2], [0, 0, 0]]
    assert not objects.keypoints[1].any()


def test_crowds_are_not_pasted_and_stay():
    ring = ellipse((100, 75), (50, 40))
    crowd = record_of([ring], SIZE, crowd=np.array([True]))
    content, objects = placed(picture([ring], SIZE), crowd)
    image, same = paste(content, objects, DATA, 3, pool((picture([ring], SIZE, 1), crowd)))
    assert torch.equal(image, content)
    assert same.crowd.tolist() == [True]
    _, covered = overlaid(ring, ring, pasting_key(ring), crowd=np.array([True]))
    assert sorted(covered.crowd.tolist()) == [False, True]


def test_about_half_of_the_objects_are_pasted():
    rings = [ellipse((20 + 40 * i, 30 + 40 * j), (12, 12)) for i in range(5) for j in range(3)]
    other, empty = record_of(rings, SIZE), record_of([], SIZE)
    black = torch.zeros(3, *SIZE, dtype=torch.uint8)
    counts = []
    for key in range(30):
        content, objects = placed(black, empty)
        counts.append(len(paste(content, objects, DATA, key, pool((black, other)))[1]))
    assert 6 < np.mean(counts) < 9
    assert len(set(counts)) > 3


@pytest.mark.parametrize("keypoints", [None, np.zeros((0, 3, 3), np.float32)])
def test_no_object_anywhere(keypoints: np.ndarray | None):
    empty = record_of([], SIZE, keypoints=keypoints)
    image = picture([], SIZE)
    data = replace(DATA, mosaic=1.0)
    for chosen in (DATA, data):
        content, objects = augment(image, empty, chosen, 1, CANVAS, others=pool((image, empty)))
        assert not content.any()
        assert objects.boxes.shape == (0, 4)
        assert (objects.keypoints is None) == (keypoints is None)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(key=st.integers(0, 2**63 - 1), angle=st.sampled_from([0.0, 40.0]), also_paste=st.booleans())
def test_the_four_images_of_a_mosaic_agree_with_their_masks(
    tmp_path_factory: pytest.TempPathFactory, kind: str, key: int, angle: float, also_paste: bool
):
    ours, theirs = ellipse((100, 75), (25, 20)), ellipse((80, 60), (25, 20))  # or a cut might show nothing else
    record = record_of([ours], SIZE, kind, tmp_path_factory.getbasetemp())
    other = record_of([theirs], SIZE, labels=np.array([7]))
    data = replace(DATA, mosaic=1.0, scale_jitter=(0.7, 1.5), rotation=angle, copy_paste=float(also_paste))
    others = pool((picture([theirs], SIZE, 1), other))
    image, objects = augment(picture([ours], SIZE), record, data, key, CANVAS, others=others)
    assert image.shape == (3, *CANVAS)
    red, green = (image[channel].numpy() >= 128 for channel in (0, 1))
    assert (objects.labels == 0).sum() <= 1
    assert (objects.labels == 7).sum() <= 3 + also_paste
    assert_agrees(objects, np.flatnonzero(objects.labels == 0), red, 600)
    assert_agrees(objects, np.flatnonzero(objects.labels == 7), green, 600)
    assert (objects.boxes >= 0).all()
    assert (objects.boxes <= [224, 160, 224, 160]).all()


def test_a_mosaic_of_boxes_without_masks_and_of_raw_channels():
    record = record_of([ellipse((100, 75), (60, 40))], SIZE, masks=())
    image = torch.rand(5, *SIZE) * 1000
    data = replace(DATA, mosaic=1.0, copy_paste=0.0, pixels="raw")
    content, objects = augment(image, record, data, 2, CANVAS, others=pool((image, record)))
    assert content.shape == (5, *CANVAS)
    assert content.dtype == torch.float32
    assert 1 <= len(objects) <= 4
    assert objects.masks.shape[1:] == (0, 0)


@pytest.mark.parametrize("canvas", [(2, 2), (2, 40), (33, 7)])
def test_small_canvases(canvas: tuple[int, int]):
    record = record_of([ellipse((100, 75), (60, 40))], SIZE)
    for key in range(20):
        image, _ = mosaic(picture([], SIZE), record, DATA, key, canvas, pool((picture([], SIZE), record)))
        assert tuple(image.shape[1:]) == canvas


def test_the_same_key_is_the_same_sample_and_mixing_does_not_change_what_is_not_mixed():
    rings = [ellipse((100, 75), (60, 40))]
    record, image = record_of(rings, SIZE), picture(rings, SIZE)
    others = pool((picture(rings, SIZE, 1), record))
    rare = replace(DATA, mosaic=0.3, copy_paste=0.3)
    plain = replace(DATA, mosaic=0.0, copy_paste=0.0)
    same = 0
    for key in range(20):
        first, second = (augment(image, record, rare, key, CANVAS, others=others) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert np.array_equal(first[1].masks, second[1].masks)
        without = augment(image, record, plain, key, CANVAS)
        same += torch.equal(first[0], without[0])
    assert 4 <= same < 20


def test_the_largest_objects_are_kept_in_their_order():
    boxes = np.array([[0, 0, 3, 3], [0, 0, 9, 9], [0, 0, 5, 5], [0, 0, 7, 7]], np.float32)
    objects = Objects(boxes, np.arange(4), np.zeros((4, 0, 0), np.uint8), np.zeros(4, bool))
    assert objects.largest(2).labels.tolist() == [1, 3]
    assert objects.largest(4) is objects
    assert joined([objects, objects.largest(1)]).labels.tolist() == [0, 1, 2, 3, 1]


def test_large_scale_jitter_pads_below_and_crops_above():
    """Ghiasi 2021: 0.1 to 2 times the planned size; the larger ones show any part of the image."""
    data = replace(DATA, scale_jitter=(0.1, 2.0), horizontal_flip=0.0)
    windows, sides = set(), []
    for key in range(300):
        placement = place(SIZE, data, CANVAS, chances_of(key))
        rate = placement.size[0] / (placement.window[2] - placement.window[0])
        sides.append(rate)
        if rate <= 1:
            assert placement.window == (0, 0, *SIZE)
        elif rate > 1.2:
            assert placement.size == CANVAS
            windows.add(placement.window[:2])
    assert min(sides) < 0.12
    assert max(sides) > 1.9
    assert np.mean(np.array(sides) < 1) == pytest.approx(np.log(10) / np.log(20), abs=0.1)
    starts = np.array(sorted(windows))
    assert (starts.max(axis=0) > [40, 40]).all()
    assert (starts.min(axis=0) < [10, 10]).all()


def test_mask_files_that_are_gone_are_errors_of_their_own(tmp_path: Path):
    ring = ellipse((100, 75), (60, 40))
    record = record_of([ring], SIZE, "file", tmp_path)
    (tmp_path / "mask-0.png").unlink()
    others = pool((picture([ring], SIZE), record))
    with pytest.raises(DataError, match="mask file is missing"):
        augment(picture([ring], SIZE), record, DATA, 1, CANVAS, others=others)
