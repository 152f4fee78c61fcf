"""Keypoint head (Mask R-CNN paper, section 5): features of boxes in; a heat map of each keypoint out, roi frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.config import KeypointHeadConfig
from maskrcnn.model.foreground import Foreground
from maskrcnn.model.losses import masked_sum
from maskrcnn.ops.compact import put, take
from maskrcnn.ops.keypoints import cells_of_keypoints, peaks
from maskrcnn.structures import Detections, LossPart, Targets


class KeypointHead(nn.Module):
    """Convolutions, a 4x4 deconvolution to one channel a keypoint, and bilinear enlargement by 2.

    Args:
        channels: of the features.
        keypoints: K.
        config: the layers.
    """

    def __init__(self, channels: int, keypoints: int, config: KeypointHeadConfig) -> None:
        super().__init__()
        self.config, self.keypoints = config, keypoints
        layers = []
        for _ in range(config.convolutions):
            layers.append(nn.Conv2d(channels, config.channels, 3, padding=1))
            channels = config.channels
        self.convolutions = nn.ModuleList(layers)
        self.logits = nn.ConvTranspose2d(channels, keypoints, 4, stride=2, padding=1)
        for layer in [*layers, self.logits]:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    @property
    def resolution(self) -> int:
        """Cells per side of a heat map."""
        return 4 * self.config.pooler.resolution

    def forward(self, x: Tensor) -> Tensor:
        """Features (R, C, n, n) -> logits (R, K, 4n, 4n)."""
        for layer in self.convolutions:
            x = F.relu_(layer(x))
        return F.interpolate(self.logits(x).float(), scale_factor=2, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def targets(self, foreground: Foreground, targets: Targets) -> tuple[Tensor, Tensor]:
        """The cell of each keypoint of each box, (R, K) int64, and whether it is labelled and inside, (R, K) bool."""
        assert targets.keypoints is not None
        truth = targets.keypoints[foreground.image_index, foreground.matched]  # (R, K, 3)
        cells, visible = cells_of_keypoints(truth, foreground.boxes, self.resolution)
        return cells, visible & foreground.valid[:, None]

    def loss(self, logits: Tensor, cells: Tensor, visible: Tensor) -> dict[str, LossPart]:
        """Logits (R, K, S, S), cells and visible (R, K) -> part `keypoint`, cross-entropy over the cells of a heat map,
        which counts visible keypoints (Detectron2)."""
        entropy = F.cross_entropy(logits.flatten(2).flatten(0, 1), cells.flatten(), reduction="none")
        total = self.config.loss_weight * masked_sum(entropy.view_as(visible), visible)
        return {"keypoint": LossPart(total, visible.sum())}

    def train_on(self, x: Tensor, foreground: Foreground, targets: Targets) -> dict[str, LossPart]:
        """The whole training path: features (R, C, n, n) of the foreground -> logits, targets, loss."""
        return self.loss(self(x), *self.targets(foreground, targets))

    def decode(self, x: Tensor, rows: Tensor, detections: Detections, frame: tuple[int, int]) -> Tensor:
        """Features (R, C, n, n) of the detections `rows` -> (B, D, K, 3): x and y in the frame of the detections, and
        the score that the config wants; 0 where a detection is not valid.

        `frame` is (height, width) of the input.
        """
        maps = self(x)
        place, best = peaks(maps, take(detections.boxes, rows), max(frame))
        score = best
        if self.config.score == "probability":  # of the peak, among the cells of the small map
            score = 1 / (maps - best[..., None, None]).exp().sum(dim=(2, 3))
        found = put(torch.cat([place, score[..., None]], dim=-1), rows, *detections.valid.shape)
        return torch.where(detections.valid[..., None, None], found, 0.0)
