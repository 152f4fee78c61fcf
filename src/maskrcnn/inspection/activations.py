"""What layers put out for one image, summed up while the network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.model.mask_rcnn import MaskRCNN

CHANNELS = 8  # shown of each layer
LARGEST = 256  # cells a side of a map that is kept


@dataclass(frozen=True, eq=False)
class Activation:
    """The map of one layer.

    Attributes:
        name: of the layer.
        shape: (channels, height, width).
        mean, std, low, high: over all numbers of the map.
        zeros: share of its numbers that are exactly 0.
        silent: channels without a number above 0 in size.
        strength: (h, w) float32, root mean square over the channels; thinned to at most 256 cells a side.
        channels: (N,) int64, those that vary most over the image.
        maps: (N, h, w) float32, thinned as well.
    """

    name: str
    shape: tuple[int, int, int]
    mean: float
    std: float
    low: float
    high: float
    zeros: float
    silent: int
    strength: np.ndarray
    channels: np.ndarray
    maps: np.ndarray


def summary_of(name: str, output: Tensor) -> Activation:
    """Of a map (C, H, W)."""
    values = output.detach().float()
    best = values.flatten(1).std(dim=1, correction=0).topk(min(CHANNELS, len(values))).indices
    step = -(-max(values.shape[1:]) // LARGEST)
    small = values[:, ::step, ::step]
    return Activation(
        name=name,
        shape=(values.shape[0], values.shape[1], values.shape[2]),
        mean=float(values.mean()),
        std=float(values.std(correction=0)),
        low=float(values.min()),
        high=float(values.max()),
        zeros=float((values == 0).float().mean()),
        silent=int((values.flatten(1) == 0).all(dim=1).sum()),
        strength=small.square().mean(dim=0).sqrt().cpu().numpy(),
        channels=best.cpu().numpy(),
        maps=small[best].cpu().numpy(),
    )


@contextlib.contextmanager
def watched(model: MaskRCNN, layers: Sequence[str] | None) -> Iterator[list[Activation]]:
    """A list that the chosen layers fill while the model runs on one image.

    Args:
        model: as it will run.
        layers: names of modules; None: the stages of the trunk and the levels of the pyramid.

    Raises:
        ConfigError: no layer of that name.
    """
    modules = dict(model.named_modules())
    chosen = list(layers) if layers is not None else ["backbone", "fpn"]
    if layers is not None:
        for name in layers:
            if name not in modules or not name:
                raise ConfigError(
                    f"no layer {name!r}{nearest(name, modules)}; the parts of the model are "
                    f"{', '.join(name for name, _ in model.named_children())}, print(model) lists all",
                    field="layers",
                )
    found: list[Activation] = []
    with contextlib.ExitStack() as stack:
        for name in chosen:
            if name in modules:
                handle = modules[name].register_forward_hook(_Hook(name, found))
                stack.callback(handle.remove)
        yield found
    if missing := [name for name in layers or () if not any(_is_of(name, one.name) for one in found)]:
        raise ConfigError(f"{missing[0]} gives no map of numbers; choose a convolution or a stage", field="layers")


def _is_of(layer: str, name: str) -> bool:
    return name == layer or name.startswith(f"{layer} ")


class _Hook:
    """At once, because later layers may write into the map. Of a layer that runs several times the first map is kept,
    of one that gives several all are."""

    def __init__(self, name: str, found: list[Activation]) -> None:
        self.name, self.found, self.ran = name, found, False

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.ran:
            return
        outputs = output if isinstance(output, (list, tuple)) else [output]
        maps = [value for value in outputs if isinstance(value, Tensor) and value.ndim == 4 and value.numel()]
        for number, value in enumerate(maps):
            self.ran = True
            self.found.append(summary_of(self._title(number, len(maps)), value[0]))

    def _title(self, number: int, count: int) -> str:
        if count == 1:
            return self.name
        return f"{self.name} P{number + 2}" if self.name == "fpn" else f"{self.name} {number + 1}"


def statistics(values: Tensor) -> np.ndarray:
    """(C, ...) -> (C, 4) float64: mean, std, min, max of each channel."""
    flat = values.flatten(1).double()
    if not flat.shape[1]:
        return np.zeros((len(flat), 4))
    columns = [flat.mean(1), flat.std(1, correction=0), flat.amin(1), flat.amax(1)]
    return torch.stack(columns, dim=1).cpu().numpy()
