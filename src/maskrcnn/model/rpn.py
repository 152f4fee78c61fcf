"""Region proposal network (Faster R-CNN paper, section 3.1): pyramid in, proposals out, input frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import RPNConfig
from maskrcnn.model.losses import masked_sum, smooth_l1
from maskrcnn.ops.boxes import clip, decode, encode
from maskrcnn.ops.matching import choose, counter_noise, gather, match
from maskrcnn.ops.nms import nms_keep
from maskrcnn.structures import LossPart, Proposals, Targets

BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # the RPN's deltas are not scaled in any peer but Matterport


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


class RPN(nn.Module):
    """3x3 convolutions, then objectness and box deltas of each anchor; shared by all levels."""

    def __init__(self, channels: int, anchors_per_cell: int, config: RPNConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(config.convolutions)
        )
        self.objectness = nn.Conv2d(channels, anchors_per_cell, 1)
        self.deltas = nn.Conv2d(channels, anchors_per_cell * 4, 1)
        for layer in [*self.convolutions, self.objectness, self.deltas]:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: objectness logits (B, Al) and deltas (B, Al, 4), order y, x, anchor."""
        logits, deltas = [], []
        for feature in features:
            for convolution in self.convolutions:
                feature = F.relu(convolution(feature), inplace=True)
            batch = feature.shape[0]
            logits.append(self.objectness(feature).permute(0, 2, 3, 1).reshape(batch, -1).float())
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
        convolution, anchors = self.convolutions[0], self.objectness.out_channels
        assert isinstance(convolution, nn.Conv2d)
        cell, anchor = indices // anchors, (indices % anchors)[..., None]
        patches = patches_at(features, cell)  # (B, N, 9 * C)
        hidden = F.relu_(F.linear(patches, convolution.weight.permute(0, 2, 3, 1).flatten(1), convolution.bias))
        logits = F.linear(hidden, self.objectness.weight.flatten(1), self.objectness.bias).gather(2, anchor)
        deltas = F.linear(hidden, self.deltas.weight.flatten(1), self.deltas.bias).unflatten(2, (anchors, 4))
        deltas = deltas.gather(2, anchor[..., None].expand(-1, -1, -1, 4))
        return logits[..., 0].float(), deltas[:, :, 0].float()

    @torch.no_grad()
    def decode(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Tensor,
        *,
        train: bool,
    ) -> Proposals:
        """Top-k of each level, decode, clip, NMS within each level, top-k of all."""
        config = self.config
        pre, post = (
            (config.pre_nms_train, config.post_nms_train) if train else (config.pre_nms_test, config.post_nms_test)
        )
        boxes, scores, levels = [], [], []
        for level, (score, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
            best, index = score.topk(min(pre, score.shape[1]), dim=1)
            boxes.append(decode(gather(delta, index), anchor[index], BOX_WEIGHTS))
            scores.append(best)
            levels.append(torch.full_like(index, level))
        box, score, group = clip(torch.cat(boxes, 1), sizes), torch.cat(scores, 1), torch.cat(levels, 1)
        valid = ((box[..., 2:] - box[..., :2]) >= config.min_size).all(dim=-1)
        keep = nms_keep(box, score, group, valid, config.nms_iou)
        score = torch.where(keep, score, -torch.inf)
        best, index = score.topk(min(post, score.shape[1]), dim=1)
        if config.post_nms_across_batch:
            last = best.reshape(-1).topk(min(post, best.numel())).values[-1]
            best = torch.where(best >= last, best, -torch.inf)
        valid = best > -torch.inf
        box = torch.where(valid[..., None], gather(box, index), 0.0)
        return Proposals(box, torch.where(valid, best.sigmoid(), 0.0), valid)

    @torch.no_grad()
    def targets(self, anchors: Tensor, targets: Targets) -> RPNTargets:
        """Match anchors (A, 4) to the truth and sample a fixed number of them an image."""
        config = self.config
        found = match(anchors, targets.boxes, targets.valid, targets.crowd, low_quality=config.low_quality_matches)
        positive = (found.iou >= config.foreground_iou) | found.forced
        negative = (found.iou < config.background_iou) & ~found.forced & ~found.ignored
        noise = counter_noise(targets.keys, len(anchors))
        most = int(config.samples_per_image * config.positive_fraction)
        positive_index, is_positive = choose(positive, noise, most)
        rest = config.samples_per_image - is_positive.sum(dim=1)
        negative_index, is_negative = choose(negative, noise, config.samples_per_image, rest)
        indices = torch.cat([positive_index, negative_index], dim=1)
        sampled = torch.cat([is_positive, is_negative], dim=1)
        positive = torch.cat([is_positive, torch.zeros_like(is_negative)], dim=1)
        goal = gather(targets.boxes, gather(found.matched, indices))
        return RPNTargets(indices, positive, sampled, encode(goal, anchors[indices], BOX_WEIGHTS))

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


def patches_at(features: Sequence[Tensor], cells: Tensor) -> Tensor:
    """The 3 x 3 cells around some cells, zeros beyond the border.

    Args:
        features: maps (B, C, Hl, Wl).
        cells: (B, N) int64, index over the cells of all levels, order level, y, x.

    Returns:
        (B, N, 9 * C), order y, x, channel.
    """
    batch, channels = features[0].shape[:2]
    image = torch.arange(batch, device=cells.device)[:, None, None]
    offset = torch.arange(9, device=cells.device)
    total = None
    for feature in features:
        height, width = feature.shape[2:]
        y = cells[..., None] // width + offset // 3 - 1  # (B, N, 9)
        x = cells[..., None] % width + offset % 3 - 1
        mine = (cells >= 0) & (cells < height * width)
        inside = mine[..., None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        row = torch.where(inside, (image * height + y) * width + x, 0)
        rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
        patches = F.embedding(row, rows) * inside[..., None].to(rows.dtype)  # (B, N, 9, C)
        total = patches if total is None else total + patches
        cells = cells - height * width
    assert total is not None
    return total.flatten(2)
