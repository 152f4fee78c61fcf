"""A data set -> Pascal VOC's folders: Annotations, JPEGImages, ImageSets, SegmentationObject and SegmentationClass.

Corners count pixels from 1 and include the last one, as in VOC: xmin = x0 + 1, xmax = x1. Numbers with a fraction keep
it. The number of an object in SegmentationObject is its place in the XML, from 1; small objects lie over large ones.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import hotcoco.mask as coco_mask
import numpy as np
from PIL import Image

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.voc_masks import BORDER
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.data.write.lost import full_rle, note, note_ids, note_objects, plain_names, split_of
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.rle import decode_window, rle_area
from maskrcnn.structures import Record

CANNOT_HOLD = "overlaps of masks, ids, keypoints, outlines finer than pixels, and classes without objects"
MOST_OBJECTS = (1 << 16) - 1  # that 16 bits can number
BOTH = "trainval"  # lists images of all splits but test, and so those without a split


def write(dataset: Dataset, folder: Path, *, lost: Skipped | None = None) -> None:
    """Write XML files, and label images where the data set has masks. Crowds become `difficult`.

    Args:
        folder: is there and empty.
        lost: counts what is left out or changed.

    Raises:
        DataError: an image or a mask cannot be read, or an image has more than 65,535 objects with masks.
    """
    lost = Skipped() if lost is None else lost
    note_ids(dataset, lost, unused=True)
    names, masks = plain_names(dataset, lost), dataset.has_masks
    kinds = ["Main", "Segmentation"] if masks else ["Main"]
    places = ["Annotations", *(f"ImageSets/{kind}" for kind in kinds)]
    for place in [*places, "SegmentationObject", "SegmentationClass"] if masks else places:
        (folder / place).mkdir(parents=True)
    if masks:
        (folder / "class_names.txt").write_text("\n".join(["background", *names]) + "\n", encoding="utf-8")
    images = ImageFolder(folder / "JPEGImages", lost, plain=True)
    lists: dict[str, list[str]] = {BOTH: []}
    for record in dataset:
        split = split_of(record, lost)
        image = images.put(record)
        for name in {split or BOTH, split if split == "test" else BOTH}:
            lists.setdefault(name, []).append(image.stem)
        xml = _xml(record, image.name, names, segmented=masks)
        (folder / "Annotations" / f"{image.stem}.xml").write_text(xml, encoding="utf-8")
        note_objects(record, range(len(record)), {"boxes"}, lost)
        if masks:
            _write_masks(record, folder, f"{image.stem}.png", len(names), lost)
    if len(lists) > 1:  # else the data set has no splits, and a list would be one
        _write_lists([folder / "ImageSets" / kind for kind in kinds], lists)


def _write_lists(folders: list[Path], lists: dict[str, list[str]]) -> None:
    for folder in folders:
        for name, stems in lists.items():
            (folder / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


# ---------------------------------------------------------------- XML


def _xml(record: Record, name: str, names: list[str], *, segmented: bool) -> str:
    lines = [
        "<annotation>",
        f"\t<folder>JPEGImages</folder>\n\t<filename>{escape(name)}</filename>",
        "\t<source><database>maskrcnn, as VOC</database></source>",
        f"\t<size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>",
        f"\t<segmented>{int(segmented)}</segmented>",
    ]
    for index in range(len(record)):
        corners = zip(("xmin", "ymin", "xmax", "ymax"), record.boxes[index].tolist(), (1, 1, 0, 0), strict=True)
        box = "".join(f"<{side}>{_number(value + shift)}</{side}>" for side, value, shift in corners)
        lines += [
            f"\t<object>\n\t\t<name>{escape(names[record.labels[index]])}</name>",
            "\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>",
            f"\t\t<difficult>{int(record.crowd[index])}</difficult>",
            f"\t\t<bndbox>{box}</bndbox>\n\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


# ---------------------------------------------------------------- label images


def _write_masks(record: Record, folder: Path, name: str, classes: int, lost: Skipped) -> None:
    """Objects and their classes. What a mask loses to others is counted."""
    if len(record) > MOST_OBJECTS:
        message = f"has {len(record)} objects, and a label image has room for {MOST_OBJECTS}; cut it into tiles"
        raise DataError(message, path=record.path, image=record.image_id)
    objects = np.zeros(record.size, np.uint8 if len(record) < BORDER else np.uint16)
    rles = [full_rle(record, index) for index in range(len(record))]
    areas = np.array([rle_area(rle) for rle in rles], np.int64)
    order = np.argsort(-areas, kind="stable")
    for index in order[areas[order] > 0].tolist():
        x, y, width, height = (int(v) for v in coco_mask.to_bbox(rles[index]))
        window = decode_window(rles[index], y, x, y + height, x + width)
        objects[y : y + height, x : x + width][window] = index + 1
    shown = np.bincount(objects.ravel(), minlength=len(record) + 1)[1:]
    for index in np.flatnonzero(shown < areas).tolist():
        value = f"{areas[index] - shown[index]} of {areas[index]}"
        if shown[index]:
            note(lost, "cut", "masks that others lie over", record, index, f"{value} pixels")
        else:
            note(lost, "left out", "masks that others hide, so that the box stands in", record, index, value)
    for index in np.flatnonzero(areas == 0).tolist():
        note(lost, "left out", "empty masks, so that the box stands in", record, index, "no pixel")
    numbers = np.concatenate([[0], record.labels + 1])
    kinds = numbers.astype(np.uint8 if classes < BORDER else np.uint16)[objects]
    _save(objects, folder / "SegmentationObject" / name)
    _save(kinds, folder / "SegmentationClass" / name)


def _save(labels: np.ndarray, file: Path) -> None:
    """With VOC's colours; of 16 bits, plain."""
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(_palette().tobytes())
    image.save(file)


def _palette() -> np.ndarray:
    """(256, 3) uint8, VOC's colours: the bits of a number, dealt to the channels from the highest bit down."""
    bits = np.arange(256)[:, None] >> np.arange(24) & 1  # (256, 24), the lowest first
    return (bits.reshape(256, 8, 3) << np.arange(7, -1, -1)[:, None]).sum(axis=1).astype(np.uint8)
