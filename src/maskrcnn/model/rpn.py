"""Region proposal network (Faster R-CNN paper, section 3.1): pyramid in, proposals out, input frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import RPNConfig
from maskrcnn.model.losses import masked_sum, smooth_l1
from maskrcnn.ops.boxes import borders, clip, decode, encode
from maskrcnn.ops.matching import choose, counter_noise, gather, match
from maskrcnn.ops.nms import best_first, nms_first, nms_keep
from maskrcnn.structures import LossPart, Proposals, Targets


class RPNTargets(NamedTuple):
    """What the RPN learns from: N sampled anchors an image.

    Attributes:
        indices: (B, N) int64, anchor index over all levels.
        positive: (B, N) bool.
        sampled: (B, N) bool; the rest of the columns is padding.
        deltas: (B, N, 4) regression goal; meaningful where positive.
    """

    indices: Tensor
    positive: Tensor
    sampled: Tensor
    deltas: Tensor


class AnchorLabels(NamedTuple):
    """What each of A anchors could learn, before any is sampled.

    Attributes:
        anchors: (A, 4), or (B, A, 4) where each image sees them differently.
        positive: (B, A) bool.
        negative: (B, A) bool; those that are neither are ignored.
        matched: (B, A) int64, the object of each.
    """

    anchors: Tensor
    positive: Tensor
    negative: Tensor
    matched: Tensor


class RPN(nn.Module):
    """3x3 convolutions, then objectness and box deltas of each anchor; shared by all levels.

    With two scores an anchor `objectness` has two channels for each, background and object; what is called logit here
    is their difference: its sigmoid is the softmax of the two, its binary cross-entropy theirs.
    """

    def __init__(self, channels: int, anchors_per_cell: int, config: RPNConfig) -> None:
        super().__init__()
        self.config, self.anchors_per_cell = config, anchors_per_cell
        convolutions, dilation = [], config.dilation
        for _ in range(config.convolutions):
            width, padding = config.channels or channels, dilation * (config.kernel // 2)
            convolutions.append(nn.Conv2d(channels, width, config.kernel, padding=padding, dilation=dilation))
            channels = width
        self.convolutions = nn.ModuleList(convolutions)
        self.objectness = nn.Conv2d(channels, anchors_per_cell * (2 if config.score == "softmax" else 1), 1)
        self.deltas = nn.Conv2d(channels, anchors_per_cell * 4, 1)
        for layer in [*self.convolutions, self.objectness, self.deltas]:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: objectness logits (B, Al) and deltas (B, Al, 4), order y, x, anchor."""
        logits, deltas = [], []
        for feature in features:
            for convolution in self.convolutions:
                feature = self._active(convolution(feature))
            batch = feature.shape[0]
            logits.append(self._logit(self.objectness(feature).permute(0, 2, 3, 1)).reshape(batch, -1).float())
            deltas.append(self.deltas(feature).permute(0, 2, 3, 1).reshape(batch, -1, 4).float())
        return logits, deltas

    def at(self, features: Sequence[Tensor], indices: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives at some anchors, and its gradients, without those of all other anchors.

        Args:
            features: maps (B, C, Hl, Wl).
            indices: (B, N) int64, anchor index over all levels.

        Returns:
            logits (B, N), deltas (B, N, 4).
        """
        if len(self.convolutions) != 1:  # a chain needs more than the cells around
            logits, deltas = self(features)
            return gather(torch.cat(logits, 1), indices), gather(torch.cat(deltas, 1), indices)
        convolution, anchors = self.convolutions[0], self.anchors_per_cell
        assert isinstance(convolution, nn.Conv2d)
        cell, anchor = indices // anchors, (indices % anchors)[..., None]
        patches = patches_at(features, cell, self.config.kernel, self.config.dilation)  # (B, N, k * k * C)
        hidden = self._active(F.linear(patches, convolution.weight.permute(0, 2, 3, 1).flatten(1), convolution.bias))
        logits = F.linear(hidden, self.objectness.weight.flatten(1), self.objectness.bias)
        logits = self._logit(logits).gather(2, anchor)
        deltas = F.linear(hidden, self.deltas.weight.flatten(1), self.deltas.bias).unflatten(2, (anchors, 4))
        deltas = deltas.gather(2, anchor[..., None].expand(-1, -1, -1, 4))
        return logits[..., 0].float(), deltas[:, :, 0].float()

    def _active(self, x: Tensor) -> Tensor:
        """In place."""
        return F.relu6(x, inplace=True) if self.config.activation == "relu6" else F.relu_(x)

    def _logit(self, scores: Tensor) -> Tensor:
        """(..., A) or, background and object in turn, (..., 2 A) -> (..., A)."""
        return scores[..., 1::2] - scores[..., ::2] if self.config.score == "softmax" else scores

    def on_images(self, anchors: Tensor, sizes: Tensor, *, train: bool) -> tuple[Tensor, Tensor | None]:
        """Anchors (A, 4) as each image sees them: they, or (B, A, 4) cut to its content; and which of them take part,
        (B, A) bool or None for all."""
        border = self.config.anchors.border
        if border == "keep":
            return anchors, None
        if border == "clip" or not train:
            return clip(anchors.expand(sizes.shape[0], -1, -1), sizes), None
        left, top, right, bottom = borders(sizes, anchors.dtype)
        x0, y0, x1, y1 = anchors.unbind(-1)
        return anchors, (x0 >= left) & (y0 >= top) & (x1 <= right) & (y1 <= bottom)

    @torch.no_grad()
    def decode(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Tensor,
        *,
        train: bool,
        flat: bool = False,
    ) -> Proposals:
        """Top-k of each level, decode, clip, NMS within each level, top-k of all; or all, and clip after NMS.

        Args:
            logits: (B, Al) a level.
            deltas: (B, Al, 4) a level.
            anchors: (Al, 4) a level.
            sizes: what to cut boxes to, see `ops.boxes.clip`.
            train: which of the numbers of proposals to use.
            flat: keep boxes without an area too.
        """
        config = self.config
        if config.pool == "image":  # one list of all levels
            logits, deltas, anchors = (
                [torch.cat(list(logits), 1)],
                [torch.cat(list(deltas), 1)],
                [torch.cat(list(anchors))],
            )
        pre, post = (
            (config.pre_nms_train, config.post_nms_train) if train else (config.pre_nms_test, config.post_nms_test)
        )
        boxes, scores, levels = [], [], []
        for level, (score, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
            anchor, inside = self.on_images(anchor, sizes, train=train)
            if config.score == "softmax":  # ranked by probability, as TensorFlow does: logits above 17 are all 1
                score = score.sigmoid()
            if inside is not None:
                score = torch.where(inside, score, -torch.inf)
            if pre is not None:
                score, index = self._best(score, pre)
                delta = gather(delta, index)
                anchor = anchor[index] if anchor.ndim == 2 else gather(anchor, index)
            boxes.append(self.refine(delta, anchor))
            scores.append(score)
            levels.append(torch.full_like(score, level, dtype=torch.int64))
        box, score, group = torch.cat(boxes, 1), torch.cat(scores, 1), torch.cat(levels, 1)
        valid = score > -torch.inf
        if config.score_threshold > 0:
            probability = score if config.score == "softmax" else score.sigmoid()
            valid = valid & (probability >= config.score_threshold)
        if not config.clip_after_nms:
            box = clip(box, sizes)
            valid = valid & self._large(box, flat)
        if pre is None and len(logits) == 1:
            index, valid = nms_first(box, score, valid, config.nms_iou, post)
            best = torch.where(valid, gather(score, index), -torch.inf)
        else:
            keep = nms_keep(box, score, group, valid, config.nms_iou)
            score = torch.where(keep, score, -torch.inf)
            best, index = self._best(score, post)
        box = gather(box, index)
        if config.clip_after_nms:
            box = clip(box, sizes)
            best, index = best_first(torch.where(self._large(box, flat), best, -torch.inf), post)
            box = gather(box, index)
        if config.post_nms_across_batch:
            last = best.reshape(-1).topk(min(post, best.numel())).values[-1]
            best = torch.where(best >= last, best, -torch.inf)
        valid = best > -torch.inf
        scores_found = best if config.score == "softmax" else best.sigmoid()
        return Proposals(torch.where(valid[..., None], box, 0.0), torch.where(valid, scores_found, 0.0), valid)

    def refine(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Deltas (..., 4) on anchors (..., 4) -> boxes (..., 4), not cut."""
        config = self.config
        return decode(
            deltas, anchors, config.box_weights, limited=config.limit_log_scale, limited_below=config.limit_shrinking
        )

    def _best(self, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Values and indices (B, count) of the best of scores (B, N). Of probabilities that are all 1 the first win."""
        if self.config.score == "softmax":
            return best_first(scores, count)
        values, indices = scores.topk(min(count, scores.shape[1]), dim=1)
        return values, indices

    def _large(self, boxes: Tensor, flat: bool) -> Tensor:
        """Boxes (..., 4) that have an area, unless `flat`, and sides of at least `min_size`."""
        sides = boxes[..., 2:] - boxes[..., :2]
        large = sides >= self.config.min_size
        return (large if flat else large & (sides > 0)).all(dim=-1)

    @torch.no_grad()
    def label(self, anchors: Tensor, targets: Targets, sizes: Tensor) -> AnchorLabels:
        """Match anchors (A, 4) to the truth of images of content `sizes` (B, 2)."""
        config = self.config
        anchors, inside = self.on_images(anchors, sizes, train=True)
        found = match(
            # Anchors that take no part must not be anybody's best: a box without area is not.
            anchors if inside is None else torch.where(inside[..., None], anchors, 0.0),
            targets.boxes,
            targets.valid,
            targets.crowd,
            low_quality=config.low_quality_matches,
            first_only=config.low_quality_rule == "first",
        )
        positive = (found.iou >= config.foreground_iou) | found.forced
        negative = (found.iou < config.background_iou) & ~found.forced & ~found.ignored
        if inside is not None:
            negative &= inside
        return AnchorLabels(anchors, positive, negative, found.matched)

    @torch.no_grad()
    def targets(self, anchors: Tensor, targets: Targets, sizes: Tensor) -> RPNTargets:
        """Label anchors (A, 4) and sample a fixed number of them an image of content `sizes` (B, 2)."""
        config = self.config
        anchors, positive, negative, matched = self.label(anchors, targets, sizes)
        noise = counter_noise(targets.keys, anchors.shape[-2])
        most = int(config.samples_per_image * config.positive_fraction)
        positive_index, is_positive = choose(positive, noise, most)
        rest = config.samples_per_image - is_positive.sum(dim=1)
        negative_index, is_negative = choose(negative, noise, config.samples_per_image, rest)
        indices = torch.cat([positive_index, negative_index], dim=1)
        sampled = torch.cat([is_positive, is_negative], dim=1)
        positive = torch.cat([is_positive, torch.zeros_like(is_negative)], dim=1)
        goal = gather(targets.boxes, gather(matched, indices))
        start = anchors[indices] if anchors.ndim == 2 else gather(anchors, indices)
        return RPNTargets(indices, positive, sampled, encode(goal, start, config.box_weights))

    def loss(self, score: Tensor, deltas: Tensor, targets: RPNTargets) -> dict[str, LossPart]:
        """Logits (B, N), deltas (B, N, 4) at `targets.indices` -> parts `rpn_score`, `rpn_box`, that count anchors."""
        config = self.config
        bce = F.binary_cross_entropy_with_logits(score, targets.positive.to(score.dtype), reduction="none")
        distance = smooth_l1(deltas, targets.deltas, config.smooth_l1_beta)
        count = targets.sampled.sum()
        return {
            "rpn_score": LossPart(config.score_loss_weight * masked_sum(bce, targets.sampled), count),
            "rpn_box": LossPart(config.box_loss_weight * masked_sum(distance, targets.positive), count),
        }


def patches_at(features: Sequence[Tensor], cells: Tensor, kernel: int = 3, dilation: int = 1) -> Tensor:
    """The kernel x kernel cells around some cells, `dilation` apart, zeros beyond the border.

    Args:
        features: maps (B, C, Hl, Wl).
        cells: (B, N) int64, index over the cells of all levels, order level, y, x.
        kernel: cells per side, odd.
        dilation: distance between them.

    Returns:
        (B, N, kernel * kernel * C), order y, x, channel.
    """
    batch, channels = features[0].shape[:2]
    image = torch.arange(batch, device=cells.device)[:, None, None]
    offset = torch.arange(kernel * kernel, device=cells.device)
    down, right = (offset // kernel - kernel // 2) * dilation, (offset % kernel - kernel // 2) * dilation
    total = None
    for feature in features:
        height, width = feature.shape[2:]
        y = cells[..., None] // width + down  # (B, N, k * k)
        x = cells[..., None] % width + right
        mine = (cells >= 0) & (cells < height * width)
        inside = mine[..., None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        row = torch.where(inside, (image * height + y) * width + x, 0)
        rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
        patches = F.embedding(row, rows) * inside[..., None].to(rows.dtype)  # (B, N, k * k, C)
        total = patches if total is None else total + patches
        cells = cells - height * width
    assert total is not None
    return total.flatten(2)
