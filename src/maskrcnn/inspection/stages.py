"""The stages of a prediction, put together from what the model's methods were heard to give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskrcnn.data.sample import to_display
from maskrcnn.inspection.activations import statistics
from maskrcnn.inspection.listen import Call, Listen
from maskrcnn.inspection.trace import Anchors, BoxStage, Crops, Found, HeatMaps, Input, Masks, Proposals, Truth
from maskrcnn.model.cascade import moved
from maskrcnn.model.content import leave
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.model.roi_features import levels_of
from maskrcnn.ops.boxes import clip, iou
from maskrcnn.structures import Detections, Targets

TOP = 200  # anchors shown on their way to proposals
CROPS = 12  # proposals whose features are kept
HEATED = 6  # detections whose heat maps are kept
CANDIDATES = 1000  # boxes before NMS that are kept
OVERLAP = 0.5  # from this IoU on a detection lies on an object


@dataclass(frozen=True)
class Heard:
    """The calls of one prediction."""

    normalise: list[Call]
    features: list[Call]
    rpn: list[Call]
    anchors: list[Call]
    proposals: list[Call]
    rpn_decode: list[Call]
    heads: list[list[Call]]
    wanted: list[Call]
    decode: list[Call]
    see: list[Call]
    points: list[Call]
    result: list[Call]


def hear(model: MaskRCNN, listen: Listen) -> Heard:
    """Listen to everything that the stages need."""
    last = model.box_heads[-1]
    return Heard(
        normalise=listen(model, "normalise"),
        features=listen(model, "features"),
        rpn=listen(model.rpn, "forward"),
        anchors=listen(model, "anchors_of"),
        proposals=listen(model, "propose"),
        rpn_decode=listen(model.rpn, "decode"),
        heads=[listen(head, "forward") for head in model.box_heads],
        wanted=listen(last, "wanted"),
        decode=listen(last, "decode"),
        see=listen(model, "see"),
        points=[] if model.keypoint_head is None else listen(model.keypoint_head, "forward"),
        result=listen(model, "look_into"),
    )


def input_of(model: MaskRCNN, images: Tensor, content: tuple[int, int, int, int], heard: Heard) -> Input:
    """Of images (1, C, H, W)."""
    x0, y0, x1, y1 = content
    if model.data.pixels == "rgb8":
        pixels = images[0].round().clamp(0, 255).to(torch.uint8) if images.is_floating_point() else images[0]
    else:
        pixels = torch.from_numpy(to_display(images[0])).permute(2, 0, 1)
    return Input(
        pixels=np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()),
        content=content,
        raw=statistics(images[0, :, y0:y1, x0:x1]),
        normalised=statistics(heard.normalise[0].result[0, :, y0:y1, x0:x1]),
    )


def anchors_of(model: MaskRCNN, heard: Heard) -> Anchors:
    """Without what they could learn."""
    parts = heard.anchors[0].result
    maps = heard.features[0].result
    return Anchors(
        boxes=_left(model, torch.cat(parts)).numpy(),
        level=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        shapes=tuple((int(map.shape[2]), int(map.shape[3])) for map in maps),
    )


def proposals_of(model: MaskRCNN, heard: Heard, truth: Truth | None) -> Proposals:
    """The anchors of the highest scores on their way, and what the RPN made of all."""
    logits, deltas = (torch.cat(values, 1) for values in heard.rpn[0].result)
    limits = heard.rpn_decode[0].args[3]
    anchors, _ = model.rpn.on_images(torch.cat(heard.anchors[0].result), limits, train=False)
    anchors = anchors if anchors.ndim == 2 else anchors[0]
    scores = logits[0].sigmoid()
    refined = model.rpn.refine(deltas[0], anchors)
    clipped = clip(refined[None], limits)[0]
    top = logits[0].topk(min(TOP, len(scores))).indices
    result = heard.proposals[0].result
    count = int(result.valid[0].sum())
    boxes, box_scores = result.boxes[0, :count], result.scores[0, :count]
    source = sources(boxes, box_scores, clipped, scores)
    frame = heard.proposals[0].args[3].frame
    levels = torch.zeros(count, dtype=torch.int64)
    if model.fpn is not None:
        levels = levels_of(boxes, model.config.box.pooler, 4, frame=frame, inclusive=model.config.inclusive)
    outside = _left(model, boxes)
    recall = None
    if truth is not None:
        overlap = iou(torch.from_numpy(truth.boxes), outside)
        recall = overlap.amax(dim=1).numpy() if count else np.zeros(len(truth.boxes), np.float32)
    return Proposals(
        top=top.numpy(),
        scores=scores[top].numpy(),
        anchors=_left(model, anchors[top]).numpy(),
        refined=_left(model, refined[top]).numpy(),
        clipped=_left(model, clipped[top]).numpy(),
        kept=torch.isin(top, source).numpy(),
        boxes=outside.numpy(),
        box_scores=box_scores.numpy(),
        anchor=source.numpy(),
        roi_level=levels.numpy(),
        recall=recall,
    )


def box_stages_of(model: MaskRCNN, heard: Heard) -> tuple[BoxStage, ...]:
    """What each box head said of the valid proposals."""
    proposals = heard.proposals[0].result
    limits = heard.decode[0].args[2]
    boxes, count = proposals.boxes, int(proposals.valid[0].sum())
    stages = []
    for head, calls in zip(model.box_heads, heard.heads, strict=True):
        output = calls[0].result
        probabilities = output.logits[0].softmax(dim=-1)[:count]
        best = probabilities[:, : head.classes].argmax(dim=-1)
        column = torch.zeros_like(best) if head.config.class_agnostic else best
        deltas = output.deltas[0, torch.arange(count), column]
        refined = clip(head.refine(deltas, boxes[0, :count])[None], limits)[0]
        stages.append(
            BoxStage(
                boxes=_left(model, boxes[0, :count]).numpy(),
                probabilities=probabilities.numpy(),
                best=best.numpy(),
                refined=_left(model, refined).numpy(),
            )
        )
        if head is not model.box_heads[-1]:
            boxes = moved(head, output, boxes, limits)
    return tuple(stages)


def candidates_of(model: MaskRCNN, heard: Heard, truth: Truth | None) -> tuple[Found, np.ndarray]:
    """What enters NMS, best first, cut to 1,000; and the number of all by class."""
    head = model.box_heads[-1]
    output, proposals, limits = heard.decode[0].args[:3]
    probabilities = heard.wanted[0].args[0][0]
    wanted = heard.wanted[0].result[0]
    rows, labels = wanted.nonzero().unbind(1)
    counts = torch.bincount(labels, minlength=head.classes)
    scores = probabilities[rows, labels]
    order = scores.argsort(descending=True, stable=True)
    rows, labels, scores = rows[order], labels[order], scores[order]
    column = torch.zeros_like(labels) if head.config.class_agnostic else labels
    boxes = clip(head.refine(output.deltas[0, rows, column], proposals.boxes[0, rows])[None], limits)[0]
    found = _found(_left(model, boxes), scores, labels, rows, truth)
    return found, counts.numpy()


def detections_of(model: MaskRCNN, heard: Heard, candidates: Found, truth: Truth | None) -> Found:
    """After NMS, each with the proposal that it comes from."""
    result: Detections = heard.result[0].result
    count = int(result.valid[0].sum())
    boxes, scores, labels = result.boxes[0, :count], result.scores[0, :count], result.labels[0, :count]
    place = torch.full((count,), -1)
    of_label = torch.from_numpy(candidates.labels)
    for label in labels.unique():
        mine, theirs = (labels == label).nonzero()[:, 0], (of_label == label).nonzero()[:, 0]
        some_boxes, some_scores = (torch.from_numpy(v)[theirs] for v in (candidates.boxes, candidates.scores))
        place[mine] = theirs[sources(boxes[mine], scores[mine], some_boxes, some_scores)]
    return _found(boxes, scores, labels, torch.from_numpy(candidates.proposal)[place], truth)


def shortened(candidates: Found) -> Found:
    """The best of them."""
    names = ("boxes", "scores", "labels", "proposal", "object", "iou")
    return Found(*(getattr(candidates, name)[:CANDIDATES] for name in names))


def crops_of(detections: Found, proposals: Proposals, heard: Heard) -> Crops:
    """What the first box head sees: of the proposals behind the detections, then of the best others."""
    features = heard.see[0].result
    rows = list(dict.fromkeys([*detections.proposal.tolist(), *range(len(proposals.boxes))]))[:CROPS]
    return Crops(np.array(rows, np.int64), features[rows].float().numpy())


def masks_of(model: MaskRCNN, heard: Heard, detections: Found, truth: Truth | None, targets: Targets | None) -> Masks:
    """Of the detections."""
    result: Detections = heard.result[0].result
    config = model.config.mask
    assert result.masks is not None
    assert config is not None
    assert model.mask_head is not None
    predicted = result.masks[0, : len(detections)].float()
    overlap = np.full(len(detections), np.nan)
    if truth is None or truth.masks is None or targets is None or not len(detections):
        return Masks(predicted.numpy(), None, overlap, config.threshold)
    goal = torch.full_like(predicted, torch.nan)
    on = np.flatnonzero(detections.object >= 0)
    if len(on):
        matched = torch.from_numpy(truth.rows[detections.object[on]])
        boxes = torch.from_numpy(detections.boxes[on])
        goal[on] = model.mask_head.targets(boxes, torch.zeros_like(matched), matched, targets)
        a, b = predicted[on] >= config.threshold, goal[on] >= 0.5
        union = (a | b).flatten(1).sum(1)
        overlap[on] = ((a & b).flatten(1).sum(1) / union.clamp(min=1)).numpy()
    return Masks(predicted.numpy(), goal.numpy(), overlap, config.threshold)


def heat_maps_of(model: MaskRCNN, heard: Heard, detections: Found) -> HeatMaps:
    """Of the best detections."""
    result: Detections = heard.result[0].result
    assert result.keypoints is not None
    assert model.keypoints is not None
    count = min(HEATED, len(detections))
    logits = heard.points[0].result[:count].float()
    maps = logits.flatten(2).softmax(dim=-1).view_as(logits)
    return HeatMaps(maps.numpy(), result.keypoints[0, :count].float().numpy(), model.keypoints.names)


def sources(boxes: Tensor, scores: Tensor, of_boxes: Tensor, of_scores: Tensor) -> Tensor:
    """Which of many boxes (A, 4), scores (A,) each of boxes (P, 4), scores (P,) is: the nearest of those of the same
    score, (P,) int64. What NMS leaves has forgotten its place; equal numbers tell it."""
    order = of_scores.argsort()
    ranked = of_scores[order]
    first = torch.searchsorted(ranked, scores - 1e-6)
    last = torch.searchsorted(ranked, scores + 1e-6, right=True)
    found = torch.zeros(len(boxes), dtype=torch.int64)
    for index, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        some = order[start:stop]
        if len(some):
            found[index] = some[(of_boxes[some] - boxes[index]).abs().amax(dim=1).argmin()]
    return found


def _found(boxes: Tensor, scores: Tensor, labels: Tensor, rows: Tensor, truth: Truth | None) -> Found:
    overlap, which = torch.zeros(len(boxes)), torch.full((len(boxes),), -1)
    if truth is not None and len(truth.boxes) and len(boxes):
        overlap, which = iou(boxes.float(), torch.from_numpy(truth.boxes)).max(dim=1)
        which = torch.where(overlap >= OVERLAP, which, -1)
    values: Sequence[Tensor] = (boxes.float(), scores.float(), labels, rows, which, overlap)
    return Found(*(value.cpu().numpy() for value in values))


def _left(model: MaskRCNN, boxes: Tensor) -> Tensor:
    """Boxes as the network counts them -> input frame."""
    return leave(boxes, inclusive=model.config.inclusive)
