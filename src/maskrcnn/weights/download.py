"""A published file, downloaded once into torch's cache."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlparse

from maskrcnn.errors import WeightsError


def cached_file(url: str, what: str, other: str) -> tuple[Path, bool]:
    """Where a file lies in torch's cache (`$TORCH_HOME/hub/checkpoints`), and whether it was downloaded just now.

    Args:
        url: where it is published; torchvision puts the start of the SHA-256 into the name, which is checked.
        what: for the error, "the ImageNet weights of resnet50".
        other: what else the user can do, for the error.

    Raises:
        WeightsError: the download failed: no internet, no space, another file than published.
    """
    import torch.hub

    name = Path(urlparse(url).path).name
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.exists():
        return file, False
    digest = re.search(r"-([a-f0-9]+)\.", name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest[1] if digest else None)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"cannot download {what} to {file}: {error}; where there is no internet, fetch {url} elsewhere and put it "
            f"there, {other}"
        ) from error
    return file, True
