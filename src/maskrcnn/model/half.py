"""Weights in half precision, for prediction under autocast: the same numbers without a cast of every weight at every
call."""

from __future__ import annotations

import torch
from torch import nn

from maskrcnn.model.mask_rcnn import MaskRCNN


def halve_weights(model: MaskRCNN, dtype: torch.dtype = torch.bfloat16) -> MaskRCNN:
    """In place, convolutions and linear layers alone; returns `model`, which from now on needs autocast to `dtype`.

    Autocast casts their weights and biases whenever they are used, with the same rounding. Everything else (image mean,
    norms that were not folded) stays as it is, and so does each mask head's last layer, which is not run as a layer.
    """
    last = [head.logits for head in model.mask_heads]
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module not in last:
            module.to(dtype)
    return model
