"""The losses of one image, and how much of each every object causes.

The model's own `loss` is asked again for the samples of one object at a time: losses are sums over samples, so that
the shares of all objects and of the background add up to the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from maskrcnn.inspection.listen import Call, Listen, listening
from maskrcnn.inspection.trace import IGNORED, NEGATIVE, POSITIVE, Truth
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.cascade import renamed
from maskrcnn.model.foreground import Foreground
from maskrcnn.model.keypoint_head import KeypointHead
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.rpn import RPN, AnchorLabels, RPNTargets
from maskrcnn.ops.matching import gather
from maskrcnn.structures import LossPart, Targets

Share = Callable[[int], dict[str, LossPart]]


@dataclass(frozen=True, eq=False)
class Losses:
    """What training would have said about this image, with the weights and norm statistics of prediction.

    Attributes:
        parts: names: rpn_score, rpn_box, class, box, mask, keypoint; class_2 ... for the later heads of a cascade.
        values: (L,) float64, each part.
        counts: (L,) float64, the samples that it is divided by.
        shares: (G + 1, L) how much of each part comes from the samples of each object; the last row is the background.
            Columns add up to `values`.
        anchors: (G,) int64, positive anchors of each object in the loss.
        samples: (G,) int64, foreground samples of the first box head of each object.
    """

    parts: tuple[str, ...]
    values: np.ndarray
    counts: np.ndarray
    shares: np.ndarray
    anchors: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True, eq=False)
class AnchorStates:
    """As in `trace.Anchors`: state (A,) int8, object (A,) int64, sampled (N,) int64."""

    state: np.ndarray
    object: np.ndarray
    sampled: np.ndarray


@torch.no_grad()
def losses_of(
    model: MaskRCNN, images: Tensor, sizes: Tensor, targets: Targets, truth: Truth
) -> tuple[Losses, AnchorStates, list[str]]:
    """Run the training path of a model, a copy that nobody else uses, on a batch of one.

    Args:
        model: in evaluation mode; heads for which the truth says nothing are taken off it.
        images: (1, C, H, W).
        sizes: (1, 2).
        targets: of that image.
        truth: the same.

    Returns:
        losses, what each anchor could learn, and a sentence for each loss that could not be computed.
    """
    notes = _without_silent_heads(model, targets)
    with listening() as listen:
        heard = _Heard(model, listen)
        whole: dict[str, LossPart] = model(images, sizes, targets, reduction="sum")
    labels: AnchorLabels = heard.label[0].result
    sampled: RPNTargets = heard.targets[0].result
    objects = torch.from_numpy(truth.rows)
    shares = torch.zeros(len(objects) + 1, len(whole), dtype=torch.float64)
    names = list(whole)
    for part in heard.parts(labels, sampled):
        for row, number in enumerate([*objects.tolist(), -1]):
            for name, value in part(number).items():
                shares[row, names.index(name)] += value.total.double()
    counts = torch.stack([part.count for part in whole.values()]).double()
    values = torch.stack([part.total for part in whole.values()]).double()
    divisor = counts.clamp(min=1)
    matched = gather(labels.matched, sampled.indices)
    first = heard.boxes[0][0].args[1]
    losses = Losses(
        parts=tuple(names),
        values=(values / divisor).numpy(),
        counts=counts.numpy(),
        shares=(shares / divisor).numpy(),
        anchors=_count(matched[sampled.positive], objects),
        samples=_count(first.matched[first.foreground], objects),
    )
    return losses, _states(labels, sampled, objects), notes


def _without_silent_heads(model: MaskRCNN, targets: Targets) -> list[str]:
    """Take off the heads that the truth cannot teach; a sentence for each where there are objects."""
    notes = []
    if model.mask_head is not None and not targets.masks.shape[-1]:
        model.mask_head = None
        notes.append("the truth has no masks: there is no mask loss")
    if model.keypoint_head is not None and targets.keypoints is None:
        model.keypoint_head = None
        notes.append("the truth has no keypoints: there is no keypoint loss")
    return notes if targets.valid.any() else []


class _Heard:
    """The calls of the training path that the shares are computed from."""

    def __init__(self, model: MaskRCNN, listen: Listen) -> None:
        self.model = model
        self.label, self.targets = listen(model.rpn, "label"), listen(model.rpn, "targets")
        self.rpn = listen(model.rpn, "loss")
        self.boxes = [listen(head, "loss") for head in model.box_heads]
        self.masks = [(listen(head, "train_on"), listen(head, "loss")) for head in model.mask_heads]
        self.points: tuple[list[Call], list[Call]] | None = None
        if model.keypoint_head is not None:
            self.points = listen(model.keypoint_head, "train_on"), listen(model.keypoint_head, "loss")

    def parts(self, labels: AnchorLabels, sampled: RPNTargets) -> list[Share]:
        """Functions of an object's row in `Targets`, or of -1 for the background, that give its part of the losses."""
        model = self.model
        shares: list[Share] = [partial(_rpn_share, model.rpn, self.rpn[0], labels, sampled)]
        for stage, (head, calls) in enumerate(zip(model.box_heads, self.boxes, strict=True)):
            shares.append(partial(_box_share, head, calls[0], stage))
        for stage, (masks, (trained, calls)) in enumerate(zip(model.mask_heads, self.masks, strict=True)):
            shares.append(partial(_mask_share, masks, trained[0].args[1], calls[0], stage))
        if model.keypoint_head is not None and self.points is not None:
            trained, calls = self.points
            shares.append(partial(_keypoint_share, model.keypoint_head, trained[0].args[1], calls[0]))
        return shares


