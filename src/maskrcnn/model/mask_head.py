"""Mask head (Mask R-CNN paper, section 3): features of boxes with labels in; an MxM mask of each out, roi frame."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import MaskHeadConfig
from maskrcnn.model.foreground import Foreground, foreground_of
from maskrcnn.model.fpn import conv_norm
from maskrcnn.model.losses import mask_bce, mask_dice
from maskrcnn.ops.compact import put, take
from maskrcnn.structures import Detections, LossPart, Samples, Targets


class MaskHead(nn.Module):
    """Perhaps a resize, convolutions, 2x2 deconvolutions, one logit a cell for the RoI's own class.

    Args:
        channels: of the features.
        classes: C.
        config: the layers.
        side: cells per side of the features; None: those of `config.pooler`.
    """

    def __init__(self, channels: int, classes: int, config: MaskHeadConfig, side: int | None = None) -> None:
        super().__init__()
        self.config, self.channels, self.classes = config, channels, classes
        self.side = side or config.pooler.resolution
        layers: list[nn.Module] = []
        width = channels
        for _ in range(config.convolutions):
            layers.append(conv_norm(width, config.channels, 3, config.norm, relu=True))
            width = config.channels
        for _ in range(config.upsamplings):
            layers += [nn.ConvTranspose2d(width, config.channels, 2, stride=2), nn.ReLU(inplace=True)]
            width = config.channels
        self.layers = nn.Sequential(*layers)
        kernel = config.predictor_kernel
        self.logits = nn.Conv2d(width, 1 if config.class_agnostic else classes, kernel, padding=kernel // 2)
        for module in self.layers.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.logits.weight, std=0.001)
        if self.logits.bias is not None:
            nn.init.zeros_(self.logits.bias)

    @property
    def resolution(self) -> int:
        """Cells per side of a mask."""
        return (self.config.resize or self.side) * 2**self.config.upsamplings

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Features (R, C, n, n) with the label of each (R,) -> logits (R, M, M) of that label only.

        The other classes' masks take no part in the loss nor in the result, so they are not computed.
        """
        if (side := self.config.resize) is not None:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)
        channel = torch.zeros_like(labels) if self.config.class_agnostic else labels
        weight, bias = self.logits.weight[channel], self.logits.bias  # (R, C, k, k)
        assert bias is not None
        if self.config.predictor_kernel > 1:
            x = own_logits(self.layers(x), weight)
        elif self.config.upsamplings:
            deconvolution = self.layers[-2]
            assert isinstance(deconvolution, nn.ConvTranspose2d)
            x = upsampled_logits(self.layers[:-2](x), deconvolution, weight.flatten(1))
        else:
            x = self.layers(x)
            x = torch.einsum("rchw,rc->rhw", x, weight.flatten(1).to(x.dtype))
        return x.float() + bias[channel].float()[:, None, None]

    @torch.no_grad()
    def targets(self, boxes: Tensor, image_index: Tensor, matched: Tensor, targets: Targets) -> Tensor:
        """The truth inside each box (R, 4): resampled from the object's own crop -> (R, M, M) float32, 0 or 1, or
        between with `soft_targets`."""
        truth = targets.boxes[image_index, matched]  # (R, 4)
        crops = targets.masks[image_index, matched].to(boxes.dtype) / 255  # (R, S, S)
        # Where the cells of a mask lie is one thing, whether it is pasted or learned.
        target = resample(crops, truth, boxes, self.resolution, corners=self.config.paste == "tensorflow")
        return target if self.config.soft_targets else (target >= 0.5).to(target.dtype)

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> dict[str, LossPart]:
        """Logits and target (R, M, M), valid (R,) -> part `mask`, which counts foreground RoIs."""
        config = self.config
        loss = logits.new_zeros(len(logits))
        if "bce" in config.loss:
            loss = loss + config.bce_weight * mask_bce(logits, target)
        if "dice" in config.loss:
            loss = loss + config.dice_weight * mask_dice(logits, target)
        return {"mask": LossPart(config.loss_weight * torch.where(valid, loss, 0.0).sum(), valid.sum())}

    def foreground(self, samples: Samples) -> Foreground:
        """What the loss looks at; at least one row."""
        return foreground_of(samples)

    def train_on(self, x: Tensor, foreground: Foreground, targets: Targets) -> dict[str, LossPart]:
        """The whole training path: features (R, C, n, n) of the foreground -> logits, targets, loss."""
        logits = self(x, foreground.labels)
        target = self.targets(foreground.boxes, foreground.image_index, foreground.matched, targets)
        return self.loss(logits, target, foreground.valid)

    def decode(self, x: Tensor, rows: Tensor, detections: Detections) -> Tensor:
        """Features (R, C, n, n) of the detections `rows` -> probabilities (B, D, M, M) in the roi frame of each
        detection; 0 where it is not valid."""
        logits = self(x, take(detections.labels, rows))
        masks = put(logits.sigmoid(), rows, *detections.valid.shape)
        return masks * detections.valid[..., None, None].to(masks.dtype)


