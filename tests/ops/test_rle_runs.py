"""Runs against pixels: whatever is computed from ends of runs must be what the bitmaps say."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskrcnn.ops.masks import roi_masks_to_rle
from maskrcnn.ops.rle import decode_rle, encode_mask
from maskrcnn.ops.rle_runs import (
    area_within,
    box_runs,
    overlap_area,
    place_runs,
    rle_runs,
    runs_area,
    runs_to_rle,
    union_runs,
)

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
PAIRS = SIZES.flatmap(lambda size: st.tuples(arrays(bool, size), arrays(bool, size)))


@settings(max_examples=150, deadline=None)
@given(PAIRS)
def test_runs_say_what_pixels_say(pair):
    a, b = pair
    one, other = rle_runs(encode_mask(a)), rle_runs(encode_mask(b))
    assert runs_to_rle(one, a.shape) == encode_mask(a)
    assert runs_area(one) == a.sum()
    assert overlap_area(one, other) == (a & b).sum()
    assert runs_to_rle(union_runs([one, other]), a.shape) == encode_mask(a | b)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.data())
def test_area_within_a_window(pair, data):
    mask = pair[0]
    top, left = data.draw(st.integers(0, mask.shape[0])), data.draw(st.integers(0, mask.shape[1]))
    bottom, right = data.draw(st.integers(top, mask.shape[0])), data.draw(st.integers(left, mask.shape[1]))
    expected = mask[top:bottom, left:right].sum()
    assert area_within(rle_runs(encode_mask(mask)), (top, left, bottom, right), mask.shape[0]) == expected


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_enlarged_by_blocks_the_last_of_them_smaller(pair, factor, less_high, less_wide):
    mask = pair[0]
    large = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    large = large[: large.shape[0] - min(less_high, factor - 1), : large.shape[1] - min(less_wide, factor - 1)]
    runs = place_runs(rle_runs(encode_mask(mask)), mask.shape[0], large.shape, factor=factor)
    assert runs_to_rle(runs, large.shape) == encode_mask(large)


def test_the_union_of_nothing_is_empty():
    assert union_runs([]).shape == (0, 2)
    assert not decode_rle(runs_to_rle(union_runs([]), (3, 4))).any()


def test_box_runs_are_its_pixels():
    mask = np.zeros((6, 7), bool)
    mask[1:4, 2:6] = True
    assert runs_to_rle(box_runs([2.4, 1.0, 5.1, 3.2], mask.shape), mask.shape) == encode_mask(mask)
    assert runs_area(box_runs([7.0, 6.0, 7.0, 6.0], mask.shape)) == 1


def test_a_tile_of_a_larger_image_gives_masks_of_that_image():
    probabilities = np.random.default_rng(0).random((3, 7, 7), np.float32)
    boxes = np.array([[0, 0, 10, 9], [2.5, 3, 8, 20], [5, 0, 19, 20]], np.float32)
    alone = roi_masks_to_rle(probabilities, boxes, (20, 19))
    placed = roi_masks_to_rle(probabilities, boxes, (20, 19), corner=(30, 40), frame=(100, 90))
    for one, other in zip(alone, placed, strict=True):
        whole = np.zeros((100, 90), bool)
        whole[30:50, 40:59] = decode_rle(one)
        assert np.array_equal(decode_rle(other), whole)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_placed_in_a_larger_frame(pair, factor, top, left):
    part = pair[0].repeat(factor, axis=0).repeat(factor, axis=1)
    whole = np.zeros((40 + top, 40 + left), bool)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    runs = rle_runs(encode_mask(pair[0]))
    placed = place_runs(runs, pair[0].shape[0], whole.shape, factor=factor, corner=(top, left))
    assert runs_to_rle(placed, whole.shape) == encode_mask(whole)
