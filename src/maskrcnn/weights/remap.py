"""Fine-tuning: take over the weights that fit, and the rows of the class predictors by class name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskrcnn.model.backbones import first_convolution, inflate

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

# Tensors with rows per class, how many rows a class has, and whether a background row comes last.
CLASS_TENSORS = {
    "box_head.class_logits.weight": (1, True),
    "box_head.class_logits.bias": (1, True),
    "box_head.box_deltas.weight": (4, False),
    "box_head.box_deltas.bias": (4, False),
    "mask_head.logits.weight": (1, False),
    "mask_head.logits.bias": (1, False),
}
PREPROCESSING = ("mean", "std")
# The further heads of a cascade have the same layers.
FURTHER = ((re.compile(r"cascade\.\d+\."), "box_head."), (re.compile(r"cascade_masks\.\d+\."), "mask_head."))


@dataclass(frozen=True)
class Transfer:
    """What `transfer` did with each tensor and class.

    Attributes:
        copied: tensors taken over whole.
        remapped: class predictors taken over by rows.
        inflated: the first convolution, fitted to another number of input channels, with both numbers.
        initialised: tensors of the model that keep their initial values.
        dropped: tensors of the source that the model has no place for, by name or by shape.
        kept_classes, new_classes: of the model, with and without a row in the source.
        dropped_classes: of the source, unknown to the model.
    """

    copied: tuple[str, ...] = ()
    remapped: tuple[str, ...] = ()
    initialised: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    kept_classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()
    dropped_classes: tuple[str, ...] = ()
    inflated: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A few lines for the start of a run."""
        lines = [
            f"weights: {len(self.copied)} tensors kept, {len(self.remapped)} class predictors by class name, "
            f"{len(self.initialised)} initialised, {len(self.dropped)} dropped"
        ]
        for title, names in [
            ("classes kept", self.kept_classes),
            ("classes initialised", self.new_classes),
            ("classes dropped", self.dropped_classes),
            ("input channels", self.inflated),
            ("tensors initialised", self.initialised),
            ("tensors dropped", self.dropped),
        ]:
            if names:
                more = f", and {len(names) - 8} more" if len(names) > 8 else ""
                lines.append(f"  {title}: {', '.join(names[:8])}{more}")
        return "\n".join(lines)


@torch.no_grad()
def transfer(model: MaskRCNN, state: Mapping[str, Tensor], classes: Sequence[str]) -> Transfer:
    """Copy into `model` every tensor of `state` that fits by name and shape, class predictors by class name.

    Rows of classes that the source does not know keep their initial values; so does the preprocessing (`mean`, `std`),
    which belongs to the model's own config. A first convolution for another number of channels is fitted by `inflate`.
    A keypoint head for as many points is copied.

    Args:
        model: changed in place.
        state: tensors of the source model, our names.
        classes: class names of the source, index = label.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in PREPROCESSING}
    source = {name: tensor for name, tensor in state.items() if name not in PREPROCESSING}
    by_class = _class_tensors(model)
    copied: list[str] = []
    remapped: list[str] = []
    initialised: list[str] = []
    first = f"backbone.{first_convolution(model.backbone)[0]}.weight"
    inflated = _inflate_first(first, own, source)
    for name, tensor in own.items():
        if name not in source:
            initialised.append(name)
        elif _like_first(name) in by_class:
            done = _copy_rows(name, tensor, source[name], model.classes, classes)
            (remapped if done else initialised).append(name)
        elif tensor.shape == source[name].shape:
            tensor.copy_(source[name])
            copied.append(name)
        else:
            initialised.append(name)
    used = {*copied, *remapped}
    return Transfer(
        copied=tuple(copied),
        remapped=tuple(remapped),
        initialised=tuple(initialised),
        dropped=tuple(name for name in source if name not in used),
        kept_classes=tuple(name for name in model.classes if name in classes),
        new_classes=tuple(name for name in model.classes if name not in classes),
        dropped_classes=tuple(name for name in classes if name not in model.classes),
        inflated=inflated,
    )


def _inflate_first(name: str, own: Mapping[str, Tensor], source: dict[str, Tensor]) -> tuple[str, ...]:
    """Fit the first convolution in `source` to the model, in place; says what was done, in () or (a sentence,)."""
    ours, theirs = own[name], source.get(name)
    if theirs is None or theirs.ndim != 4 or theirs.shape[1] == ours.shape[1]:
        return ()
    source[name] = inflate(theirs, ours.shape[1])
    return (f"{name} from {theirs.shape[1]} to {ours.shape[1]}, their mean repeated and its magnitude kept",)


def _like_first(name: str) -> str:
    """`cascade.1.class_logits.bias` -> the name that it has in the first head."""
    for pattern, first in FURTHER:
        name = pattern.sub(first, name, count=1) if pattern.match(name) else name
    return name


def _class_tensors(model: MaskRCNN) -> set[str]:
    """The predictors of this model that have rows for each class, not one set for all."""
    config = model.config
    agnostic = ["box_head.box_deltas."] if config.box.class_agnostic else []
    agnostic += ["mask_head.logits."] if config.mask and config.mask.class_agnostic else []
    return {name for name in CLASS_TENSORS if not name.startswith(tuple(agnostic))}


def _copy_rows(
    name: str, tensor: Tensor, source: Tensor, classes: Sequence[str], source_classes: Sequence[str]
) -> bool:
    """Rows of the classes that both know, and the background's. False where the layouts differ."""
    rows, background = CLASS_TENSORS[_like_first(name)]
    if len(source) != rows * len(source_classes) + background or tensor.shape[1:] != source.shape[1:]:
        return False
    for label, class_name in enumerate(classes):
        if class_name in source_classes:
            there = list(source_classes).index(class_name)
            tensor[rows * label : rows * (label + 1)] = source[rows * there : rows * (there + 1)].to(tensor)
    if background:
        tensor[-1] = source[-1].to(tensor)
    return True