def upsampled_logits(x: Tensor, deconvolution: nn.ConvTranspose2d, weight: Tensor) -> Tensor:
    """The last 2x2 deconvolution, its ReLU and the class logit of each cell, without bias.

    Every cell becomes 2 x 2 cells of its own, so that the deconvolution is a 1x1 convolution to 4 C channels. They stay
    beside each other until one number of each is left: the large map is not put into image order. On a CPU, forward and
    backward take two thirds of the time.

    Args:
        x: (R, C', m, m).
        deconvolution: kernel 2, stride 2, C' -> C.
        weight: (R, C).

    Returns:
        (R, 2m, 2m).
    """
    count, inputs, side = x.shape[:3]
    kernel = deconvolution.weight.permute(2, 3, 1, 0).reshape(-1, inputs, 1, 1)  # (2 * 2 * C, C', 1, 1)
    bias = None if deconvolution.bias is None else deconvolution.bias.repeat(4)
    x = F.relu_(F.conv2d(x, kernel, bias))
    x = x.permute(0, 2, 3, 1).reshape(count, side * side * 4, -1)
    x = torch.bmm(x, weight.to(x.dtype)[:, :, None])
    return x.view(count, side, side, 2, 2).permute(0, 1, 3, 2, 4).reshape(count, 2 * side, 2 * side)


def own_logits(x: Tensor, weight: Tensor) -> Tensor:
    """A same-size convolution to one channel with a kernel of each row's own, without bias.

    Every tap of the kernel is a product over channels; what is then moved and summed has one channel. No patches are
    laid out, and no other class is computed.

    Args:
        x: (R, C, m, m).
        weight: (R, C, k, k), k odd.

    Returns:
        (R, m, m).
    """
    count, _, height, width = x.shape
    kernel = weight.shape[-1]
    taps = weight.to(x.dtype).flatten(2).transpose(1, 2) @ x.flatten(2)  # (R, k * k, m * m)
    half = kernel // 2
    taps = F.pad(taps.view(count, kernel * kernel, height, width), (half, half, half, half))
    total = taps[:, 0, :height, :width]
    for tap in range(1, kernel * kernel):
        y, x0 = divmod(tap, kernel)
        total = total + taps[:, tap, y : y + height, x0 : x0 + width]
    return total


def resample(crops: Tensor, crop_boxes: Tensor, boxes: Tensor, resolution: int, *, corners: bool = False) -> Tensor:
    """Read crops that live in `crop_boxes` through the cells of `boxes`; outside a crop is 0.

    Args:
        crops: (R, S, S) in 0..1; cell (i, j) covers [i/S, (i+1)/S] x [j/S, (j+1)/S] of its box.
        crop_boxes: (R, 4), input frame.
        boxes: (R, 4), input frame.
        resolution: M, cells per side of the result.
        corners: the outer cells are points on the border of the box (CropAndResize), not M x M areas that fill it.

    Returns:
        (R, M, M): the mean over sub-samples of each cell, or the value at its point, bilinear in the crop: two small
        matrix products.
    """
    size = crops.shape[-1]
    samples = 1 if corners else max(2, math.ceil(size / resolution))
    steps = torch.arange(resolution * samples, device=crops.device, dtype=crops.dtype)
    steps = steps / max(resolution - 1, 1) if corners else (steps + 0.5) / (resolution * samples)

    def axis(start: Tensor, end: Tensor, crop_start: Tensor, crop_end: Tensor) -> Tensor:
        """Weights (R, M, S) of the crop's cells for each cell of the result."""
        position = start[:, None] + steps * (end - start)[:, None]  # input frame
        scale = size / (crop_end - crop_start).clamp(min=1e-6)
        cell = (position - crop_start[:, None]) * scale[:, None] - 0.5  # index of cell centres
        inside = (position >= crop_start[:, None]) & (position <= crop_end[:, None])
        cell = cell.clamp(0, size - 1)  # the outer half of a border cell belongs to it
        grid = torch.arange(size, device=crops.device, dtype=crops.dtype)
        weight = (1 - (cell[..., None] - grid).abs()).clamp(min=0) * inside[..., None].to(crops.dtype)
        return weight.view(-1, resolution, samples, size).mean(dim=2)

    across = axis(boxes[:, 0], boxes[:, 2], crop_boxes[:, 0], crop_boxes[:, 2])
    down = axis(boxes[:, 1], boxes[:, 3], crop_boxes[:, 1], crop_boxes[:, 3])
    return down @ crops @ across.transpose(1, 2)
