"""The spine: images to losses, or images to detections. Input frame throughout; shapes depend on the batch's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, overload

import torch
from torch import Tensor, nn

from maskrcnn.config import DataConfig, ModelConfig
from maskrcnn.model.anchors import Anchors
from maskrcnn.model.box_head import BoxHead, BoxOutput
from maskrcnn.model.fpn import FPN
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.roi_features import from_map, from_pyramid
from maskrcnn.model.rpn import RPN
from maskrcnn.ops.compact import put, rows_to_keep, take
from maskrcnn.structures import Detections, KeypointSchema, LossPart, Proposals, Targets


class MaskRCNN(nn.Module):
    """Mask R-CNN (He et al. 2017) with its classes and its preprocessing.

    Two arrangements. With a pyramid, each head reads its own features of a box from it. Without (C4), the trunk gives
    one map, and its last stage, `stage_two`, runs on the crop of each box for both heads.

    Attributes:
        classes: class names, index = label.
        category_ids: external id of each class.
        config: what the network was built from.
        data: how an image becomes the input tensor.
        keypoints: None.
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
        mean: Sequence[float],
        std: Sequence[float],
        config: ModelConfig,
        data: DataConfig,
        classes: tuple[str, ...],
        category_ids: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.backbone, self.fpn, self.anchors, self.rpn = backbone, fpn, anchors, rpn
        self.stage_two = stage_two
        self.box_head, self.mask_head = box_head, mask_head
        self.config, self.data = config, data
        self.classes, self.category_ids = classes, category_ids
        self.keypoints: KeypointSchema | None = None
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
            images: (B, C, H, W) uint8 or float 0..255; H and W multiples of 32 with a pyramid; content at the top left.
            sizes: (B, 2) int64, (height, width) of the content.
            targets: the truth; asks for losses.
            reduction: "mean": dict of scalars `rpn_score`, `rpn_box`, `class`, `box`, `mask`, weights included;
                "sum": dict of `LossPart`, whose totals and counts add up over batches and processes.
            counts: what "mean" divides by, for batches that are a part of a larger one; None: this batch's own.
        """
        if targets is None:
            return self.predict(images, sizes)
        features = self.features(images, sizes)
        anchors = self.anchors(features, (images.shape[-2], images.shape[-1]))
        with torch.no_grad():
            logits, deltas = self.rpn(features)
        proposals = self.rpn.decode(logits, deltas, anchors, sizes, train=True)
        # The loss is on a few hundred anchors: computed once more, with gradients, there alone. That is an eighth of
        # a step, and the memory of the head's maps.
        sampled = self.rpn.targets(torch.cat(anchors), targets, sizes)
        parts = self.rpn.loss(*self.rpn.at(features, sampled.indices), sampled)
        samples = self.box_head.targets(proposals, targets)
        rows, seen, output = self.classify(features, sizes, samples.boxes, samples.valid, targets.keys)
        parts |= self.box_head.loss(output, samples, targets)
        if self.mask_head is not None:
            chosen = self.mask_head.foreground(samples)
            if self.stage_two is None:
                seen = self.see_masks(features, sizes, chosen.boxes, chosen.image_index)
            else:  # the box head has seen them already
                seen = take(put(seen, rows, *samples.valid.shape), chosen.places)
            parts |= self.mask_head.train_on(seen, chosen, targets)
        if reduction == "sum":
            return parts
        counts = counts or {name: part.count for name, part in parts.items()}
        return {name: part.total / counts[name].clamp(min=1) for name, part in parts.items()}

    def predict(self, images: Tensor, sizes: Tensor, score_threshold: Tensor | None = None) -> Detections:
        """Detections; `score_threshold` is a scalar tensor in place of `config.box.score_threshold`."""
        features = self.features(images, sizes)
        logits, deltas = self.rpn(features)
        anchors = self.anchors(features, (images.shape[-2], images.shape[-1]))
        proposals = self.rpn.decode(logits, deltas, anchors, sizes, train=False)
        return self.detect(features, proposals, sizes, score_threshold)

    def features(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """Normalised, then trunk and pyramid: P2-P6; without a pyramid the trunk's one map."""
        maps = self.backbone(self.normalise(images, sizes))
        return maps if self.fpn is None else self.fpn(maps)

    def see_boxes(self, features: Sequence[Tensor], sizes: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the box head sees of boxes (R, 4) of images of `sizes` (B, 2): (R, C, n, n)."""
        pooler, stride = self.config.box.pooler, self.config.backbone.stride
        if self.stage_two is None:
            return from_pyramid(features[:4], boxes, image_index, pooler)
        assert stride is not None
        return self.stage_two(from_map(features[0], boxes, image_index, pooler, stride=stride, sizes=sizes))

    def see_masks(self, features: Sequence[Tensor], sizes: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
        """What the mask head sees of them."""
        if self.stage_two is not None:
            return self.see_boxes(features, sizes, boxes, image_index)
        assert self.config.mask is not None
        return from_pyramid(features[:4], boxes, image_index, self.config.mask.pooler)

    def classify(
        self,
        features: Sequence[Tensor],
        sizes: Tensor,
        boxes: Tensor,
        valid: Tensor,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, BoxOutput]:
        """The box head on boxes (B, N, 4): which rows it saw (R,), what it saw of them (R, C, n, n), what it says.

        `keys` are the noise of the dropout; None: none.
        """
        rows = rows_to_keep(valid)
        seen = self.see_boxes(features, sizes, take(boxes, rows), rows // valid.shape[1])
        return rows, seen, self.box_head(seen, rows, (valid.shape[0], valid.shape[1]), keys)

    def normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation, and set the padding to zero as all peers do."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        rows = torch.arange(x.shape[2], device=x.device) < sizes[:, 0, None]  # (B, H)
        columns = torch.arange(x.shape[3], device=x.device) < sizes[:, 1, None]  # (B, W)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(inside, x, 0.0).contiguous(memory_format=torch.channels_last)

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        sizes: Tensor,
        score_threshold: Tensor | None = None,
    ) -> Detections:
        """Classify and refine the proposals, then predict the masks of what is left."""
        _, _, output = self.classify(features, sizes, proposals.boxes, proposals.valid)
        detections = self.box_head.decode(output, proposals, sizes, score_threshold)
        if self.mask_head is not None:
            rows = rows_to_keep(detections.valid)
            boxes, image_index = take(detections.boxes, rows), rows // detections.valid.shape[1]
            seen = self.see_masks(features, sizes, boxes, image_index)
            detections.masks = self.mask_head.decode(seen, rows, detections)
        return detections

    @torch.no_grad()
    def loss_counts(self, images: Tensor, sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
        """What each loss of this batch counts: trunk, RPN and sampling only. For accumulation over micro-batches."""
        features = self.features(images, sizes)
        logits, deltas = self.rpn(features)
        anchors = self.anchors(features, (images.shape[-2], images.shape[-1]))
        proposals = self.rpn.decode(logits, deltas, anchors, sizes, train=True)
        anchors_sampled = self.rpn.targets(torch.cat(anchors), targets, sizes).sampled.sum()
        samples = self.box_head.targets(proposals, targets)
        counts = {"rpn_score": anchors_sampled, "rpn_box": anchors_sampled}
        counts |= {"class": samples.valid.sum(), "box": samples.valid.sum()}
        if self.mask_head is not None:
            counts["mask"] = samples.foreground.sum()
        return counts
