"""Names for the classes of a checkpoint that holds only their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskrcnn.errors import WeightsError
from maskrcnn.structures import KeypointSchema

COCO = 90  # ids of COCO's 80 classes go up to this
CITYSCAPES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
CITYSCAPES_IDS = (24, 25, 26, 27, 28, 31, 32, 33)
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def class_names(count: int, names: Sequence[str] | None = None) -> tuple[list[str], list[int]]:
    """Names and external ids of classes 1, 2, ..., `count`, where a row of the predictors is an id.

    Args:
        count: classes without the background.
        names: as given by the user; None: COCO's for 90 (unused ids are called "unused 12"), else "class 1", ...

    Raises:
        WeightsError: another number of names.
    """
    ids = list(range(1, count + 1))
    if names is not None:
        return _checked(count, names), ids
    if count == COCO:
        known = _coco_rows()
        return [unused(i) if known[i] == "N/A" else known[i] for i in ids], ids
    return [f"class {i}" for i in ids], ids


def contiguous_names(
    count: int, names: Sequence[str] | None = None, *, dataset: str = ""
) -> tuple[list[str], list[int]]:
    """Names and external ids of `count` classes without gaps between them, as Detectron2 and MMDetection number them.

    Args:
        count: classes without the background.
        names: as given by the user or the file; None: COCO's for 80, LVIS's for 1203 (1.0) and 1230 (0.5), or those of
            the data set; else "class 1", ...
        dataset: what the config says it was trained on: "cityscapes_fine_instance_seg_train".

    Raises:
        WeightsError: another number of names.
    """
    ids = list(range(1, count + 1))
    coco = coco_classes()
    if names is not None:
        chosen = _checked(count, names)
        return (chosen, coco[1]) if chosen == coco[0] else (chosen, ids)
    if count == len(coco[0]):
        return coco
    if count == 1 and dataset.startswith("keypoints_coco"):
        return ["person"], ids
    if count == len(CITYSCAPES) and dataset.startswith("cityscapes"):
        return list(CITYSCAPES), list(CITYSCAPES_IDS)
    if count == len(VOC) and dataset.startswith("voc"):
        return list(VOC), ids
    if count in (1203, 1230):
        from maskrcnn.weights import lvis_v05, lvis_v1

        return list(lvis_v1.NAMES if count == 1203 else lvis_v05.NAMES), ids
    return [f"class {i}" for i in ids], ids


def read_names(path: str | Path) -> list[str]:
    """Class names from a label map, a text or JSON, in the order of their ids, see `read_label_map`.

    Raises:
        DataError: nothing there, or no name in it.
    """
    from maskrcnn.pipeline.labels import read_items

    return [item.shown for item in read_items(Path(path))]


def coco_classes() -> tuple[list[str], list[int]]:
    """The 80 names and ids of COCO, in the order of the ids."""
    rows = [(i, name) for i, name in enumerate(_coco_rows()) if name not in ("N/A", "__background__")]
    return [name for _, name in rows], [i for i, _ in rows]


def keypoint_schema(count: int) -> KeypointSchema:
    """The names of a person's keypoints for 17, as in COCO; else "point 1", ..., which do not swap in a mirror."""
    if count != len(PERSON):
        return KeypointSchema(tuple(f"point {i}" for i in range(1, count + 1)))
    pairs = tuple(
        (i, PERSON.index(name.replace("left", "right"))) for i, name in enumerate(PERSON) if name.startswith("left")
    )
    return KeypointSchema(PERSON, pairs)


def unused(number: int) -> str:
    """The name of a class that has a row in the predictors and no objects."""
    return f"unused {number}"


def _checked(count: int, names: Sequence[str]) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Sequence) or any(not isinstance(name, str) for name in names):
        raise WeightsError(f"classes= takes a list of names, got {repr(names)[:60]}")
    if len(names) != count:
        raise WeightsError(
            f"the file has {count} classes besides the background, but {len(names)} names are given; give one "
            "for each, in the order of its rows"
        )
    return list(names)


def _coco_rows() -> list[str]:
    """By id, 0 for the background and "N/A" for ids that COCO left out."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    return list(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
