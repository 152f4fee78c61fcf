"""Box head (Fast R-CNN): the features of proposals in; class and refined box of each out, input frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import BoxHeadConfig
from maskrcnn.model.fpn import conv_norm
from maskrcnn.model.losses import masked_sum, smooth_l1
from maskrcnn.ops.boxes import clip, decode, encode
from maskrcnn.ops.compact import put
from maskrcnn.ops.dense import linear
from maskrcnn.ops.matching import choose, counter_noise, gather, match
from maskrcnn.ops.nms import best_first, nms_keep
from maskrcnn.structures import Detections, LossPart, Proposals, Samples, Targets

MIN_SIDE = 1e-2  # detections thinner than this many pixels are dropped (torchvision)


class BoxOutput(NamedTuple):
    """Attributes: logits (B, N, C + 1), background last; deltas (B, N, C or 1, 4)."""

    logits: Tensor
    deltas: Tensor


class BoxHead(nn.Module):
    """Convolutions, fully connected layers, two predictors; without fully connected layers, the mean over the cells."""

    def __init__(self, channels: int, classes: int, config: BoxHeadConfig) -> None:
        super().__init__()
        self.config, self.channels, self.classes = config, channels, classes
        convolutions, width = [], channels
        for _ in range(config.convolutions):
            convolutions.append(conv_norm(width, config.convolution_channels, 3, config.norm, relu=True))
            width = config.convolution_channels
        self.convolutions = nn.Sequential(*convolutions)
        layers = []
        if config.fully_connected:
            width *= config.pooler.resolution**2
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

    def forward(self, x: Tensor, rows: Tensor, shape: tuple[int, int], keys: Tensor | None = None) -> BoxOutput:
        """The features of some of B x N proposals -> outputs of all; those of the others are 0.

        Args:
            x: (R, C, n, n).
            rows: (R,) int64, which of the B * N proposals they are.
            shape: B, N.
            keys: (B,) int64, the source of the dropout's noise; None: no dropout (prediction).
        """
        x = self.convolutions(x)  # (R, C, n, n)
        if not self.fully_connected:
            x = x.mean(dim=(2, 3))  # (R, C)
        for layer in self.fully_connected:
            assert isinstance(layer, nn.Linear)
            x = F.relu_(linear(x, layer))
        class_x = box_x = x
        if keys is not None and self.config.dropout:  # each predictor its own, as TensorFlow's do
            class_x = drop(x, rows, shape[1], keys ^ 0x2545F4914F6CDD1D, self.config.dropout)
            box_x = drop(x, rows, shape[1], keys ^ 0x1B873593CC9E2D51, self.config.dropout)
        logits = put(linear(class_x, self.class_logits).float(), rows, *shape)
        deltas = put(linear(box_x, self.box_deltas).float(), rows, *shape)
        return BoxOutput(logits, deltas.view(*shape, -1, 4))

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

    def refine(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (..., 4) on boxes (..., 4) -> boxes (..., 4), not cut."""
        config = self.config
        return decode(
            deltas, boxes, config.box_weights, limited=config.limit_log_scale, limited_below=config.limit_shrinking
        )

    def decode(
        self,
        output: BoxOutput,
        proposals: Proposals,
        sizes: Tensor,
        score_threshold: Tensor | None = None,
        *,
        probabilities: Tensor | None = None,
        flat: bool = False,
    ) -> Detections:
        """Best candidates over all classes, decode, clip, NMS within each class, best of all.

        Args:
            output: of this head, on `proposals`.
            proposals: (B, N) boxes.
            sizes: what to cut boxes to, see `ops.boxes.clip`.
            score_threshold: scalar tensor in place of the config's, for graphs that take it as an input.
            probabilities: (B, N, C + 1) in place of the output's, the mean over several heads.
            flat: keep boxes without an area too.
        """
        config, smallest = self.config, 0.0 if flat else MIN_SIDE
        if probabilities is None:
            probabilities = output.logits.softmax(dim=-1)
        threshold = config.score_threshold if score_threshold is None else score_threshold
        scores = torch.where(self.wanted(probabilities, threshold, proposals), probabilities[..., : self.classes], -1.0)
        most = config.detections_per_image or 100
        if config.candidates_per_image is None or config.detections_per_class is not None:
            return self._decode_each_class(scores, output.deltas, proposals.boxes, sizes, most, smallest)
        candidates = scores.flatten(1)  # (B, N * C)
        score, index = candidates.topk(min(config.candidates_per_image, candidates.shape[1]), dim=1)
        row, label = index // self.classes, index % self.classes
        deltas = gather(output.deltas.flatten(1, 2), row if config.class_agnostic else index)
        boxes = self.refine(deltas, gather(proposals.boxes, row))
        valid = score > 0
        if not config.clip_after_nms:
            boxes = clip(boxes, sizes)
            valid &= ((boxes[..., 2:] - boxes[..., :2]) >= smallest).all(dim=-1)
        keep = nms_keep(boxes, score, label, valid, config.nms_iou)
        return self._best(boxes, torch.where(keep, score, -1.0), label, sizes, most)

    def wanted(self, probabilities: Tensor, threshold: Tensor | float, proposals: Proposals) -> Tensor:
        """Which classes of which proposals are candidates, (B, N, C) bool."""
        scores = probabilities[..., : self.classes]
        if self.config.classes_per_box == "all":
            return (scores > threshold) & proposals.valid[..., None]
        best = probabilities.argmax(dim=-1, keepdim=True)  # background too
        mine = best == torch.arange(self.classes, device=scores.device)
        return mine & (scores >= threshold) & proposals.valid[..., None]  # >=, as Matterport compares

    def _decode_each_class(
        self, scores: Tensor, deltas: Tensor, proposals: Tensor, sizes: Tensor, most: int, smallest: float
    ) -> Detections:
        """All candidates of each class, scores (B, N, C), compete on their own: C times B problems of N boxes."""
        config, (batch, count, classes) = self.config, scores.shape
        if config.candidates_per_image is not None:
            enter = scores.flatten(1).topk(min(config.candidates_per_image, count * classes), dim=1).values
            scores = torch.where(scores >= enter[:, -1, None, None], scores, -1.0)
        boxes = self.refine(deltas, proposals[:, :, None])
        boxes = boxes.expand(-1, -1, classes, -1).transpose(1, 2)  # (B, C, N, 4)
        score = scores.transpose(1, 2).flatten(0, 1)  # (B * C, N)
        valid = score > 0
        if not config.clip_after_nms:
            boxes = clip(boxes.flatten(1, 2), sizes).view_as(boxes)
            valid &= ((boxes[..., 2:] - boxes[..., :2]) >= smallest).all(dim=-1).flatten(0, 1)
        boxes = boxes.flatten(0, 1)
        keep = nms_keep(boxes, score, torch.zeros_like(score, dtype=torch.int64), valid, config.nms_iou)
        score, index = best_first(torch.where(keep, score, -1.0), config.detections_per_class or count)
        boxes = gather(boxes, index)  # (B * C, K, 4)
        label = (
            torch.arange(classes, device=score.device)[:, None].expand(-1, score.shape[1]).flatten().expand(batch, -1)
        )
        return self._best(boxes.reshape(batch, -1, 4), score.reshape(batch, -1), label, sizes, most)

    def _best(self, boxes: Tensor, score: Tensor, label: Tensor, sizes: Tensor, most: int) -> Detections:
        """The best of what NMS left, (B, M, ...), where scores above 0 are left; clipped now if not before."""
        if self.config.clip_after_nms:
            boxes = clip(boxes, sizes)
            score = torch.where((boxes[..., 2:] > boxes[..., :2]).all(dim=-1), score, -1.0)
            score, index = best_first(score, most)
        else:
            score, index = score.topk(min(most, score.shape[1]), dim=1)
        valid = score > 0
        return Detections(
            boxes=torch.where(valid[..., None], gather(boxes, index), 0.0),
            scores=torch.where(valid, score, 0.0),
            labels=torch.where(valid, gather(label, index), 0),
            valid=valid,
        )


def drop(x: Tensor, rows: Tensor, count: int, keys: Tensor, part: float) -> Tensor:
    """Dropout whose noise is a hash of the image's key and the place in it: the same wherever it runs.

    Args:
        x: (R, C), features of some proposals.
        rows: (R,) int64, which they are, image after image.
        count: proposals of an image.
        keys: (B,) int64.
        part: of the features that become 0; the others grow so that the mean stays.
    """
    noise = counter_noise(keys, count * x.shape[1]).view(-1, x.shape[1])[rows]
    return torch.where(noise >= part, x / (1 - part), 0.0)


def pick_class(values: Tensor, labels: Tensor | int) -> Tensor:
    """values (B, N, C, ...) at labels (B, N), or one label for all -> (B, N, ...)."""
    if isinstance(labels, int):
        return values[:, :, labels]
    index = labels.view(*labels.shape, 1, *[1] * (values.ndim - 3)).expand(*labels.shape, 1, *values.shape[3:])
    return values.gather(2, index).squeeze(2)