def _rpn_share(rpn: RPN, call: Call, labels: AnchorLabels, sampled: RPNTargets, number: int) -> dict[str, LossPart]:
    owner = torch.where(sampled.positive, gather(labels.matched, sampled.indices), -1)
    mine = owner == number
    goal = sampled._replace(positive=sampled.positive & mine, sampled=sampled.sampled & mine)
    scores, deltas = call.args[:2]
    return rpn.loss(scores, deltas, goal)


def _box_share(head: BoxHead, call: Call, stage: int, number: int) -> dict[str, LossPart]:
    output, samples, targets = call.args
    mine = torch.where(samples.foreground, samples.matched, -1) == number
    some = replace(samples, valid=samples.valid & mine, foreground=samples.foreground & mine)
    return renamed(head.loss(output, some, targets), stage)


def _mask_share(head: MaskHead, chosen: Foreground, call: Call, stage: int, number: int) -> dict[str, LossPart]:
    logits, target, valid = call.args
    return renamed(head.loss(logits, target, valid & (chosen.matched == number)), stage)


def _keypoint_share(head: KeypointHead, chosen: Foreground, call: Call, number: int) -> dict[str, LossPart]:
    maps, cells, visible = call.args
    return head.loss(maps, cells, visible & (chosen.matched == number)[:, None])


def _states(labels: AnchorLabels, sampled: RPNTargets, objects: Tensor) -> AnchorStates:
    state = torch.full_like(labels.matched[0], IGNORED, dtype=torch.int8)
    state[labels.negative[0]] = NEGATIVE
    state[labels.positive[0]] = POSITIVE
    rows = torch.where(labels.positive[0], labels.matched[0], -1)
    index = torch.full((max(int(rows.max()), int(objects.max()) if len(objects) else -1) + 2,), -1)
    index[objects] = torch.arange(len(objects))  # the last entry, that of row -1, stays -1
    return AnchorStates(
        state=state.numpy(), object=index[rows].numpy(), sampled=sampled.indices[0][sampled.sampled[0]].numpy()
    )


def _count(matched: Tensor, objects: Tensor) -> np.ndarray:
    """How often each of `objects` (G,) is in `matched` (N,)."""
    return (matched[:, None] == objects).sum(dim=0).numpy()
