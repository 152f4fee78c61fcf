"""torchvision's published detectors by name, through its weights API."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn.errors import WeightsError
from maskrcnn.fields import nearest
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.weights.download import cached_file
from maskrcnn.weights.torchvision.model import load_torchvision

NAMES = (
    "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn",
)  # fmt: skip
TOLD: set[Path] = set()  # files whose licence was told
LICENCE = (
    "torchvision publishes these weights without a licence of their own; its code is BSD-3, they were trained on COCO, "
    "whose annotations are CC BY 4.0"
)


def load_published(name: str, **options: Any) -> MaskRCNN:
    """A published detector: `maskrcnn_resnet50_fpn_v2`, or `keypointrcnn_resnet50_fpn/COCO_LEGACY` for other weights
    than the default.

    The file is kept in torch's cache (`$TORCH_HOME/hub/checkpoints`); its licence is told, once a process.

    Args:
        name: of torchvision's builder, with the weights after a slash.
        options: as in `load_torchvision`.

    Raises:
        WeightsError: an unknown name, or no internet; says where to put a file that was fetched elsewhere.
    """
    from torchvision.models import get_model_weights

    builder, _, entry = name.partition("/")
    if builder not in NAMES:
        raise WeightsError(f"torchvision:{name}: unknown{nearest(builder, NAMES)}; known: {', '.join(NAMES)}")
    known = {weights.name: weights for weights in get_model_weights(builder)}
    default = get_model_weights(builder).DEFAULT.name
    if (entry or default) not in known:
        raise WeightsError(f"torchvision:{name}: unknown weights {entry!r}; known: {', '.join(known)}")
    url = known[entry or default].url
    file, fresh = cached_file(url, f"torchvision:{name}", "or give a file that you have")
    model = load_torchvision(file, **options)
    if fresh or file not in TOLD:
        TOLD.add(file)
        warnings.warn(f"{file}: {'downloaded once and kept there' if fresh else 'kept there'}; {LICENCE}", stacklevel=3)
    return model


@contextlib.contextmanager
def untold() -> Iterator[None]:
    """What is opened in here unheard is told the next time."""
    before = set(TOLD)
    try:
        yield
    finally:
        TOLD.intersection_update(before)
