"""Heat maps of boxes: where a keypoint lies in one, and the peak of the enlarged one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn.ops.keypoints import cells_of_keypoints, cubic, peaks


def plain_peaks(maps: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Each map enlarged to the whole box, one after the other."""
    places, values = [], []
    for some, box in zip(maps, boxes, strict=True):
        width, height = (max(float(side), 1.0) for side in box[2:] - box[:2])
        columns, rows = math.ceil(width), math.ceil(height)
        large = F.interpolate(some[None], size=(rows, columns), mode="bicubic", align_corners=False)[0]
        value, index = large.flatten(1).max(dim=1)
        x = (index % columns + 0.5) * (width / columns) + box[0]
        y = (index // columns + 0.5) * (height / rows) + box[1]
        places.append(torch.stack([x, y], dim=-1))
        values.append(value)
    return torch.stack(places), torch.stack(values)


@pytest.mark.parametrize("sides", [(0.3, 60.0), (30.0, 130.0), (60.0, 400.0), (500.0, 900.0)])
def test_peaks_are_those_of_the_whole_enlarged_map(sides: tuple[float, float]):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(12, 5, 28, 28, generator=generator)  # as the head makes them
    maps = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
    corner = torch.rand(12, 2, generator=generator) * 50
    size = sides[0] + torch.rand(12, 2, generator=generator) * (sides[1] - sides[0])
    boxes = torch.cat([corner, corner + size], dim=1)
    place, value = peaks(maps, boxes, 900)
    expected_place, expected_value = plain_peaks(maps, boxes)
    torch.testing.assert_close(place, expected_place, atol=1e-3, rtol=0)
    torch.testing.assert_close(value, expected_value, atol=1e-4, rtol=0)


def test_a_peak_in_the_corner_and_an_empty_box():
    maps = torch.zeros(2, 1, 8, 8)
    maps[:, 0, 0, 0] = 5
    maps[:, 0, 7, 7] = 9
    boxes = torch.tensor([[10.0, 20.0, 90.5, 140.0], [3.0, 4.0, 3.0, 4.0]])
    place, value = peaks(maps, boxes, 200)
    expected, top = plain_peaks(maps, boxes)
    torch.testing.assert_close(place, expected)
    torch.testing.assert_close(value, top)
    assert place[1, 0].tolist() == [3.5, 4.5]


def test_the_cubic_sums_to_one():
    shift = torch.rand(20)
    taps = torch.arange(-3, 4)
    torch.testing.assert_close(cubic(taps - shift[:, None]).sum(1), torch.ones(20))


def test_cells_by_hand():
    box = torch.tensor([[10.0, 20.0, 66.0, 132.0]])  # a cell is 1 x 2 pixels
    places = [(10.0, 20.0, 2.0), (12.5, 25.0, 1.0), (66.0, 132.0, 2.0), (9.9, 30.0, 2.0), (12.0, 30.0, 0.0)]
    points = torch.tensor([[*places, (20.0, 133.0, 2.0)]])
    cells, visible = cells_of_keypoints(points, box, 56)
    assert visible.tolist() == [[True, True, True, False, False, False]]
    assert cells[0, :3].tolist() == [0, 2 * 56 + 2, 56 * 56 - 1]
    assert (cells[0, 3:] == 0).all()
