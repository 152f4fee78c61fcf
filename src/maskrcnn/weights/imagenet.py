"""ImageNet weights of a trunk, downloaded once by torch.hub from where torchvision publishes them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlparse

from maskrcnn.errors import WeightsError


def imagenet_file(backbone: str) -> Path:
    """The weight file of a trunk, in torch's cache (`$TORCH_HOME/hub/checkpoints`).

    The first release (IMAGENET1K_V1), as in torchvision's detectors: trunks trained with the later recipes need
    another learning rate.

    Raises:
        WeightsError: torchvision publishes none for this trunk, or the download failed.
    """
    import torch.hub
    from torchvision.models import get_model_weights

    other = "give a file with --weights PATH, or train from scratch with --weights none"
    try:
        url = get_model_weights(backbone)["IMAGENET1K_V1"].url
    except (ValueError, KeyError) as error:
        raise WeightsError(f"torchvision publishes no ImageNet weights for {backbone}; {other}") from error
    name = Path(urlparse(url).path).name
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.exists():
        return file
    digest = re.search(r"-([a-f0-9]+)\.", name)  # torchvision puts the start of the SHA-256 into the name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest[1] if digest else None)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot download the ImageNet weights of {backbone} to {file}: {error}; {other}") from error
    return file
