"""Box head (Fast R-CNN): proposals and features in; class and refined box of each out, input frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import BoxHeadConfig
from maskrcnn.model.fpn import conv_norm
from maskrcnn.model.losses import masked_sum, smooth_l1
from maskrcnn.ops.boxes import clip, decode, encode
from maskrcnn.ops.compact import put, rows_to_keep, take
from maskrcnn.ops.dense import linear
from maskrcnn.ops.matching import choose, counter_noise, gather, match
from maskrcnn.ops.nms import nms_keep
from maskrcnn.ops.roi_align import multilevel_roi_align
from maskrcnn.structures import Detections, LossPart, Proposals, Samples, Targets

MIN_SIDE = 1e-2  # detections thinner than this many pixels are dropped (torchvision)


class BoxOutput(NamedTuple):
    """Attributes: logits (B, N, C + 1), background last; deltas (B, N, C or 1, 4)."""

    logits: Tensor
    deltas: Tensor


class BoxHead(nn.Module):
    """RoIAlign, convolutions, fully connected layers, two predictors."""

    def __init__(self, channels: int, classes: int, config: BoxHeadConfig) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        convolutions, width = [], channels
        for _ in range(config.convolutions):
            convolutions.append(conv_norm(width, config.convolution_channels, 3, config.norm, relu=True))
            width = config.convolution_channels
        self.convolutions = nn.Sequential(*convolutions)
        width *= config.pooler.resolution**2
        layers = []
        for _ in range(config.fully_connected):
            layers.append(nn.Linear(width, config.fully_connected_channels))
            width = config.fully_connected_channels
        self.fully_connected = nn.ModuleList(layers)
        self.class_logits = nn.Linear(width, classes + 1)
        self.box_deltas = nn.Linear(width, 4 if config.class_agnostic else 4 * classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.normal_(self.box_deltas.weight, std=0.001)

    def forward(self, features: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> BoxOutput:
        """Maps P2-P5 and boxes (B, N, 4) with valid (B, N) -> outputs; rows that are not valid are arbitrary."""
        batch, count = valid.shape
        rows = rows_to_keep(valid)
        pooler = self.config.pooler
        x = multilevel_roi_align(
            features,
            take(boxes, rows),
            rows // count,
            resolution=pooler.resolution,
            sampling_ratio=pooler.sampling_ratio,
            aligned=pooler.aligned,
        )
        x = self.convolutions(x)  # (R, C, n, n)
        for layer in self.fully_connected:
            assert isinstance(layer, nn.Linear)
            x = F.relu_(linear(x, layer))
        logits = put(linear(x, self.class_logits).float(), rows, batch, count)
        deltas = put(linear(x, self.box_deltas).float(), rows, batch, count)
        return BoxOutput(logits, deltas.view(batch, count, -1, 4))

    @torch.no_grad()
    def targets(self, proposals: Proposals, targets: Targets) -> Samples:
        """Match proposals (and the true boxes) to the truth and sample a fixed number an image, foreground first."""
        config = self.config
        boxes, valid = proposals.boxes, proposals.valid
        if config.add_truth:
            boxes = torch.cat([boxes, targets.boxes], dim=1)
            valid = torch.cat([valid, targets.valid], dim=1)
        found = match(boxes, targets.boxes, targets.valid, targets.crowd, low_quality=False)
        foreground = valid & (found.iou >= config.foreground_iou)
        background = valid & (found.iou < config.foreground_iou) & ~found.ignored
        noise = counter_noise(targets.keys ^ 0x5DEECE66D, boxes.shape[1])  # not the RPN's noise
        most = int(config.samples_per_image * config.positive_fraction)
        foreground_index, is_foreground = choose(foreground, noise, most)
        rest = config.samples_per_image - is_foreground.sum(dim=1)
        background_index, is_background = choose(background, noise, config.samples_per_image, rest)
        indices = torch.cat([foreground_index, background_index], dim=1)
        sampled = torch.cat([is_foreground, is_background], dim=1)
        # Squeeze the unused foreground columns out: a stable sort by "not sampled", cut to the fixed number.
        order = torch.sort((~sampled).to(torch.int8), dim=1, stable=True).indices[:, : config.samples_per_image]
        indices, sampled = gather(indices, order), gather(sampled, order)
        is_foreground = gather(torch.cat([is_foreground, torch.zeros_like(is_background)], dim=1), order)
        matched = gather(found.matched, indices)
        labels = torch.where(is_foreground, gather(targets.labels, matched), self.classes)
        return Samples(gather(boxes, indices), labels, matched, is_foreground, sampled, min(most, indices.shape[1]))

    def loss(self, output: BoxOutput, samples: Samples, targets: Targets) -> dict[str, LossPart]:
        """Parts `class` and `box`; both count sampled proposals, as Fast R-CNN does."""
        config = self.config
        entropy = F.cross_entropy(output.logits.flatten(0, 1), samples.labels.flatten(), reduction="none")
        chosen = 0 if config.class_agnostic else samples.labels.clamp(max=self.classes - 1)
        deltas = pick_class(output.deltas, chosen)
        goal = encode(gather(targets.boxes, samples.matched), samples.boxes, config.box_weights)
        distance = smooth_l1(deltas, goal, config.smooth_l1_beta)
        count = samples.valid.sum()
        return {
            "class": LossPart(
                config.class_loss_weight * masked_sum(entropy.view_as(samples.labels), samples.valid), count
            ),
            "box": LossPart(config.box_loss_weight * masked_sum(distance, samples.foreground), count),
        }

    def decode(
        self, output: BoxOutput, proposals: Proposals, sizes: Tensor, score_threshold: Tensor | None = None
    ) -> Detections:
        """Best candidates over all classes, decode, clip, NMS within each class, best of all.

        `score_threshold` is a scalar tensor in place of the config's, for graphs that take it as an input.
        """
        config = self.config
        threshold = config.score_threshold if score_threshold is None else score_threshold
        scores = output.logits.softmax(dim=-1)[..., : self.classes]  # (B, N, C)
        wanted = (scores > threshold) & proposals.valid[..., None]
        flat = torch.where(wanted, scores, -1.0).flatten(1)  # (B, N * C)
        score, index = flat.topk(min(config.candidates_per_image, flat.shape[1]), dim=1)
        row, label = index // self.classes, index % self.classes
        deltas = gather(output.deltas.flatten(1, 2), row if config.class_agnostic else index)
        boxes = clip(decode(deltas, gather(proposals.boxes, row), config.box_weights), sizes)
        valid = (score > 0) & ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIDE).all(dim=-1)
        keep = nms_keep(boxes, score, label, valid, config.nms_iou)
        most = config.detections_per_image or 100
        score, index = torch.where(keep, score, -1.0).topk(min(most, score.shape[1]), dim=1)
        valid = score > 0
        return Detections(
            boxes=torch.where(valid[..., None], gather(boxes, index), 0.0),
            scores=torch.where(valid, score, 0.0),
            labels=torch.where(valid, gather(label, index), 0),
            valid=valid,
        )


def pick_class(values: Tensor, labels: Tensor | int) -> Tensor:
    """values (B, N, C, ...) at labels (B, N), or one label for all -> (B, N, ...)."""
    if isinstance(labels, int):
        return values[:, :, labels]
    index = labels.view(*labels.shape, 1, *[1] * (values.ndim - 3)).expand(*labels.shape, 1, *values.shape[3:])
    return values.gather(2, index).squeeze(2)
