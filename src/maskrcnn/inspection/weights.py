"""The tensors of a model in numbers: spread, dead and exploded channels, what is frozen, what differs from another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones.norms import FrozenBatchNorm2d
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.exported.model import is_exported
from maskrcnn.weights.load import load_weights

BINS = 41  # of a histogram
DEAD = 1e-6  # a channel whose largest weight is below this part of the layer's largest
EXPLODED = 10.0  # a channel whose root mean square is so many times the layer's median
SHUT = 1e-3  # a norm's scale below this in size shuts its channel
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


@dataclass(frozen=True, eq=False)
class Layer:
    """One tensor of a model.

    Attributes:
        name: in `model.state_dict()`.
        kind: "weight" (of a convolution or linear layer), "bias", "norm" (scale and shift of a norm), "statistics"
            (running mean and variance of one), or "other".
        shape: of the tensor.
        trains: whether training changes it.
        mean, std, low, high: of its finite numbers; 0 where it has none.
        zeros: share of numbers that are exactly 0.
        nan, inf: numbers that are not finite.
        edges, counts: (42,) and (41,) histogram of the finite numbers.
        dead: channels put out that are all but zero; of a norm those that its scale shuts.
        exploded: channels that are ten times as large as the layer's median one.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    trains: bool
    mean: float
    std: float
    low: float
    high: float
    zeros: float
    nan: int
    inf: int
    edges: np.ndarray
    counts: np.ndarray
    dead: tuple[int, ...] = ()
    exploded: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def part(self) -> str:
        """The part of the model that it belongs to: backbone, fpn, rpn ..."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, eq=False)
class Difference:
    """One tensor in two models.

    Attributes:
        name: of the tensor.
        kind: "equal" (bit for bit), "changed", "shape" (other shapes), "missing" (not in the other), or "extra" (only
            in the other).
        shape, other: the shapes, () where there is none.
        change: norm of the difference / norm of the first; NaN unless "changed", infinite where the first is 0, not
            finite where a number of either is not.
        largest: largest difference of a number; NaN unless "changed".
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    other: tuple[int, ...] = ()
    change: float = float("nan")
    largest: float = float("nan")


@dataclass(frozen=True, eq=False)
class Weights:
    """What `inspect_weights` gives.

    Attributes:
        name: where the model came from.
        classes: of the model.
        layers: its tensors, in the order of the network.
        other: where the model to compare with came from, or "".
        differences: between the two, () without another.
        notes: what is odd, one sentence each.
    """

    name: str
    classes: tuple[str, ...]
    layers: tuple[Layer, ...]
    other: str = ""
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the model's parts."""
        return tuple(dict.fromkeys(layer.part for layer in self.layers))


def inspect_weights(
    model: MaskRCNN | str | Path, other: MaskRCNN | str | Path | None = None, **options: Any
) -> Weights:
    """Statistics of every tensor of a model, and its differences from another one.

    Args:
        model: a network, or what `load_weights` opens: of any framework.
        other: the same, to compare with.
        options: for `load_weights` of the first: `config`, `classes`.

    Raises:
        WeightsError: one of them cannot be opened.
    """
    first, name = _opened(model, **options)
    layers = tuple(_layers(first))
    second, other_name = (None, "") if other is None else _opened(other)
    differences = () if second is None else tuple(_differences(first.state_dict(), second.state_dict()))
    return Weights(name, first.classes, layers, other_name, differences, tuple(_notes(layers, differences)))


def _opened(model: MaskRCNN | str | Path, **options: Any) -> tuple[MaskRCNN, str]:
    if isinstance(model, MaskRCNN):
        return model, "model"
    if is_exported(model):
        raise WeightsError(f"{model}: an exported file has no layers by name; give the checkpoint it came from")
    return load_weights(model, **options), str(model)


def _layers(model: MaskRCNN) -> Iterator[Layer]:
    modules = dict(model.named_modules())
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, value in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        yield layer_of(name, value, modules[owner], leaf, trains=name in training)


