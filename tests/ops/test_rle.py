"""Masks from one form to another and back: bitmap, RLE, outlines of pixels, one ring; against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference

from maskrcnn.ops.rle import (
    decode_rle,
    encode_mask,
    join_rings,
    polygons_to_rle,
    rle_area,
    rle_to_polygons,
    rle_to_union_polygons,
)

BITMAPS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(lambda size: arrays(bool, size))


def filled(rings: list[np.ndarray], size: tuple[int, int]) -> bytes:
    """Counts of the union of rings by pycocotools."""
    return reference.merge(reference.frPyObjects([r.astype(float).ravel().tolist() for r in rings], *size))["counts"]


def nested(size: int) -> np.ndarray:
    """Frames inside frames: holes that hold parts that have holes."""
    rows, columns = np.indices((size, size))
    return np.minimum.reduce([rows, columns, size - 1 - rows, size - 1 - columns]) % 2 == 0


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@settings(max_examples=150, deadline=None)
@given(BITMAPS)
def test_bitmap_to_rle_and_back(mask):
    rle = encode_mask(mask)
    assert np.array_equal(decode_rle(rle), mask)
    assert encode_mask(decode_rle(rle)) == rle
    assert rle["counts"] == reference.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


@settings(max_examples=150, deadline=None)
@given(BITMAPS)
def test_rle_to_union_polygons_and_back(mask):
    rle = encode_mask(mask)
    rings = rle_to_union_polygons(rle)
    if not mask.any():
        assert rings == []
        return
    assert all(ring.dtype == np.float64 and len(ring) >= 4 for ring in rings)
    assert polygons_to_rle(rings, mask.shape)["counts"] == rle["counts"]
    assert filled(rings, mask.shape) == rle["counts"]
    # Each ring is a part by itself, its holes cut out: no two share a pixel, and none is a hole.
    assert sum(area(ring) for ring in rings) == mask.sum()
    assert sum(rle_area(polygons_to_rle([ring], mask.shape)) for ring in rings) == mask.sum()


@settings(max_examples=100, deadline=None)
@given(BITMAPS)
def test_all_parts_in_one_ring(mask):
    rle = encode_mask(mask)
    if mask.any():
        for rings in (rle_to_union_polygons(rle), rle_to_polygons(rle)):
            one = join_rings(rings)
            assert polygons_to_rle([one], mask.shape)["counts"] == rle["counts"]
            assert filled([one], mask.shape) == rle["counts"]


@pytest.mark.parametrize("size", [1, 5, 9, 21])
def test_holes_inside_holes(size):
    mask = nested(size)
    rings = rle_to_union_polygons(encode_mask(mask))
    assert len(rings) == (size + 3) // 4
    assert filled(rings, mask.shape) == encode_mask(mask)["counts"]


def test_a_hole_is_cut_out_by_a_line_straight_up():
    mask = np.ones((5, 6), bool)
    mask[2, 3] = False
    (ring,) = rle_to_union_polygons(encode_mask(mask))
    assert ring.tolist() == [
        *([0, 0], [3, 0], [3, 2], [3, 3], [4, 3], [4, 2], [3, 2], [3, 0]),
        *([6, 0], [6, 5], [0, 5]),
    ]


def test_holes_side_by_side_and_one_above_the_other():
    mask = np.ones((9, 12), bool)
    mask[1:3, 1:3] = mask[1:3, 5:9] = mask[5:8, 1:3] = mask[5:7, 5] = mask[4, 8] = False
    rings = rle_to_union_polygons(encode_mask(mask))
    assert len(rings) == 1
    assert filled(rings, mask.shape) == encode_mask(mask)["counts"]


def test_outlines_of_whole_pixels_do_not_move_by_cocos_rule():
    """COCO's rule takes the pixels whose centre is inside: outlines along the edges of pixels give them back."""
    box = np.array([[2.0, 3.0], [7.0, 3.0], [7.0, 5.0], [2.0, 5.0]])
    mask = decode_rle(polygons_to_rle([box], (8, 10)))
    expected = np.zeros((8, 10), bool)
    expected[3:5, 2:7] = True
    assert np.array_equal(mask, expected)
    # A border just above the centre of a pixel takes it, one just below does not.
    assert decode_rle(polygons_to_rle([box + np.array([0, 0.39])], (8, 10)))[3, 2]
    assert not decode_rle(polygons_to_rle([box + np.array([0, 0.51])], (8, 10)))[3, 2]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 24)), min_size=3, max_size=8))
def test_any_outline_to_pixels_and_back(points):
    """An outline becomes pixels once; from then on nothing changes any more."""
    rle = polygons_to_rle([np.array(points)], (24, 30))
    assert rle["counts"] == filled([np.array(points)], (24, 30))
    if rle_area(rle):
        assert polygons_to_rle(rle_to_union_polygons(rle), (24, 30))["counts"] == rle["counts"]


def test_join_goes_to_the_nearest_corner_and_back():
    left, right = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]]), np.array([[6.0, 6], [9, 6], [9, 9]])
    one = join_rings([left, right])
    assert one.tolist() == [[0, 0], [4, 0], [4, 4], [6, 6], [9, 6], [9, 9], [6, 6], [4, 4], [0, 4]]
    assert np.array_equal(join_rings([left]), left)
