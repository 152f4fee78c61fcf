"""Objects of several views put together, against the bitmap that they were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.windows import Window
from maskrcnn.instances import Instances
from maskrcnn.ops.rle import encode_mask
from maskrcnn.predict.merge import Merger
from maskrcnn.predict.tiles import layout

SIZE = (60, 80)


def seen(numbers: np.ndarray, window: Window, scores: dict[int, float] | None = None, factor: int = 1) -> Instances:
    """What a perfect network finds in a window of an image of numbers, 0 for nothing."""
    top, left, bottom, right = window
    view = numbers[top:bottom:factor, left:right:factor]
    found = [int(number) for number in np.unique(view) if number]
    boxes = np.zeros((len(found), 4), np.float32)
    for row, number in enumerate(found):
        rows, columns = np.nonzero(view == number)
        boxes[row] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return Instances(
        boxes=boxes,
        scores=np.array([(scores or {}).get(number, 0.9) for number in found], np.float32),
        labels=np.zeros(len(found), np.int64),
        classes=("object", "other"),
        size=view.shape,
        _rle=[encode_mask(view == number) for number in found],
    )


def merged(numbers: np.ndarray, windows: Sequence[Window], **options: float) -> Instances:
    merger = Merger(numbers.shape, **options)  # type: ignore[arg-type]
    for window in windows:
        merger.add(seen(numbers, window), window)
    return merger.instances()


def counts(instances: Instances) -> list[bytes]:
    return sorted(rle["counts"] for rle in instances.rle)


def truth(numbers: np.ndarray) -> list[bytes]:
    return sorted(encode_mask(numbers == number)["counts"] for number in np.unique(numbers) if number)


def picture(rectangles: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """Numbered rectangles top, left, height, width; where two meet, the later is left out."""
    numbers = np.zeros(SIZE, np.int64)
    for number, (top, left, height, width) in enumerate(rectangles, 1):
        room = numbers[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1]
        if not room.any():
            numbers[top : top + height, left : left + width] = number
    return numbers


RECTANGLES = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 70), st.integers(3, 40), st.integers(3, 60)), max_size=8
)


@settings(max_examples=120, deadline=None)
@given(RECTANGLES, st.sampled_from([24, 30, 60]), st.sampled_from([6, 10, 12]), st.randoms(use_true_random=False))
def test_every_object_once_and_whole_in_any_order_of_tiles(rectangles, tile, overlap, random):
    numbers = picture(rectangles)
    windows = layout(SIZE, (min(tile, SIZE[0]), tile), overlap)
    first = merged(numbers, windows)
    assert counts(first) == truth(numbers)
    random.shuffle(windows)
    again = merged(numbers, windows)
    assert [one["counts"] for one in again.rle] == [one["counts"] for one in first.rle]
    np.testing.assert_array_equal(again.boxes, first.boxes)
    np.testing.assert_array_equal(again.scores, first.scores)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 70), st.floats(0, 50), st.floats(1, 60), st.floats(1, 60)), max_size=12),
       st.randoms(use_true_random=False))  # fmt: skip
def test_the_order_does_not_matter_where_findings_contradict_each_other(boxes, random):
    """Masks that are no cut of anything, of two classes, with few different scores."""
    windows = layout(SIZE, (30, 40), 10)
    views = []
    for number, window in enumerate(windows):
        part = boxes[number :: len(windows)]
        masks = np.zeros((len(part), 30, 40), bool)
        placed = np.zeros((len(part), 4), np.float32)
        for row, (x, y, wide, high) in enumerate(part):
            left, top = int(x) % 38, int(y) % 28
            placed[row] = left, top, min(left + int(wide) + 1, 40), min(top + int(high) + 1, 30)
            masks[row, top : top + int(high) + 1, left : left + int(wide) + 1] = True
        labels = np.arange(len(part)) % 2
        scores = np.array([0.5 + 0.25 * (int(x) % 2) for x, *_ in part], np.float32)
        rles = [encode_mask(mask) for mask in masks]
        views.append((window, Instances(placed, scores, labels, ("a", "b"), (30, 40), _rle=rles)))

    def answer() -> tuple:
        merger = Merger(SIZE)
        for window, found in views:
            merger.add(found, window)
        given = merger.instances()
        return given.boxes.tolist(), given.scores.tolist(), given.labels.tolist(), [rle["counts"] for rle in given.rle]

    first = answer()
    random.shuffle(views)
    assert answer() == first


def test_a_bent_object_that_one_tile_sees_in_two_pieces():
    numbers = np.zeros(SIZE, np.int64)
    numbers[5:10, 5:70] = numbers[40:45, 5:70] = numbers[5:45, 60:70] = 1
    windows = layout(SIZE, (60, 46), 12)
    assert len(seen(numbers, windows[0])) == 1
    pieces = seen(numbers, windows[0])
    rows = np.zeros((2, *numbers[:, :46].shape), bool)
    rows[0, 5:10, 5:46], rows[1, 40:45, 5:46] = True, True
    two = replace(
        pieces[[0, 0]],
        boxes=np.array([[5, 5, 46, 10], [5, 40, 46, 45]], np.float32),
        _rle=[encode_mask(row) for row in rows],
    )
    merger = Merger(SIZE)
    merger.add(two, windows[0])
    merger.add(seen(numbers, windows[1]), windows[1])
    assert counts(merger.instances()) == truth(numbers)


def test_neighbours_of_another_class_stay_apart():
    numbers = picture([(10, 20, 20, 40)])
    windows = layout(SIZE, (60, 46), 12)
    merger = Merger(SIZE)
    merger.add(seen(numbers, windows[0]), windows[0])
    other = seen(numbers, windows[1])
    merger.add(replace(other, labels=np.ones(len(other), np.int64)), windows[1])
    assert len(merger.instances()) == 2


def test_the_better_of_two_whole_ones_stays():
    numbers = picture([(10, 36, 8, 8)])
    left, right = (0, 0, 60, 50), (0, 30, 60, 80)
    merger = Merger(SIZE)
    merger.add(seen(numbers, left, {1: 0.6}), left)
    merger.add(seen(numbers, right, {1: 0.8}), right)
    assert merger.instances().scores.tolist() == [np.float32(0.8)]


def test_the_whole_image_adds_what_no_tile_saw():
    """Objects larger than the overlap: one that the tiles missed is taken, one that they pieced together is not."""
    numbers = picture([(2, 2, 24, 70), (34, 4, 20, 60)])
    windows = layout(SIZE, (30, 40), 8)
    whole = (0, 0, *SIZE)
    merger = Merger(SIZE)
    for window in windows:
        found = seen(numbers, window)
        keep = [i for i, rle in enumerate(found.rle) if window[0] == 0 and found.boxes[i, 1] <= 4]
        merger.add(found[keep], window)
    merger.add(seen(numbers, whole, factor=2), whole, 2)
    assert counts(merger.instances()) == truth(numbers)  # all sides are even: enlarged blocks are exact


def test_pieces_give_way_to_the_whole_where_they_leave_much_out():
    numbers = picture([(2, 2, 50, 70)])
    windows = layout(SIZE, (30, 40), 8)
    merger = Merger(SIZE)
    merger.add(seen(numbers, windows[0]), windows[0])
    merger.add(seen(numbers, (0, 0, *SIZE), {1: 0.4}, 2), (0, 0, *SIZE), 2)
    answer = merger.instances()
    assert counts(answer) == truth(numbers)
    assert answer.scores.tolist() == [np.float32(0.4)]


def test_what_a_tile_shows_whole_is_left_to_the_tiles():
    """Also where no tile found it; not what a border cuts, nor what fills more than half of a tile."""
    numbers = picture([(4, 4, 6, 6), (10, 34, 10, 12), (36, 2, 18, 24)])
    whole = (0, 0, *SIZE)
    for shuffled in (0, 1):
        merger = Merger(SIZE)
        views = [(window, seen(np.zeros(SIZE, np.int64), window), 1) for window in layout(SIZE, (30, 40), 0)]
        views.insert(len(views) * shuffled, (whole, seen(numbers, whole, factor=2), 2))
        for window, found, factor in views:
            merger.add(found, window, factor)
        assert counts(merger.instances()) == truth(np.where(numbers == 1, 0, numbers))


# ---------------------------------------------------------------- objects that touch at a seam


def discs(*circles: tuple[float, float, float]) -> np.ndarray:
    """Numbered discs x, y, radius of a picture of 108 x 108; a pixel of two is of the earlier one."""
    numbers = np.zeros((108, 108), np.int64)
    rows, columns = np.mgrid[:108, :108]
    for number, (x, y, radius) in enumerate(circles, 1):
        numbers[((rows - y) ** 2 + (columns - x) ** 2 <= radius**2) & (numbers == 0)] = number
    return numbers


TOUCHING = [
    discs((26, 54, 25), (77, 54, 25)),  # in the middle of the overlap of 12 pixels
    discs((34, 54, 25), (85, 54, 25)),  # at one border of it
    discs((22, 54, 25), (73, 54, 25)),  # at the other
    discs((54, 26, 25), (54, 77, 25)),
    discs((35, 35, 26), (72, 72, 26)),  # at the corner of four tiles
    discs((27, 27, 25), (78, 27, 25), (27, 78, 25), (78, 78, 25)),
]


@pytest.mark.parametrize("numbers", TOUCHING)
def test_discs_that_touch_at_a_seam_stay_apart_in_any_order(numbers):
    windows = layout((108, 108), (60, 60), 12)
    assert counts(merged(numbers, windows)) == truth(numbers)
    assert counts(merged(numbers, windows[::-1])) == truth(numbers)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_edge_of_the_neighbour_in_a_mask_does_not_join_the_two(width):
    """The right tiles take the last columns of the left disc for a part of the right one."""
    numbers = discs((26, 54, 25), (77, 54, 25))
    windows = layout((108, 108), (60, 60), 12)
    wrong = numbers.copy()
    wrong[:, 52 - width : 52][numbers[:, 52 - width : 52] == 1] = 2
    views = []
    for window in windows:
        found = seen(wrong if window[1] else numbers, window)
        if window[1]:
            found = found[np.flatnonzero(found.boxes[:, 2] > 10)]
        views.append((window, found))
    answers = []
    for order in (views, views[::-1]):
        merger = Merger((108, 108))
        for window, found in order:
            merger.add(found, window)
        answers.append(merger.instances())
    assert len(answers[0]) == 2
    assert counts(answers[0]) == counts(answers[1])
    assert encode_mask(numbers == 1)["counts"] in counts(answers[0])


def test_boxes_and_keypoints_of_a_model_without_masks():
    """The pieces' box is around both; of each keypoint the surer one is taken, moved to the image's place."""

    def half(box: Sequence[float], points: Sequence[Sequence[float]]) -> Instances:
        return Instances(
            boxes=np.array([box], np.float32), scores=np.array([0.9], np.float32), labels=np.zeros(1, np.int64),
            classes=("object",), size=(60, 50), keypoints=np.array([points], np.float32),
        )  # fmt: skip

    merger = Merger(SIZE)
    merger.add(half([20, 10, 50, 30], [[22, 12, 0.9], [49, 20, 0.1]]), (0, 0, 60, 50))
    merger.add(half([0, 10, 40, 30], [[1, 12, 0.2], [38, 20, 0.8]]), (0, 30, 60, 80))
    answer = merger.instances()
    assert answer.boxes.tolist() == [[20, 10, 70, 30]]
    assert answer.keypoints is not None
    np.testing.assert_allclose(answer.keypoints, [[[22, 12, 0.9], [68, 20, 0.8]]])
    assert not answer.has_masks


def test_nothing_found_is_an_empty_answer():
    answer = merged(np.zeros(SIZE, np.int64), layout(SIZE, (30, 40), 8))
    assert len(answer) == 0
    assert answer.size == SIZE
    assert answer.has_masks


def test_no_view_at_all_is_a_mistake():
    with pytest.raises(ValueError, match="nothing was added"):
        Merger(SIZE).instances()
