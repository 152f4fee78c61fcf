"""Feature pyramid network (FPN paper, section 3): the maps of a trunk in, usually four, P2-P6 out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from maskrcnn.model.backbones.norms import FrozenStatisticsNorm, group_norm

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "bn": nn.BatchNorm2d,
    "frozen_statistics": partial(FrozenStatisticsNorm, eps=1e-5),
    "gn": group_norm,
}


def conv_norm(inputs: int, outputs: int, kernel: int, norm: str, *, relu: bool = False) -> nn.Sequential:
    """A same-size convolution with bias, or without and with a norm of `NORMS`, then perhaps a ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm == "none")]
    if norm != "none":
        layers.append(NORMS[norm](outputs))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class FPN(nn.Module):
    """Lateral 1x1, top-down nearest upsampling and sum, 3x3 output; P6 = P5 subsampled (FPN paper, footnote 2).

    Args:
        inputs: channels of the trunk maps, finest first.
        channels: width of all outputs.
        norm: "none", "bn" or "gn".
    """

    def __init__(self, inputs: Sequence[int], channels: int, norm: str) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(c, channels, 1, norm) for c in inputs)
        self.output = nn.ModuleList(conv_norm(channels, channels, 3, norm) for _ in inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)  # c2_xavier, as all peers
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps, finest first, -> as many and the last at twice its stride: of 4, 8, 16, 32 five of 4 .. 64."""
        merged = self.lateral[-1](maps[-1])
        outputs = [self.output[-1](merged)]
        for level in reversed(range(len(maps) - 1)):
            above = F.interpolate(merged, size=maps[level].shape[-2:], mode="nearest")
            merged = above.add_(self.lateral[level](maps[level]))  # in place: fresh memory is dear on a CPU
            outputs.insert(0, self.output[level](merged))
        return [*outputs, outputs[-1][:, :, ::2, ::2]]
