import torch
from torchvision.ops import batched_nms

from maskrcnn.ops.nms import nms_keep


def test_equals_torchvision_per_image_and_group():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 60, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 20], -1)
    scores = torch.rand(2, 60, generator=generator)
    groups = torch.randint(0, 3, (2, 60), generator=generator)
    valid = torch.rand(2, 60, generator=generator) > 0.2
    keep = nms_keep(boxes, scores, groups, valid, 0.5)
    for image in range(2):
        rows = valid[image].nonzero()[:, 0]
        expected = rows[batched_nms(boxes[image, rows], scores[image, rows], groups[image, rows], 0.5)]
        assert sorted(expected.tolist()) == keep[image].nonzero()[:, 0].tolist()


def test_nothing_valid_and_nothing_at_all():
    boxes, scores, groups = torch.zeros(1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.int64)
    assert not nms_keep(boxes, scores, groups, torch.zeros(1, 4, dtype=torch.bool), 0.5).any()
    none = nms_keep(boxes[:, :0], scores[:, :0], groups[:, :0], torch.zeros(1, 0, dtype=torch.bool), 0.5)
    assert none.shape == (1, 0)


def test_is_a_sound_operator():
    arguments = (torch.rand(1, 4, 4), torch.rand(1, 4), torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4) > 0, 0.5)
    torch.library.opcheck(nms_keep, arguments)
