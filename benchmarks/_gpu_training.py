"""Training steps for `gpu.py`: ours as in `training.loop`, torchvision's as in its reference scripts."""

from __future__ import annotations

import copy
import gc
import math
import statistics
import time
from typing import TYPE_CHECKING

import accelerate
import torch
import torch.nn.functional as F
from _torchvision import Pair, objects, picture, to_device
from torch import Tensor, nn

from maskrcnn.config import TrainConfig
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.structures import Batch
from maskrcnn.training.gradients import backward
from maskrcnn.training.optim import Guard, make_optimizer, set_rate
from maskrcnn.training.prefetch import on_device
from maskrcnn.training.readback import Readback, Step

if TYPE_CHECKING:
    from gpu import Settings


class OurTraining:
    """The lines of `training.loop._steps` without what happens now and then. The learning rate is 0."""

    def __init__(
        self, model: MaskRCNN, batch: Batch, device: torch.device, precision: str, *, compiled: bool = False
    ) -> None:
        self.device, self.precision = device, precision
        self.batch = batch.pin_memory() if device.type == "cuda" and batch.images.device.type == "cpu" else batch
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = make_optimizer(self.model, TrainConfig(batch_size=16))
        set_rate(self.optimizer, 0.0)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if compiled:
            self.model.compile(fullgraph=True, dynamic=False)
        self.accelerator = accelerate.Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        self.readback = Readback(device)
        self.guard = Guard(self.optimizer, device) if device.type == "cuda" else None
        self.losses: list[float] = []

    def run(self, steps: int, *, drain: bool = True) -> None:
        for batches in on_device(([self.batch] for _ in range(steps)), self.device):
            losses = backward(self.model, self.model, batches, self.accelerator, self.precision)
            norm = nn.utils.clip_grad_norm_(self.parameters, 10.0)
            values = torch.stack([*losses.values(), norm])
            if self.guard:
                self.guard.see(values)
            self.note(self.readback.put(Step(1, 0.0, (*losses, "gradient norm"), ()), values))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        if drain:
            self.note(self.readback.drain())

    def note(self, read: list[tuple[Step, list[float]]]) -> None:
        for _, values in read:
            self.losses = values
            if not all(map(math.isfinite, values)):
                raise RuntimeError(f"our loss is not finite: {values}")


class TheirTraining:
    """torchvision's references/detection/engine.py under AMP: copy, forward, `.item()`, scaled backward, update."""

    def __init__(self, model: nn.Module, batch: tuple[list[Tensor], list[dict[str, Tensor]]], device: torch.device):
        self.device, self.batch = device, batch
        self.model = model.to(device).train()
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9, weight_decay=1e-4)
        self.amp = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            images = [image.to(self.device) for image in self.batch[0]]
            targets = to_device(self.batch[1], self.device)
            with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
                loss = torch.stack(list(self.model(images, targets).values())).sum()
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"torchvision's loss is not finite: {loss.item()}")
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()


def batches_of(
    pair: Pair, count: int, settings: Settings
) -> tuple[Batch, tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """What each loader delivers: ours uint8, padded, with box-local masks; theirs float, with full-size masks."""
    height, width = settings.train_size
    side = min(height, width)
    photos = [picture(height, width, seed) for seed in range(count)]
    targets, theirs = objects(count, settings.objects, side, pair.ours.data.mask_size)
    for target in theirs:
        target["masks"] = F.pad(target["masks"], (0, width - side, 0, height - side))
    multiple = pair.ours.data.pad_multiple
    padded = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    images = torch.stack([F.pad(photo, (0, padded[1] - width, 0, padded[0] - height)) for photo in photos])
    ours = Batch(images, torch.tensor([[height, width]] * count), targets)
    return ours, ([photo.float() / 255 for photo in photos], theirs)


def training_of(
    side: str, pair: Pair, count: int, settings: Settings, *, compiled: bool = False, from_host: bool = True
) -> OurTraining | TheirTraining:
    """A copy of the side's network on the device, with its batch. Their transform resizes nothing."""
    device = settings.device
    ours, theirs = batches_of(pair, count, settings)
    if side == "ours":
        batch = ours if from_host else ours.to(device)
        return OurTraining(copy.deepcopy(pair.ours), batch, device, settings.precision, compiled=compiled)
    if not from_host:
        theirs = [image.to(device) for image in theirs[0]], to_device(theirs[1], device)
    model = copy.deepcopy(pair.theirs)
    model.transform.min_size, model.transform.max_size = (min(settings.train_size),), max(settings.train_size)
    return TheirTraining(model, theirs, device)


def race_training(
    pair: Pair, count: int, settings: Settings, *, compiled: bool, from_host: bool
) -> tuple[float, float]:
    """Median seconds of a step of each side. A run is a few steps, so that ours may have one on its way."""
    sides = [
        training_of(side, pair, count, settings, compiled=compiled, from_host=from_host) for side in ("ours", "theirs")
    ]
    seconds: list[list[float]] = [[], []]
    for side in sides:
        side.run(2 if settings.device.type == "cuda" else 1)
    for _ in range(max(settings.repeat // 3, 1)):
        for side, times in zip(sides, seconds, strict=True):
            wait(settings.device)
            start = time.perf_counter()
            side.run(settings.steps)
            wait(settings.device)
            times.append((time.perf_counter() - start) / settings.steps)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def memory_of(side: str, pair: Pair, count: int, settings: Settings) -> float | None:
    """GiB at the peak of a step with nothing else on the device; None on a CPU, whose peak is the process's."""
    if settings.device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()  # kernels' workspaces, if anything
    training_of(side, pair, count, settings).run(2)
    peak = torch.cuda.max_memory_allocated() - before
    gc.collect()
    torch.cuda.empty_cache()
    return peak / 2**30


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
