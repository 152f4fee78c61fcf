"""One big batch, micro-batches: the same gradient."""

from __future__ import annotations

import accelerate
import pytest
import torch
from torch import nn

from maskrcnn.model.build import build_model
from maskrcnn.structures import Batch, Targets, empty_targets
from maskrcnn.training.gradients import backward, is_out_of_memory
from tests.training.tiny_run import tiny_config


def batch_of(count: int) -> Batch:
    """Random images; image i has i objects, so that micro-batches count differently."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 255, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    targets = empty_targets(count, 4, 28, keys=torch.arange(count) * 7919 + 1)
    for image in range(count):
        for i in range(image):
            targets.boxes[image, i] = torch.tensor([4.0 + 6 * i, 8.0, 34.0 + 6 * i, 40.0])
            targets.labels[image, i] = i % 2
            targets.valid[image, i] = True
            targets.masks[image, i, 4:20] = 255
    return Batch(images, torch.full((count, 2), 64), targets)


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.images[rows],
        batch.sizes[rows],
        Targets(*[getattr(batch.targets, n)[rows] for n in ("boxes", "labels", "masks", "valid", "crowd", "keys")]),
    )


@pytest.fixture
def model():
    return build_model(tiny_config().model, classes=["a", "b"]).train()


def gradients(model, batches):
    accelerator = accelerate.Accelerator(cpu=True)
    model.zero_grad()
    losses = backward(model, model, batches, accelerator, "float32")
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_one_batch(model, parts):
    batch, size = batch_of(4), 4 // parts
    losses, whole = gradients(model, [batch])
    same, accumulated = gradients(model, [part(batch, slice(i, i + size)) for i in range(0, 4, size)])
    assert losses.keys() == same.keys()
    for name in losses:
        torch.testing.assert_close(losses[name], same[name], rtol=1e-5, atol=1e-6)
    for name in whole:
        torch.testing.assert_close(whole[name], accumulated[name], rtol=1e-4, atol=1e-6)


def test_one_batch_equals_the_mean_losses_of_the_model(model):
    batch = batch_of(3)
    losses, _ = gradients(model, [batch])
    expected = model(batch.images, batch.sizes, batch.targets)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name].detach())


def test_counting_leaves_batch_statistics_alone():
    model = build_model(tiny_config(**{"model.backbone.norm": "bn"}).model, classes=["a", "b"]).train()
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    batch = batch_of(4)
    gradients(model, [part(batch, slice(0, 2)), part(batch, slice(2, 4))])
    assert norm.num_batches_tracked == 2
    assert norm.track_running_stats


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected
