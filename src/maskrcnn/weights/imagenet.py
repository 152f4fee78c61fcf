"""ImageNet weights of a trunk, downloaded once by torch.hub from where torchvision publishes them."""

from __future__ import annotations

from pathlib import Path

from maskrcnn.errors import WeightsError
from maskrcnn.weights.download import cached_file


def imagenet_file(backbone: str) -> Path:
    """The weight file of a trunk, in torch's cache (`$TORCH_HOME/hub/checkpoints`).

    The first release (IMAGENET1K_V1), as in torchvision's detectors: trunks trained with the later recipes need
    another learning rate.

    Raises:
        WeightsError: torchvision publishes none for this trunk, or the download failed.
    """
    from torchvision.models import get_model_weights

    other = "give a file with --weights PATH, or train from scratch with --weights none"
    try:
        url = get_model_weights(backbone)["IMAGENET1K_V1"].url
    except (ValueError, KeyError) as error:
        raise WeightsError(f"torchvision publishes no ImageNet weights for {backbone}; {other}") from error
    return cached_file(url, f"the ImageNet weights of {backbone}", other)[0]
