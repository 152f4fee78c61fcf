"""The spine: images to losses, or images to detections. Input frame throughout; shapes depend on the batch's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, overload

import torch
from torch import Tensor, nn

from maskrcnn.config import DataConfig, ModelConfig, PoolerConfig
from maskrcnn.model.anchors import Anchors
from maskrcnn.model.box_head import BoxHead, BoxOutput
from maskrcnn.model.cascade import (
    Stage,
    further_box_heads,
    further_mask_heads,
    predict_stages,
    renamed,
    scale_gradient,
    train_stages,
)
from maskrcnn.model.content import Canvas, canvas_of, content_mask, detection_limits, enter, leave, proposal_limits
from maskrcnn.model.foreground import Foreground, foreground_of
from maskrcnn.model.fpn import FPN
from maskrcnn.model.keypoint_head import KeypointHead
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.roi_features import from_map, from_pyramid
from maskrcnn.model.rpn import RPN
from maskrcnn.ops.compact import put, rows_to_keep, take
from maskrcnn.structures import Detections, KeypointSchema, LossPart, ObjectSizes, Proposals, Samples, Targets


class MaskRCNN(nn.Module):
    """Mask R-CNN (He et al. 2017) with its classes and its preprocessing.

    Three arrangements. With a pyramid, each head reads its own features of a box from it. Without, the trunk gives one
    map: the heads read that (C5), or its last stage, `stage_two`, runs on the crop of each box for both heads (C4).

    Attributes:
        classes: class names, index = label.
        category_ids: external id of each class.
        config: what the network was built from.
        data: how an image becomes the input tensor.
        keypoints: names of the keypoints, or None.
        object_sizes: of what it was trained on, where that is known.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        fpn: FPN | None,
        stage_two: nn.Module | None = None,
        anchors: Anchors,
        rpn: RPN,
        box_head: BoxHead,
        mask_head: MaskHead | None,
        keypoint_head: KeypointHead | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        config: ModelConfig,
        data: DataConfig,
        classes: tuple[str, ...],
        category_ids: tuple[int, ...],
        keypoints: KeypointSchema | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.fpn, self.anchors, self.rpn = backbone, fpn, anchors, rpn
        self.stage_two = stage_two
        self.box_head, self.mask_head = box_head, mask_head
        self.cascade = further_box_heads(box_head)
        self.cascade_masks = further_mask_heads(mask_head, config.box)
        self.keypoint_head, self.keypoints = keypoint_head, keypoints
        self.config, self.data = config, data
        self.classes, self.category_ids = classes, category_ids
        self.object_sizes: ObjectSizes | None = None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @overload
    def forward(self, images: Tensor, sizes: Tensor) -> Detections: ...
    @overload
    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: Targets,
        *,
        reduction: Literal["mean"] = "mean",
        counts: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]: ...
    @overload
    def forward(
        self, images: Tensor, sizes: Tensor, targets: Targets, *, reduction: Literal["sum"]
    ) -> dict[str, LossPart]: ...
    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: Targets | None = None,
        *,
        reduction: str = "mean",
        counts: Mapping[str, Tensor] | None = None,
    ) -> Detections | dict[str, Tensor] | dict[str, LossPart]:
        """Detections, or losses where targets are given.

        Args:
            images: (B, C, H, W) uint8 or float 0..255; H and W multiples of 32 with a pyramid; content at the top left,
                or where `data.pad_place` says.
            sizes: (B, 2) int64, (height, width) of the content.
            targets: the truth; asks for losses.
            reduction: "mean": dict of scalars `rpn_score`, `rpn_box`, `class`, `box`, `mask`, `keypoint`, those of the
                second and third head of a cascade `class_2`, ...; weights included. "sum": dict of `LossPart`, whose
                totals and counts add up over batches and processes.
            counts: what "mean" divides by, for batches that are a part of a larger one; None: this batch's own.
        """
        if targets is None:
            return self.predict(images, sizes)
        canvas, inner = canvas_of(images, sizes), self._enter(targets)
        features = self.features(images, sizes)
        anchors = self.anchors_of(features, canvas.frame)
        with torch.no_grad():
            logits, deltas = self.rpn(features)
        proposals = self.propose(logits, deltas, anchors, canvas, train=True)
        # The loss is on a few hundred anchors: computed once more, with gradients, there alone. That is an eighth of
        # a step, and the memory of the head's maps.
        sampled = self.rpn.targets(torch.cat(anchors), inner, self._proposal_limits(canvas))
        parts = self.rpn.loss(*self.rpn.at(features, sampled.indices), sampled)
        stages = self.train_boxes(features, canvas, self.box_head.targets(proposals, inner), inner)
        for number, (head, stage) in enumerate(zip(self.box_heads, stages, strict=True)):
            parts |= renamed(head.loss(stage.output, stage.samples, inner), number)
        parts |= self.train_masks(features, canvas, stages, targets)
        if self.keypoint_head is not None:
            chosen = foreground_of(stages[0].samples)
            seen = self.see_keypoints(features, canvas, chosen.boxes, chosen.image_index)
            parts |= self.keypoint_head.train_on(seen, self._leave(chosen), targets)
        if reduction == "sum":
            return parts
        counts = counts or {name: part.count for name, part in parts.items()}
        return {name: part.total / counts[name].clamp(min=1) for name, part in parts.items()}

    def predict(self, images: Tensor, sizes: Tensor, score_threshold: Tensor | None = None) -> Detections:
        """Detections; `score_threshold` is a scalar tensor in place of `config.box.score_threshold`."""
        canvas = canvas_of(images, sizes)
        features = self.features(images, sizes)
        logits, deltas = self.rpn(features)
        proposals = self.propose(logits, deltas, self.anchors_of(features, canvas.frame), canvas, train=False)
        return self.detect(features, canvas, proposals, score_threshold)

    def features(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """Normalised, then trunk and pyramid: P2-P6; without a pyramid the trunk's one map."""
        maps = self.backbone(self.normalise(images, sizes))
        return maps if self.fpn is None else self.fpn(maps)

    def anchors_of(self, features: Sequence[Tensor], frame: tuple[int, int]) -> list[Tensor]:
        """Of each map, (Al, 4), for an input of `frame` (height, width)."""
        return [enter(anchors, inclusive=self.config.inclusive) for anchors in self.anchors(features, frame)]

    def propose(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        canvas: Canvas,
        *,
        train: bool,
    ) -> Proposals:
        """What the RPN says -> proposals."""
        limits = self._proposal_limits(canvas)
        return self.rpn.decode(logits, deltas, anchors, limits, train=train, flat=self.config.inclusive)

    def see(
        self,
        features: Sequence[Tensor],
        canvas: Canvas,
        boxes: Tensor,
        image_index: Tensor,
        pooler: PoolerConfig,
    ) -> Tensor:
        """Boxes (R, 4) -> what is read from the pyramid or the one map:
        (R, C, n, n)."""
        if self.fpn is not None:
            return from_pyramid(
                features[:-1],
                boxes,
                image_index,
                pooler,
                strides=self.anchors.strides[:-1],
                frame=canvas.frame,
                inclusive=self.config.inclusive,
            )
        stride = self.config.backbone.stride
        assert stride is not None
        return from_map(features[0], boxes, image_index, pooler, stride=stride, sizes=canvas.sizes)

    def see_boxes(self, features: Sequence[Tensor], canvas: Canvas, boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the box heads see of boxes."""
        seen = self.see(features, canvas, boxes, image_index, self.config.box.pooler)
        return seen if self.stage_two is None else self.stage_two(seen)

    def see_masks(self, features: Sequence[Tensor], canvas: Canvas, boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the mask heads see of them."""
        if self.stage_two is not None:
            return self.see_boxes(features, canvas, boxes, image_index)
        assert self.config.mask is not None
        return self.see(features, canvas, boxes, image_index, self.config.mask.pooler)

    def see_keypoints(self, features: Sequence[Tensor], canvas: Canvas, boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the keypoint head sees of them."""
        assert self.config.keypoint is not None
        return self.see(features, canvas, boxes, image_index, self.config.keypoint.pooler)

    @property
    def box_heads(self) -> list[BoxHead]:
        """The first and those of the cascade."""
        return [self.box_head, *self.cascade]

    def classify(
        self,
        features: Sequence[Tensor],
        canvas: Canvas,
        boxes: Tensor,
        valid: Tensor,
        keys: Tensor | None = None,
        *,
        head: BoxHead | None = None,
    ) -> tuple[Tensor, Tensor, BoxOutput]:
        """A box head, the first unless said, on boxes (B, N, 4): which rows it saw (R,), what it saw of them
        (R, C, n, n), what it says.

        `keys` are the noise of the dropout; None: none.
        """
        head = head or self.box_head
        rows = rows_to_keep(valid)
        seen = self.see_boxes(features, canvas, take(boxes, rows), rows // valid.shape[1])
        mine = scale_gradient(seen, 1 / len(self.box_heads))
        return rows, seen, head(mine, rows, (valid.shape[0], valid.shape[1]), keys)

    def train_boxes(
        self, features: Sequence[Tensor], canvas: Canvas, samples: Samples, targets: Targets
    ) -> list[Stage]:
        """The box heads on their samples, from those of the first on."""

        def classify(head: BoxHead, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, BoxOutput]:
            return self.classify(features, canvas, boxes, valid, targets.keys, head=head)

        return train_stages(self.box_heads, classify, samples, targets, self._detection_limits(canvas))

    def train_masks(
        self, features: Sequence[Tensor], canvas: Canvas, stages: Sequence[Stage], targets: Targets
    ) -> dict[str, LossPart]:
        """The mask heads on the foreground of their stages; no mask head, no parts."""
        parts: dict[str, LossPart] = {}
        heads = self.mask_heads
        for number, (head, stage) in enumerate(zip(heads, stages, strict=False)):
            chosen = foreground_of(stage.samples)
            if self.stage_two is None:
                seen = self.see_masks(features, canvas, chosen.boxes, chosen.image_index)
            else:  # the box head has seen them already
                seen = take(put(stage.seen, stage.rows, *stage.samples.valid.shape), chosen.places)
            seen = scale_gradient(seen, 1 / len(heads))
            parts |= renamed(head.train_on(seen, self._leave(chosen), targets), number)
        return parts

    @property
    def mask_heads(self) -> list[MaskHead]:
        """None, one, or one for each box head."""
        return [] if self.mask_head is None else [self.mask_head, *self.cascade_masks]

    def normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation; the padding is 0 after that as in all peers, or before it."""
        inside = content_mask(sizes, (images.shape[-2], images.shape[-1]), self.data)
        images = images.to(self.mean.dtype)
        if self.data.pad_value == "black":
            x = (torch.where(inside, images, 0.0) - self.mean) / self.std
        else:
            x = torch.where(inside, (images - self.mean) / self.std, 0.0)
        return x.contiguous(memory_format=torch.channels_last)

    def detect(
        self,
        features: Sequence[Tensor],
        canvas: Canvas,
        proposals: Proposals,
        score_threshold: Tensor | None = None,
    ) -> Detections:
        """Classify and refine the proposals, then predict masks and keypoints of what is left."""
        limits, heads = self._detection_limits(canvas), self.box_heads

        def classify(head: BoxHead, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, BoxOutput]:
            return self.classify(features, canvas, boxes, valid, head=head)

        output, proposals, probabilities = predict_stages(heads, classify, proposals, limits)
        detections = heads[-1].decode(
            output, proposals, limits, score_threshold, probabilities=probabilities, flat=self.config.inclusive
        )
        return self.look_into(features, canvas, detections)

    def look_into(self, features: Sequence[Tensor], canvas: Canvas, detections: Detections) -> Detections:
        """The same detections in the frame of the input, with masks and keypoints where there are heads for them."""
        inner, inclusive = detections.boxes, self.config.inclusive
        rows = rows_to_keep(detections.valid)
        boxes, image_index = take(inner, rows), rows // detections.valid.shape[1]
        if inclusive:
            detections.boxes = torch.where(detections.valid[..., None], leave(inner, inclusive=True), 0.0)
        if self.mask_head is not None:
            seen = self.see_masks(features, canvas, boxes, image_index)
            masks = [head.decode(seen, rows, detections) for head in self.mask_heads]
            detections.masks = masks[0] if len(masks) == 1 else torch.stack(masks).mean(dim=0)
        if self.keypoint_head is not None:
            seen = self.see_keypoints(features, canvas, boxes, image_index)
            detections.keypoints = self.keypoint_head.decode(seen, rows, detections, canvas.frame)
        return detections

    @torch.no_grad()
    def loss_counts(self, images: Tensor, sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
        """What each loss of this batch counts: trunk, RPN and sampling only, of a cascade the box heads too. For
        accumulation over micro-batches."""
        canvas, inner = canvas_of(images, sizes), self._enter(targets)
        features = self.features(images, sizes)
        logits, deltas = self.rpn(features)
        anchors = self.anchors_of(features, canvas.frame)
        proposals = self.propose(logits, deltas, anchors, canvas, train=True)
        sampled = self.rpn.targets(torch.cat(anchors), inner, self._proposal_limits(canvas)).sampled.sum()
        samples = [self.box_head.targets(proposals, inner)]
        if self.cascade:
            samples = [stage.samples for stage in self.train_boxes(features, canvas, samples[0], inner)]
        counts = {"rpn_score": sampled, "rpn_box": sampled}
        for number, some in enumerate(samples):
            parts = dict.fromkeys(("class", "box"), some.valid.sum())
            if number < len(self.mask_heads):
                parts["mask"] = some.foreground[:, : some.max_foreground].sum()
            counts |= renamed(parts, number)
        if self.keypoint_head is not None:
            chosen = self._leave(foreground_of(samples[0]))
            counts["keypoint"] = self.keypoint_head.targets(chosen, targets)[1].sum()
        return counts

    def _proposal_limits(self, canvas: Canvas) -> Tensor:
        return proposal_limits(canvas.sizes, canvas.frame, self.data, inclusive=self.config.inclusive)

    def _detection_limits(self, canvas: Canvas) -> Tensor:
        return detection_limits(canvas.sizes, canvas.frame, self.data, inclusive=self.config.inclusive)

    def _enter(self, targets: Targets) -> Targets:
        """The truth as the network counts it."""
        return replace(targets, boxes=enter(targets.boxes, inclusive=True)) if self.config.inclusive else targets

    def _leave(self, chosen: Foreground) -> Foreground:
        """The inverse, for the targets inside boxes."""
        return chosen._replace(boxes=leave(chosen.boxes, inclusive=self.config.inclusive))
