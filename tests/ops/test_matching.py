import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from maskrcnn.ops.matching import CHUNK, choose, counter_noise, gather, match
from tests.ops.test_boxes import random_boxes


def test_equals_torchvision_matcher_over_many_chunks():
    boxes, objects = random_boxes(500), random_boxes(1, 2 * CHUNK + 5, seed=1)
    valid = torch.ones(objects.shape[:2], dtype=torch.bool)
    found = match(boxes, objects, valid, ~valid, low_quality=True)
    expected = Matcher(0.7, 0.3, allow_low_quality_matches=True)(box_iou(objects[0], boxes))
    positive = (found.iou[0] >= 0.7) | found.forced[0]
    negative = (found.iou[0] < 0.3) & ~found.forced[0]
    ours = torch.where(positive, found.matched[0], torch.where(negative, -1, -2))
    assert torch.equal(ours, expected)


def test_padding_matches_nothing():
    boxes, objects = random_boxes(2, 50), random_boxes(2, 4, seed=1)
    valid = torch.tensor([[True, True, False, False], [False] * 4])
    found = match(boxes, objects, valid, torch.zeros_like(valid), low_quality=True)
    alone = match(boxes[:1], objects[:1, :2], valid[:1, :2], ~valid[:1, :2], low_quality=True)
    assert torch.equal(found.matched[:1], alone.matched)
    assert (found.iou[1] == -1).all()
    assert not found.forced[1].any()


def test_crowd_is_ignored_not_matched():
    crowd_box = torch.tensor([[[0.0, 0.0, 100.0, 100.0]]])
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0], [90.0, 90.0, 120.0, 120.0]])
    no, yes = torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    found = match(boxes, crowd_box, no, yes, low_quality=False)
    assert found.ignored.tolist() == [[True, False]]
    assert (found.iou == -1).all()


def test_noise_is_uniform_and_a_function_of_key_and_index():
    noise = counter_noise(torch.tensor([1, 2, 2**62 + 5]), 20_000)
    assert torch.equal(noise[1], counter_noise(torch.tensor([2]), 20_000)[0])
    assert torch.equal(noise[:, :10], counter_noise(torch.tensor([1, 2, 2**62 + 5]), 10))
    assert noise.min() >= 0
    assert noise.max() < 1
    assert abs(noise.mean().item() - 0.5) < 0.01
    histogram = torch.histc(noise[0], 20, 0, 1)
    assert histogram.min() > 850  # 1000 expected, deviation 31
    correlation = torch.corrcoef(noise)
    assert (correlation - torch.eye(3)).abs().max() < 0.03


def test_choose_takes_no_more_than_asked_and_only_candidates():
    candidates = torch.tensor([[True] * 3 + [False] * 7, [True] * 10])
    noise = counter_noise(torch.tensor([3, 4]), 10)
    indices, chosen = choose(candidates, noise, 5)
    assert chosen.sum(1).tolist() == [3, 5]
    assert gather(candidates, indices)[chosen].all()
    _, chosen = choose(candidates, noise, 5, torch.tensor([1, 4]))
    assert chosen.sum(1).tolist() == [1, 4]
    indices, chosen = choose(candidates[:, :0], noise[:, :0], 5)
    assert indices.shape == chosen.shape == (2, 0)


def test_the_first_of_equal_boxes_is_forced_and_matched_to_the_object():
    """TensorFlow's rule: one box an object, and it learns this object even where it overlaps another more."""
    objects = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [50.0, 50.0, 52.0, 52.0]]])
    boxes = torch.tensor(
        [[2.0, 0.0, 12.0, 10.0], [1.5, 0.0, 11.5, 10.0], [0.0, 90.0, 9.0, 99.0], [48.0, 48.0, 54.0, 54.0]] * 2
    )
    valid, crowd = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    ties = match(boxes, objects, valid, crowd, low_quality=True)
    first = match(boxes, objects, valid, crowd, low_quality=True, first_only=True)
    assert ties.forced[0].nonzero()[:, 0].tolist() == [0, 1, 3, 4, 5, 7]
    assert first.forced[0].nonzero()[:, 0].tolist() == [0, 1, 3]
    assert first.matched[0, [0, 1, 3]].tolist() == [1, 0, 2]  # box 0 overlaps both objects as much
    assert torch.equal(first.iou, ties.iou)


def test_a_box_that_two_objects_ask_for_goes_to_the_first():
    objects = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 20.0]]])
    boxes = torch.tensor([[0.0, 0.0, 18.0, 18.0], [60.0, 60.0, 70.0, 70.0]])
    valid, crowd = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.bool)
    found = match(boxes, objects, valid, crowd, low_quality=True, first_only=True)
    assert found.forced[0].tolist() == [True, False]
    assert found.matched[0, 0] == 0
    assert match(boxes, objects, valid, crowd, low_quality=True).matched[0, 0] == 1
