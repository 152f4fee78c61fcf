import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from maskrcnn.ops.boxes import area, clip, decode, encode, intersection, iou


def random_boxes(*shape: int, seed: int = 0, side: float = 100.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2, generator=generator) * side], dim=-1)


def test_iou_equals_torchvision():
    a, b = random_boxes(7), random_boxes(5, seed=1)
    torch.testing.assert_close(iou(a, b), torchvision.ops.box_iou(a, b))


def test_iou_is_batched_and_empty_is_ordinary():
    a, b = random_boxes(2, 7), random_boxes(2, 5, seed=1)
    torch.testing.assert_close(iou(a, b)[1], iou(a[1], b[1]))
    assert iou(a[:, :0], b).shape == (2, 0, 5)
    assert iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_area_and_intersection_by_hand():
    a = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 5.0, 5.0], [4.0, 0.0, 6.0, 2.0]])
    assert area(a).tolist() == [8.0]
    assert intersection(a, b).tolist() == [[3.0, 0.0]]


def test_clip_uses_each_image_size():
    boxes = torch.tensor([-5.0, -5.0, 50.0, 50.0]).expand(2, 1, 4)
    sizes = torch.tensor([[20, 30], [40, 60]])
    assert clip(boxes, sizes)[:, 0].tolist() == [[0, 0, 30, 20], [0, 0, 50, 40]]


@given(st.integers(0, 10_000))
def test_decode_inverts_encode(seed: int):
    boxes, references = random_boxes(6, seed=seed), random_boxes(6, seed=seed + 1)
    references[:, 2:] += 5  # size ratios stay below the bound of `decode`
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(
        decode(encode(boxes, references, weights), references, weights), boxes, atol=1e-3, rtol=1e-4
    )


def test_decode_bounds_wild_sizes():
    wild = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    box = decode(wild, torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (1.0, 1.0, 1.0, 1.0))
    assert torch.allclose(box[:, 2] - box[:, 0], torch.tensor(1000.0))


def test_a_wild_regression_is_bounded_or_not():
    box, wild = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 6.0, 6.0]])
    weights = (1.0, 1.0, 1.0, 1.0)
    bounded, free = decode(wild, box, weights), decode(wild, box, weights, limited=False)
    torch.testing.assert_close(bounded[0, 2] - bounded[0, 0], torch.tensor(1000.0))
    torch.testing.assert_close(free[0, 2] - free[0, 0], 16 * torch.tensor(6.0).exp())


def test_clip_to_a_box_in_the_middle():
    boxes = torch.tensor([[[-5.0, 0.0, 12.0, 40.0], [8.0, 9.0, 10.0, 11.0]]])
    found = clip(boxes, torch.tensor([[2, 4, 10, 20]]))
    assert found.tolist() == [[[2.0, 4.0, 10.0, 20.0], [8.0, 9.0, 10.0, 11.0]]]


def test_decode_bounds_growth_and_shrinking():
    box, wild = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 9.0, -9.0]])
    one = (1.0, 1.0, 1.0, 1.0)
    sides = decode(wild, box, one)
    torch.testing.assert_close(sides[0, 2] - sides[0, 0], torch.tensor(1000.0))
    assert sides[0, 3] - sides[0, 1] < 0.01
    both = decode(wild, box, one, limited_below=True)
    torch.testing.assert_close(both[0, 3] - both[0, 1], torch.tensor(16 * 16 / 1000))
