"""The spine: images to losses, or images to detections. Input frame throughout; shapes depend on the batch's alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, overload

import torch
from torch import Tensor, nn

from maskrcnn.config import DataConfig, ModelConfig
from maskrcnn.model.anchors import Anchors
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.fpn import FPN
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.rpn import RPN
from maskrcnn.structures import Detections, KeypointSchema, LossPart, Proposals, Targets


class MaskRCNN(nn.Module):
    """Mask R-CNN (He et al. 2017) with its classes and its preprocessing.

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
        fpn: FPN,
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
            images: (B, C, H, W) uint8 or float 0..255; H and W multiples of 32; content at the top left.
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
        sampled = self.rpn.targets(torch.cat(anchors), targets)
        parts = self.rpn.loss(*self.rpn.at(features, sampled.indices), sampled)
        samples = self.box_head.targets(proposals, targets)
        output = self.box_head(features[:4], samples.boxes, samples.valid)
        parts |= self.box_head.loss(output, samples, targets)
        if self.mask_head is not None:
            parts |= self.mask_head.train_on(features[:4], samples, targets)
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
        """Normalised, then trunk and pyramid: P2-P6."""
        return self.fpn(self.backbone(self.normalise(images, sizes)))

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
        output = self.box_head(features[:4], proposals.boxes, proposals.valid)
        detections = self.box_head.decode(output, proposals, sizes, score_threshold)
        if self.mask_head is not None:
            detections.masks = self.mask_head.decode(features[:4], detections)
        return detections

    @torch.no_grad()
    def loss_counts(self, images: Tensor, sizes: Tensor, targets: Targets) -> dict[str, Tensor]:
        """What each loss of this batch counts: trunk, RPN and sampling only. For accumulation over micro-batches."""
        features = self.features(images, sizes)
        logits, deltas = self.rpn(features)
        anchors = self.anchors(features, (images.shape[-2], images.shape[-1]))
        proposals = self.rpn.decode(logits, deltas, anchors, sizes, train=True)
        anchors_sampled = self.rpn.targets(torch.cat(anchors), targets).sampled.sum()
        samples = self.box_head.targets(proposals, targets)
        counts = {"rpn_score": anchors_sampled, "rpn_box": anchors_sampled}
        counts |= {"class": samples.valid.sum(), "box": samples.valid.sum()}
        if self.mask_head is not None:
            counts["mask"] = samples.foreground.sum()
        return counts
