import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from maskrcnn.ops import roi_align as rooms
from maskrcnn.ops.roi_align import assign_levels, gather_levels, gather_rows, multilevel_roi_align, scatter_rows


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


@pytest.fixture
def tables() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three levels, the second without a RoI; 5 RoIs of 2 cells, each cell the sum of 4 rows."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(v, 3, generator=generator, dtype=torch.float64).requires_grad_() for v in (10, 6, 4)]
    indices = torch.randint(0, 4, (10, 4), generator=generator, dtype=torch.int32)
    weights = torch.rand(10, 4, generator=generator, dtype=torch.float64)
    return rows, indices, weights, torch.tensor([0, 0, 0, 2, 2]), torch.tensor([1, 2, 4, 0, 3])


def test_gather_levels_equals_one_table_of_all(tables):
    rows, indices, weights, levels, places = tables
    first = torch.tensor([0, 10, 16])[levels].repeat_interleave(2)
    expected = gather_rows(torch.cat(rows), indices + first[:, None], weights)
    pooled = gather_levels(rows, indices, weights, levels, places)
    torch.testing.assert_close(pooled.view(5, 2, 3)[places].view(10, 3), expected)
    grad = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theirs = scatter_rows(grad[places].view(10, 3), indices + first[:, None], weights, 20).split([10, 6, 4])
    grad = grad.view(10, 3)
    for ours, other in zip(torch.autograd.grad(pooled, rows, grad), theirs, strict=True):
        torch.testing.assert_close(ours, other)


def test_gather_levels_is_a_sound_operator(tables):
    rows, *others = tables
    torch.library.opcheck(gather_levels, tables)
    one_level = torch.zeros(5, dtype=torch.int64), torch.arange(5)
    torch.library.opcheck(gather_levels, (rows, *others[:2], *one_level))
    assert torch.autograd.gradcheck(lambda *rows: gather_levels(rows, *others), rows)


def test_few_rois_at_a_time_and_in_any_order_give_the_same(pyramid, rois, monkeypatch):
    boxes, image_index = rois
    how = {"resolution": 7, "sampling_ratio": 2, "aligned": False}
    expected = multilevel_roi_align(pyramid, boxes, image_index, **how)
    monkeypatch.setattr(rooms, "_BAGS_AT_ONCE", 100)
    mixed = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))
    assert torch.equal(multilevel_roi_align(pyramid, boxes[mixed], image_index[mixed], **how), expected[mixed])


def test_half_precision_features(pyramid, rois):
    how = {"resolution": 7, "sampling_ratio": 2, "aligned": True}
    halves = [feature.detach().bfloat16().requires_grad_() for feature in pyramid]
    pooled = multilevel_roi_align(halves, *rois, **how)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), multilevel_roi_align(pyramid, *rois, **how), atol=0.05, rtol=0.05)
    assert all(grad.dtype == torch.bfloat16 for grad in torch.autograd.grad(pooled.sum(), halves))
