"""Cascade R-CNN (Cai 2018): further box heads, each on the boxes of the one before, held to a higher overlap.

As Detectron2 has it, and no weights of the stages: in training each head learns from the boxes sampled for the first
one, moved by the heads before and matched anew at its own overlap; its losses count as much as the first head's, but
of the gradients that reach the features each sends a part, 1 / number of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from maskrcnn.config import BoxHeadConfig
from maskrcnn.model.box_head import BoxHead, BoxOutput
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.ops.boxes import clip
from maskrcnn.ops.matching import gather, match
from maskrcnn.structures import LossPart, Proposals, Samples, Targets

Part = TypeVar("Part", LossPart, Tensor)
Seen = tuple[Tensor, Tensor, BoxOutput]  # rows, features, output: see `MaskRCNN.classify`


class Stage(NamedTuple):
    """What one box head was trained on.

    Attributes:
        samples: (B, N) boxes.
        rows: (R,) int64, those of the B * N that it saw.
        seen: (R, C, n, n), what it saw of them.
        output: what it says.
    """

    samples: Samples
    rows: Tensor
    seen: Tensor
    output: BoxOutput


def stage_configs(config: BoxHeadConfig) -> list[BoxHeadConfig]:
    """Of the heads after the first."""
    return [replace(config, foreground_iou=iou, box_weights=weights, cascade=()) for iou, weights in config.cascade]


def further_box_heads(first: BoxHead) -> nn.ModuleList:
    """The heads after the first, with weights of their own."""
    return nn.ModuleList(BoxHead(first.channels, first.classes, config) for config in stage_configs(first.config))


def further_mask_heads(first: MaskHead | None, box: BoxHeadConfig) -> nn.ModuleList:
    """A mask head for each of them, where the config wants that; else none."""
    if first is None or not first.config.each_stage:
        return nn.ModuleList()
    return nn.ModuleList(
        MaskHead(first.channels, first.classes, first.config, first.side) for _ in range(len(box.cascade))
    )


def train_stages(
    heads: Sequence[BoxHead],
    classify: Callable[[BoxHead, Tensor, Tensor], Seen],
    samples: Samples,
    targets: Targets,
    sizes: Tensor,
) -> list[Stage]:
    """The heads in turn, each on its samples.

    Args:
        heads: one or more.
        classify: a head, boxes (B, N, 4), which of them are valid (B, N) -> what it sees and says.
        samples: of the first head.
        targets: the truth.
        sizes: what boxes are cut to, see `ops.boxes.clip`.
    """
    stages = [Stage(samples, *classify(heads[0], samples.boxes, samples.valid))]
    for before, head in pairwise(heads):
        boxes = moved(before, stages[-1].output, samples.boxes, sizes)
        samples = matched_anew(head, samples, boxes, targets)
        stages.append(Stage(samples, *classify(head, samples.boxes, samples.valid)))
    return stages


def predict_stages(
    heads: Sequence[BoxHead],
    classify: Callable[[BoxHead, Tensor, Tensor], Seen],
    proposals: Proposals,
    sizes: Tensor,
) -> tuple[BoxOutput, Proposals, Tensor]:
    """The same in prediction: the last head's output, the boxes that it saw, and probabilities (B, N, C + 1) over all
    heads."""
    outputs = [classify(heads[0], proposals.boxes, proposals.valid)[2]]
    for before, head in pairwise(heads):
        boxes = moved(before, outputs[-1], proposals.boxes, sizes)
        proposals = Proposals(boxes, proposals.scores, proposals.valid)
        outputs.append(classify(head, proposals.boxes, proposals.valid)[2])
    average = heads[0].config.cascade_average
    return outputs[-1], proposals, mean_probabilities([output.logits for output in outputs], average)


def moved(head: BoxHead, output: BoxOutput, boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (B, N, 4) as the head refines them, cut to the content; they teach the head before nothing."""
    return clip(head.refine(output.deltas[:, :, 0], boxes), sizes).detach()


@torch.no_grad()
def matched_anew(head: BoxHead, samples: Samples, boxes: Tensor, targets: Targets) -> Samples:
    """The samples of a head from those of the one before and their moved boxes (B, N, 4).

    None is added or left out but for those without an area and those in a crowd that are not foreground. Foreground
    comes first; what is beyond `max_foreground` teaches masks and keypoints nothing.
    """
    found = match(boxes, targets.boxes, targets.valid, targets.crowd, low_quality=False)
    valid = samples.valid & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    foreground = valid & (found.iou >= head.config.foreground_iou)
    valid &= foreground | ~found.ignored
    order = torch.sort((~foreground).to(torch.int8), dim=1, stable=True).indices
    foreground, matched = gather(foreground, order), gather(found.matched, order)
    labels = torch.where(foreground, gather(targets.labels, matched), head.classes)
    return Samples(gather(boxes, order), labels, matched, foreground, gather(valid, order), samples.max_foreground)


def mean_probabilities(logits: Sequence[Tensor], average: str) -> Tensor:
    """Logits (B, N, C + 1) of each head -> probabilities (B, N, C + 1).

    Args:
        logits: of one head or more.
        average: "probabilities" or "logits", what the mean is taken of.
    """
    if len(logits) == 1:
        return logits[0].softmax(dim=-1)
    if average == "logits":
        return torch.stack(list(logits)).mean(dim=0).softmax(dim=-1)
    return torch.stack([some.softmax(dim=-1) for some in logits]).mean(dim=0)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x, with `factor` times the gradient."""
    return x if factor == 1 else torch.lerp(x.detach(), x, factor)


def renamed(parts: dict[str, Part], stage: int) -> dict[str, Part]:
    """`class` -> `class_2` for the second head (stage 1), and so on; the first keeps its names."""
    return parts if stage == 0 else {f"{name}_{stage + 1}": part for name, part in parts.items()}
