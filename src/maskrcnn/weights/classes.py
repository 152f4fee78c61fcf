"""Names for the classes of a checkpoint that holds only their number."""

from __future__ import annotations

from collections.abc import Sequence

from maskrcnn.errors import WeightsError

COCO = 90  # ids of COCO's 80 classes go up to this


def class_names(count: int, names: Sequence[str] | None = None) -> tuple[list[str], list[int]]:
    """Names and external ids of classes 1, 2, ..., `count`.

    Args:
        count: classes without the background.
        names: as given by the user; None: COCO's for 90 (unused ids are called "unused 12"), else "class 1", ...

    Raises:
        WeightsError: another number of names.
    """
    ids = list(range(1, count + 1))
    if names is not None:
        if len(names) != count:
            raise WeightsError(f"the file has {count} classes besides the background, but {len(names)} names are given")
        return list(names), ids
    if count == COCO:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

        known = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [unused(i) if known[i] == "N/A" else known[i] for i in ids], ids
    return [f"class {i}" for i in ids], ids


def unused(number: int) -> str:
    """The name of a class that has a row in the predictors and no objects."""
    return f"unused {number}"
