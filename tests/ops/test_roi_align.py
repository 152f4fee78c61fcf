import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from maskrcnn.ops.roi_align import assign_levels, gather_rows, multilevel_roi_align


@pytest.fixture
def pyramid() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 8, 64 // 2**i, 80 // 2**i, generator=generator).requires_grad_() for i in range(4)]


@pytest.fixture
def rois() -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of all sizes, some past the border, sorted by image."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(60, 2, generator=generator) * torch.tensor([330.0, 260.0]) - 10
    sides = torch.rand(60, 2, generator=generator) ** 2 * 700 + 0.2
    return torch.cat([corner, corner + sides], 1), torch.arange(60) // 30


@pytest.mark.parametrize("resolution", [7, 14])
def test_equals_torchvision_in_value_and_gradient(pyramid, rois, resolution):
    boxes, image_index = rois
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], resolution, 2)
    named = {str(i): feature for i, feature in enumerate(pyramid)}
    expected = reference(named, [boxes[image_index == 0], boxes[image_index == 1]], [(256, 320)] * 2)
    pooled = multilevel_roi_align(pyramid, boxes, image_index, resolution=resolution, sampling_ratio=2, aligned=False)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad(pooled, pyramid, weight)
    theirs = torch.autograd.grad(expected, pyramid, weight)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_aligned_equals_torchvision_level_by_level(pyramid, rois, sampling_ratio):
    boxes, image_index = rois
    pooled = multilevel_roi_align(
        pyramid, boxes, image_index, resolution=7, sampling_ratio=sampling_ratio, aligned=True
    )
    levels = assign_levels(boxes, 4)
    assert set(levels.tolist()) == {0, 1, 2, 3}
    for level in range(4):
        mine = levels == level
        roi = torch.cat([image_index[mine, None].float(), boxes[mine]], 1)
        expected = roi_align(pyramid[level], roi, 7, 1 / 2 ** (level + 2), sampling_ratio, True)
        torch.testing.assert_close(pooled[mine], expected, atol=1e-4, rtol=1e-4)


def test_no_boxes(pyramid):
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    for ratio in (0, 2):
        pooled = multilevel_roi_align(pyramid, *none, resolution=7, sampling_ratio=ratio, aligned=True)
        assert pooled.shape == (0, 8, 7, 7)
        pooled.sum().backward()


def test_levels_by_hand():
    sides = torch.tensor([0.0, 32.0, 111.0, 112.0, 224.0, 448.0, 5000.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    assert assign_levels(boxes, 4).tolist() == [0, 0, 0, 1, 2, 3, 3]


def test_gather_rows_is_a_sound_operator():
    rows = torch.randn(10, 3, requires_grad=True)
    torch.library.opcheck(gather_rows, (rows, torch.randint(0, 10, (5, 4)), torch.rand(5, 4)))
