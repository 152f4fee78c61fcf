"""A data set -> `data.yaml`, `images/SPLIT/NAME` and `labels/SPLIT/NAME.txt`, as ultralytics reads it.

A line is one object: its class and its outline in fractions of the image. There is one ring an object, so further parts
and holes are joined to it by lines of no width, which cover nothing when a ring is filled by even and odd crossings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from maskrcnn.data.formats.pairs import MASK_SUFFIXES
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.data.write.lost import full_rle, note, note_ids, note_objects, plain_names, split_of
from maskrcnn.dataset import Dataset
from maskrcnn.ops.rle import join_rings, polygons_to_rle, rle_area, rle_to_union_polygons
from maskrcnn.structures import Polygons, Record

CANNOT_HOLD = "crowds, ids, keypoints, bitmaps, and boxes or areas that are not those of the outlines"
UNNAMED = "train"  # data.yaml has to call its images something


def write(dataset: Dataset, folder: Path, *, lost: Skipped | None = None) -> None:
    """Write a data set of outlines, or of boxes where there are no masks. Crowds are left out, as ultralytics does.

    Args:
        folder: is there and empty.
        lost: counts what is left out or changed.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    lost = Skipped() if lost is None else lost
    note_ids(dataset, lost, unused=False)
    folders: dict[str, ImageFolder] = {}
    for record in dataset:
        split = split_of(record, lost)
        if not split:
            note(lost, "called", f"images without a split {UNNAMED!r}", record, None, record.path.name)
            split = UNNAMED
        if split not in folders:
            folders[split] = ImageFolder(folder / "images" / split, lost, MASK_SUFFIXES)
            (folder / "labels" / split).mkdir(parents=True)
        image = folders[split].put(record)
        lines = {index: text for index in range(len(record)) if (text := line(record, index, lost))}
        note_objects(record, list(lines), {"outlines"}, lost)
        text = "".join(f"{text}\n" for text in lines.values())
        (folder / "labels" / split / f"{image.stem}.txt").write_text(text, encoding="utf-8")
    write_yaml(plain_names(dataset, lost), list(folders), folder / "data.yaml")


def write_yaml(names: list[str], splits: list[str], file: Path) -> None:
    """Without `path`: then places are relative to the file, wherever the folder is moved."""
    places = {split: f"images/{split}" if split in splits else None for split in ("train", "val", "test")}
    if "test" not in splits:
        del places["test"]  # the other two must be there
    content = places | {"nc": len(names), "names": dict(enumerate(names))}
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def line(record: Record, index: int, lost: Skipped) -> str:
    """The object's line; "" for what is left out."""
    if record.crowd[index]:
        note(lost, "left out", "crowds", record, index, "regions to ignore")
        return ""
    size = np.array([record.width, record.height], np.float64)
    if record.masks:
        ring = _ring(record, index, lost)
        if ring is None:
            return ""
        values = _fractions(ring, size)
    else:
        low, high = record.boxes[index].astype(np.float64).reshape(2, 2) / size
        values = np.stack([(low + high) / 2, high - low])
    return " ".join([str(int(record.labels[index])), *(repr(value) for value in values.ravel().tolist())])


def _fractions(ring: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Fractions that, times the size, are the coordinates again; or next to them, and rounded alike by COCO's rule.

    COCO's rule rounds to fifths (`5 * x + 0.5`), and coordinates of one decimal lie right between two of them.
    """
    near = ring / size
    choices = np.stack([near, np.nextafter(near, 2), np.nextafter(near, -1)])
    again = choices * size
    wrong = np.abs(again - ring) + (np.floor(5 * again + 0.5) != np.floor(5 * ring + 0.5))
    best = np.take_along_axis(choices, wrong.argmin(axis=0)[None], axis=0)[0]
    return np.clip(best, 0, 1)


def _ring(record: Record, index: int, lost: Skipped) -> np.ndarray | None:
    """(P, 2) one ring that covers the same pixels; None for an empty mask."""
    mask, rle = record.masks[index], full_rle(record, index)
    if isinstance(mask, Polygons):
        ring = join_rings(mask.rings)
        inside = ring.min() >= 0 and (ring.max(axis=0) <= [record.width, record.height]).all()
        if inside and (len(mask.rings) == 1 or polygons_to_rle([ring], record.size)["counts"] == rle["counts"]):
            if len(mask.rings) > 1:
                note(lost, "joined", "objects of several parts into one ring", record, index, str(len(mask.rings)))
            return ring
    if not rle_area(rle):
        note(lost, "left out", "empty masks", record, index, "no pixel")
        return None
    rings = rle_to_union_polygons(rle)
    kind = "outlines along pixels, as parts overlap or leave the image" if isinstance(mask, Polygons) else (
        "bitmaps as outlines along their pixels")  # fmt: skip
    note(lost, "drew", kind, record, index, f"{len(rings)} parts")
    return join_rings(rings)