def layer_of(name: str, value: Tensor, module: nn.Module, leaf: str, *, trains: bool) -> Layer:
    """Of the tensor `leaf` of a module."""
    numbers = value.detach().cpu()
    flat = numbers.flatten().double() if not numbers.is_complex() else numbers.abs().flatten().double()
    finite = flat[flat.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    around = max(0.5, abs(low) * 1e-6)  # of a constant: more than its last bit
    counts, edges = np.histogram(finite.numpy(), BINS, (low, high) if high > low else (low - around, low + around))
    kind = _kind(module, leaf)
    dead, exploded = _odd_channels(numbers, module, kind, leaf)
    return Layer(
        name=name,
        kind=kind,
        shape=tuple(numbers.shape),
        trains=trains,
        mean=float(finite.mean()) if len(finite) else 0.0,
        std=float(finite.std(correction=0)) if len(finite) else 0.0,
        low=low,
        high=high,
        zeros=float((flat == 0).double().mean()) if len(flat) else 0.0,
        nan=int(flat.isnan().sum()),
        inf=int(flat.isinf().sum()),
        edges=edges,
        counts=counts,
        dead=dead,
        exploded=exploded,
    )


def _kind(module: nn.Module, leaf: str) -> str:
    if leaf.startswith("running_"):
        return "statistics"
    if isinstance(module, (*NORMS, nn.GroupNorm, nn.LayerNorm)):
        return "norm" if leaf in ("weight", "bias") else "other"
    return leaf if leaf in ("weight", "bias") else "other"


def _odd_channels(value: Tensor, module: nn.Module, kind: str, leaf: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(dead, exploded) channels that a layer puts out."""
    if kind == "norm" and leaf == "weight":
        return _places(value.abs() < SHUT), ()
    if kind != "weight" or value.ndim < 2 or not value.is_floating_point() or not value.numel():
        return (), ()
    rows = value.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else value
    rows = rows.float().flatten(1)
    sound = rows.isfinite().all(dim=1)
    rows = torch.where(sound[:, None], rows, 0.0)
    largest, spread = rows.abs().amax(dim=1), rows.square().mean(dim=1).sqrt()
    exploded = (spread > EXPLODED * spread.median()) & (spread.median() > 0)
    return _places((largest <= DEAD * largest.max()) & sound), _places(exploded)


def _places(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[:, 0].tolist())


def _differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> Iterator[Difference]:
    for name, value in first.items():
        shape = tuple(value.shape)
        if name not in second:
            yield Difference(name, "missing", shape)
            continue
        theirs = second[name]
        if theirs.shape != value.shape:
            yield Difference(name, "shape", shape, tuple(theirs.shape))
        elif not value.numel() or (value.dtype == theirs.dtype and _same_bits(value, theirs)):
            yield Difference(name, "equal", shape, shape)
        else:
            gap, size = (theirs.double() - value.double()), float(value.double().norm())
            change = float(gap.norm()) / size if size else float("inf" if gap.any() else 0.0)
            yield Difference(name, "changed", shape, shape, change, float(gap.abs().max()))
    for name in second.keys() - first.keys():
        yield Difference(name, "extra", (), tuple(second[name].shape))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))


# ---------------------------------------------------------------- what is odd


def _notes(layers: tuple[Layer, ...], differences: tuple[Difference, ...]) -> Iterator[str]:
    if bad := [layer for layer in layers if layer.nan or layer.inf]:
        count = sum(layer.nan + layer.inf for layer in bad)
        yield (
            f"{count:,} numbers in {len(bad)} tensors are NaN or infinite, first in {bad[0].name}: the model cannot be "
            "used; take an earlier checkpoint, and train with a lower learning rate"
        )
    if dead := [layer for layer in layers if layer.dead and layer.kind == "weight"]:
        yield (
            f"{_channels(dead, 'dead')} all but zero, most in {_most(dead, 'dead').name}: they add nothing; many of "
            "them after training from scratch point to a learning rate that was too high"
        )
    if shut := [layer for layer in layers if layer.dead and layer.kind == "norm"]:
        yield (
            f"{_channels(shut, 'dead')} shut by the scale of a norm that is nearly 0: usual for a few channels of a "
            "pretrained trunk"
        )
    if loud := [layer for layer in layers if layer.exploded]:
        yield (
            f"{_channels(loud, 'exploded')} more than {EXPLODED:g} times as large as the median of the layer, most in "
            f"{_most(loud, 'exploded').name}: usual in the first layers of a pretrained trunk; elsewhere look at its "
            "histogram"
        )
    if empty := [layer for layer in layers if layer.name.endswith("running_var") and layer.low < 0]:
        yield f"{empty[0].name} holds a negative variance: the file is damaged or was converted wrongly"
    kinds = [difference.kind for difference in differences]
    if differences and kinds.count("equal") == len(kinds):
        yield "both models are equal bit for bit"
    if wrong := [difference for difference in differences if difference.kind in ("shape", "missing", "extra")]:
        yield (
            f"{len(wrong)} tensors have no partner of their shape in the other model, first {wrong[0].name}: the two "
            "have another architecture or other classes"
        )


def _channels(layers: list[Layer], field: str) -> str:
    count = sum(len(getattr(layer, field)) for layer in layers)
    return f"{count:,} channel{'s' * (count != 1)} in {len(layers):,} layer{'s' * (len(layers) != 1)}"


def _most(layers: list[Layer], field: str) -> Layer:
    return max(layers, key=lambda layer: len(getattr(layer, field)))


# ---------------------------------------------------------------- as text


def table_of(weights: Weights) -> str:
    """A line for each part of the model, then what is odd, then the comparison: for a terminal."""
    head = ["part", "tensors", "numbers", "train", "std of weights", "dead", "exploded", "NaN, Inf"]
    rows = [head, *([*row] for row in part_rows(weights))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip
    lines += [f"note: {note}" for note in weights.notes]
    if weights.differences:
        lines += comparison_lines(weights)
    return "\n".join(lines)


def part_rows(weights: Weights) -> list[list[str]]:
    """Of each part: name, tensors, numbers, share that trains, smallest to largest std of a weight, channels."""
    rows = []
    for part in weights.parts:
        layers = [layer for layer in weights.layers if layer.part == part]
        total = sum(layer.size for layer in layers)
        trained = sum(layer.size for layer in layers if layer.trains)
        spread = [layer.std for layer in layers if layer.kind == "weight"]
        rows.append(
            [
                part,
                f"{len(layers):,}",
                f"{total:,}",
                f"{100 * trained / max(total, 1):.0f} %",
                f"{min(spread):.2g} to {max(spread):.2g}" if spread else "",
                f"{sum(len(layer.dead) for layer in layers):,}",
                f"{sum(len(layer.exploded) for layer in layers):,}",
                f"{sum(layer.nan + layer.inf for layer in layers):,}",
            ]
        )
    return rows


def comparison_lines(weights: Weights) -> list[str]:
    """How many tensors are equal, changed, missing, and which changed most."""
    kinds = ["equal", "changed", "shape", "missing", "extra"]
    found = [difference.kind for difference in weights.differences]
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in kinds if kind in found)
    lines = [f"compared with {weights.other}: {counts}"]
    return lines + [f"  {d.name}: {_sentence(change_of(d))}" for d in most_changed(weights)[:10]]


def _sentence(change: str) -> str:
    return f"changed by {change} of its size" if change.endswith("%") else change


def most_changed(weights: Weights) -> list[Difference]:
    """The tensors that changed, the most first."""
    changed = [difference for difference in weights.differences if difference.kind == "changed"]
    return sorted(changed, key=lambda difference: -rank_of(difference))


def rank_of(difference: Difference) -> float:
    """What to sort by: the change, and where it is no number infinity."""
    return math.inf if math.isnan(difference.change) else difference.change


def change_of(difference: Difference) -> str:
    """How much it changed: a share, or why there is none."""
    if not math.isfinite(difference.change):
        return "not finite in one of the two" if not math.isfinite(difference.largest) else "was all 0"
    return f"{100 * difference.change:.3g} %"
