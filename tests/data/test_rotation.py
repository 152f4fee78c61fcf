"""Rotation: one affine map for image, boxes, masks and keypoints; boxes are those of the rotated masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maskrcnn.config import DataConfig
from maskrcnn.data.transforms import Placement, augment, chances_of, place, place_image, place_objects
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import encode_mask
from maskrcnn.structures import RLE, MaskFile
from tests.data.painted import box_around, ellipse, overlap, pasted, picture, record_of

SIZE = (180, 240)
PLAIN = DataConfig(horizontal_flip=0)
WILD = DataConfig(
    min_size=120,
    max_size=200,
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=180,
    crop=0.5,
    scale_jitter=(0.5, 2.0),
)

sides = st.integers(1, 300)
placements = st.builds(
    lambda y, x, h, w, size, flips, angle: Placement((y, x, y + h, x + w), size, *flips, angle),
    st.integers(0, 50),
    st.integers(0, 50),
    sides,
    sides,
    st.tuples(sides, sides),
    st.tuples(st.booleans(), st.booleans()),
    st.floats(-180, 180),
)


@settings(max_examples=200, deadline=None)
@given(placement=placements, points=st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=1))
def test_to_input_is_the_inverse_of_to_original(placement: Placement, points: list[tuple[float, float]]):
    affine = placement.to_original
    there = placement.to_input(np.array(points))
    assert np.allclose(there @ affine[:, :2].T + affine[:, 2], points, atol=1e-6)


def test_a_quarter_turn_by_hand():
    """Clockwise as a person sees it: what was right of the centre is now below it; a mirror comes afterwards."""
    centre_right = np.array([[30.0, 10.0]])
    assert np.allclose(Placement((0, 0, 20, 40), (20, 40), angle=90).to_input(centre_right), [[20, 20]])
    assert np.allclose(Placement((0, 0, 20, 40), (20, 40), angle=30).to_input(np.array([[20.0, 10.0]])), [[20, 10]])
    turned = Placement((0, 0, 20, 40), (20, 40), angle=30).to_input(centre_right)
    mirrored = Placement((0, 0, 20, 40), (20, 40), flip_x=True, angle=30).to_input(centre_right)
    assert np.allclose(mirrored, [[40 - turned[0, 0], turned[0, 1]]])
    both = Placement((0, 0, 20, 40), (20, 40), True, True, 30).to_input(centre_right)
    assert np.allclose(both, [40, 20] - turned)


def test_half_a_turn_is_both_mirrors():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *SIZE), np.uint8))
    turned = place_image(image, Placement((0, 0, *SIZE), SIZE, angle=180), PLAIN)
    assert (turned.int() - image.flip([1, 2]).int()).abs().max() <= 1


def test_no_rotation_is_the_very_same_sample():
    record, image = record_of([ellipse((120, 90), (30, 50))], SIZE), picture([ellipse((120, 90), (30, 50))], SIZE)
    for key in range(5):
        a = augment(image, record, replace(WILD, rotation=0.0), key, (128, 224))
        placement = place(SIZE, WILD, (128, 224), chances_of(key))
        straight = replace(placement, angle=0.0)
        assert torch.equal(a[0], place_image(image, straight, WILD))
        assert np.array_equal(a[1].boxes, place_objects(record, straight, WILD).boxes)


@pytest.mark.parametrize("kind", ["polygon", "rle", "file"])
@settings(max_examples=30, deadline=None)
@given(
    key=st.integers(0, 2**63 - 1),
    x=st.floats(60, 180),
    y=st.floats(60, 120),
    wide=st.floats(20, 45),
    high=st.floats(20, 45),
)
def test_box_and_mask_are_what_the_image_shows(
    tmp_path_factory: pytest.TempPathFactory, kind: str, key: int, x: float, y: float, wide: float, high: float
):
    ring = ellipse((x, y), (wide, high))
    record = record_of([ring], SIZE, kind, tmp_path_factory.getbasetemp())
    image, objects = augment(picture([ring], SIZE), record, WILD, key, (128, 224))
    shown = image[0].numpy() >= 128
    if not len(objects):
        assert shown.mean() < 0.1
        return
    assume(shown.mean() < 0.4)  # else the mean colour is the object's own
    placement = place(SIZE, WILD, (128, 224), chances_of(key))
    zoom = max(1.0, placement.size[0] / (placement.window[2] - placement.window[0]))
    assert np.abs(objects.boxes[0] - box_around(shown)).max() <= 1.5 * zoom
    if shown.sum() > 1500:
        assert overlap(pasted(objects.masks[0], objects.boxes[0], shown.shape), shown) > 0.95


@pytest.mark.parametrize("angle", [0.0, 90.0, -90.0, 37.0, 180.0])
@pytest.mark.parametrize("kind", ["polygon", "rle", "file"])
def test_boxes_of_cut_objects_are_tight(tmp_path: Path, kind: str, angle: float):
    """A triangle of which the window shows the thick end only."""
    ring = np.array([[20.0, 160.0], [220.0, 160.0], [220.0, 20.0]])
    placement = Placement((40, 60, 160, 180), (120, 120), angle=angle)
    shown = place_image(picture([ring], SIZE), placement, PLAIN)[0].numpy() >= 128
    objects = place_objects(record_of([ring], SIZE, kind, tmp_path), placement, PLAIN)
    assert np.abs(objects.boxes[0] - box_around(shown)).max() <= 1.5
    assert overlap(pasted(objects.masks[0], objects.boxes[0], shown.shape), shown) > 0.95


def test_large_pixel_masks_are_looked_at_in_strips():
    """More pixels than a strip; a ring whose extremes lie in different strips."""
    size = (3000, 3000)
    ring = ellipse((1500, 1500), (1400, 700), 500)
    y, x = np.ogrid[0:3000, 0:3000]
    mask = encode_mask(((x - 1499.5) / 1400) ** 2 + ((y - 1499.5) / 700) ** 2 < 1)
    record = record_of([ring], size, masks=(RLE(size, mask["counts"]),))
    objects = place_objects(record, Placement((0, 0, *size), size, angle=30), PLAIN)
    expected = place_objects(record_of([ring], size), Placement((0, 0, *size), size, angle=30), PLAIN)
    assert np.abs(objects.boxes - expected.boxes).max() < 2


def test_boxes_without_masks_are_those_of_the_ellipse_inside():
    ring = ellipse((120, 90), (60, 20))
    placement = Placement((0, 0, *SIZE), SIZE, angle=40)
    bare = place_objects(record_of([ring], SIZE, masks=()), placement, PLAIN)
    assert np.abs(bare.boxes - place_objects(record_of([ring], SIZE), placement, PLAIN).boxes).max() < 0.2


def test_keypoints_turn_with_the_image():
    points = np.array([[[150, 90, 2], [120, 60, 1], [239, 179, 2], [0, 0, 0]]], np.float32)
    record = record_of([ellipse((120, 90), (60, 60))], SIZE, keypoints=points)
    moved = place_objects(record, Placement((0, 0, *SIZE), SIZE, angle=90), PLAIN, [(0, 1)]).keypoints
    assert moved is not None
    assert np.allclose(moved[0], [[120, 120, 2], [150, 90, 1], [0, 0, 0], [0, 0, 0]], atol=1e-4)
    mirrored = place_objects(record, Placement((0, 0, *SIZE), SIZE, True, False, 90), PLAIN, [(0, 1)]).keypoints
    assert mirrored is not None
    assert np.allclose(mirrored[0, :2], [[90, 90, 1], [120, 120, 2]], atol=1e-4)


def test_what_comes_from_outside_the_image_has_its_mean_colour():
    image = torch.zeros((3, 40, 80), dtype=torch.uint8)
    image[0], image[1, :, :40] = 200, 100
    turned = place_image(image, Placement((0, 0, 40, 80), (40, 80), angle=90), PLAIN)
    assert np.abs(turned[:, 20, 5].numpy() - [200.0, 50.0, 0.0]).max() <= 1
    assert turned[0].min() == 200


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear"])
def test_channels_and_depth_stay(interpolation: str):
    image = torch.from_numpy(np.random.default_rng(0).normal(1000, 300, (5, *SIZE)).astype(np.float32))
    data = replace(WILD, pixels="raw", interpolation=interpolation)
    content, _ = augment(image, record_of([], SIZE), data, 3, (128, 224))
    assert content.dtype == torch.float32
    assert content.shape[0] == 5
    assert 500 < content.mean() < 1500


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 3)])
def test_tiny_images(size: tuple[int, int]):
    image = torch.full((3, *size), 90, dtype=torch.uint8)
    for key in range(20):
        content, objects = augment(image, record_of([], size), replace(WILD, min_size=2), key, (32, 224))
        assert content.numel() > 0
        assert len(objects) == 0


def test_crowds_alone():
    record = record_of([ellipse((120, 90), (60, 40))], SIZE, crowd=np.array([True]))
    objects = place_objects(record, Placement((0, 0, *SIZE), SIZE, angle=20), PLAIN)
    assert objects.crowd.tolist() == [True]
    assert not objects.masks.any()


def test_a_mask_file_of_another_size_is_named(tmp_path: Path):
    record = record_of([ellipse((120, 90), (60, 40))], SIZE, "file", tmp_path)
    with pytest.raises(DataError, match="the mask is 240 x 180, its image 250 x 180"):
        place_objects(replace(record, width=250), Placement((0, 0, *SIZE), SIZE, angle=20), PLAIN)
    gone = replace(record, masks=(MaskFile(tmp_path / "none.png"),))
    with pytest.raises(DataError, match="the mask file is missing"):
        place_objects(gone, Placement((0, 0, *SIZE), SIZE, angle=20), PLAIN)
