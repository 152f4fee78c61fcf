"""Swin Transformer (Liu et al. 2021) through torchvision's blocks; tensor names are torchvision's.

Our attention in them: one graph serves every size of the image, and the windows are always shifted, as in the paper's
own detector and MMDetection. torchvision leaves the shift out along an axis that has a single window, which changes a
stage whose map is at most 7 cells long there (the last one: images of at most 224 pixels).

Without stochastic depth: the counts that the losses divide by come from a second pass, which must see the same network.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer, SwinTransformerBlock

from maskrcnn.config import BackboneConfig
from maskrcnn.model.backbones.trunk import Trunk, freeze_features

WINDOW = 7  # cells per side
# Channels of the first stage; blocks and attention heads of each (paper, section 3.3).
SIZES = {
    "swin_t": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_s": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_b": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


class WindowAttention(ShiftedWindowAttention):
    """Attention among the 7x7 cells of each window; in every second block the windows lie 3 cells further."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        count, height, width, channels = x.shape
        # Windows. Not -(-height // 7): ONNX cuts quotients towards zero.
        down, across = (height + WINDOW - 1) // WINDOW, (width + WINDOW - 1) // WINDOW
        # Down and right to whole windows. In this form an export sees that the sides are multiples of 7.
        x = F.pad(x, (0, 0, 0, across * WINDOW - width, 0, down * WINDOW - height))
        shift = self.shift_size[0]
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = x.view(count, down, WINDOW, across, WINDOW, channels).transpose(2, 3)
        x = x.reshape(count * down * across, WINDOW * WINDOW, channels)
        bias = self.get_relative_position_bias()  # (1, heads, 49, 49)
        if shift:  # cells that the roll brought together from opposite borders do not see each other
            bias = (bias + apart(down, across, shift, x.device)[:, None]).repeat(count, 1, 1, 1)
        x = self.attend(x, bias)
        x = x.view(count, down, across, WINDOW, WINDOW, channels).transpose(2, 3)
        x = x.reshape(count, down * WINDOW, across * WINDOW, channels)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return x[:, :height, :width].contiguous()

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """Windows (n, 49, C), with what is added to the logits of each: (n or 1, heads, 49, 49)."""
        windows, cells, channels = x.shape
        x = self.qkv(x).view(windows, cells, 3, self.num_heads, channels // self.num_heads)
        query, key, value = x.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, 49, c)
        x = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        return self.proj(x.transpose(1, 2).reshape(windows, cells, channels))


def apart(down: int, across: int, shift: int, device: torch.device) -> Tensor:
    """-100 for two cells of a rolled map's window that do not belong together, else 0: (down * across, 49, 49)."""

    def part(windows: int) -> Tensor:
        """0 where the roll left the windows whole, 1 and 2 on both sides of the seam in the last one: (windows, 7)."""
        cell = torch.arange(windows * WINDOW, device=device).view(windows, WINDOW)
        return (cell >= (windows - 1) * WINDOW).to(torch.int64) + (cell >= windows * WINDOW - shift).to(torch.int64)

    parts = part(down)[:, None, :, None] * 3 + part(across)[None, :, None, :]
    parts = parts.reshape(down * across, WINDOW * WINDOW)
    return torch.where(parts[:, :, None] == parts[:, None, :], 0.0, -100.0)


class Swin(Trunk):
    """Images (B, C, H, W) -> maps of stride 4, 8, 16, 32, each with a layer norm of its own.

    Attributes:
        channels: of the four maps.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width, depths, heads = SIZES[config.name]
        self.features = SwinTransformer(
            patch_size=[4, 4],
            embed_dim=width,
            depths=list(depths),
            num_heads=list(heads),
            window_size=[WINDOW, WINDOW],
            stochastic_depth_prob=0.0,
            num_classes=1,
            block=partial(SwinTransformerBlock, attn_layer=WindowAttention),
        ).features
        self.channels = tuple(width * 2**stage for stage in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-5) for channels in self.channels)
        freeze_features(self.features, self.norms, config.frozen_stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, norm in enumerate(self.norms):
            x = self.features[2 * stage + 1](self.features[2 * stage](x))  # NHWC
            maps.append(norm(x).permute(0, 3, 1, 2))
        return maps
