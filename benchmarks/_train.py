"""One training step of both: forward, backward, SGD."""

from __future__ import annotations

import torch
from _timing import Row, compare
from _torchvision import build_pair, objects, picture, to_device
from torch import nn


def run(device: torch.device, repeat: int, side: int = 512, batch: int = 2, count: int = 8) -> list[Row]:
    """`batch` images of `side` x `side` with `count` objects each.

    Each side starts from what its own loader hands over: ours uint8 images and box-local mask crops, torchvision's
    float images and full-size masks.
    """
    images = torch.stack([picture(side, side, seed) for seed in range(batch)])
    pair = build_pair(side, side, images[0], device)
    images = images.to(device)
    sizes = torch.full((batch, 2), side, device=device)
    ours, theirs = pair.ours.train(), pair.theirs.train()
    ours.to(memory_format=torch.channels_last)  # `train.channels_last`, our default; torchvision's recipe has none
    targets, their_targets = objects(batch, count, side, ours.data.mask_size)
    targets, their_targets = targets.to(device), to_device(their_targets, device)
    their_images = list(images.float() / 255)
    our_optimizer, their_optimizer = optimizer(ours, fused=True), optimizer(theirs)  # ours as `train` makes it

    def our_step() -> None:
        update(torch.stack(list(ours(images, sizes, targets).values())).sum(), our_optimizer)

    def their_step() -> None:
        update(torch.stack(list(theirs(their_images, their_targets).values())).sum(), their_optimizer)

    name = f"{batch} x {side} x {side}, {count} objects each"
    return [compare("training step", name, our_step, their_step, repeat=repeat, device=device)]


def optimizer(model: nn.Module, fused: bool | None = None) -> torch.optim.Optimizer:
    """The full update at rate 0: the network stays what it was, so that every repetition does the same work."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=1e-4, fused=fused)


def update(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
