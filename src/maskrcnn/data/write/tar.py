"""A data set -> tar shards as webdataset has them, which `formats/tar.py` reads without extracting anything."""

from __future__ import annotations

import json
import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

from maskrcnn.data.formats.shards import shard_files
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.tar import CATEGORIES, NAMES
from maskrcnn.data.write.encoded import encoded_image
from maskrcnn.data.write.lost import note_pairs, rows_of_splits, segmentation_of
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Record

CANNOT_HOLD = "images that are neither 8-bit nor TIFF, and pairs of keypoints not called left... and right..."
_COPIED = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}


def write(dataset: Dataset, folder: Path, *, images: int = 1000, lost: Skipped | None = None) -> list[Path]:
    """Write `SPLIT-000000.tar`, ... for each split ("data" without splits) and `categories.json`.

    Image files are copied byte by byte; polygons stay polygons, other masks become RLE.

    Args:
        folder: made where it is missing; must not hold .tar files.
        images: in a shard.
        lost: counts what is left out or changed.

    Returns:
        the shards, then categories.json.

    Raises:
        DataError: the folder holds tar files, or an image or a mask cannot be read.
    """
    if images < 1:
        raise DataError(f"{images} images in a shard; give at least 1")
    if folder.is_dir() and (old := shard_files(folder, NAMES, depth=0)):
        raise DataError(f"already holds {old[0].name}; give another folder, or empty it", path=folder)
    folder.mkdir(parents=True, exist_ok=True)
    lost, written = Skipped() if lost is None else lost, []
    note_pairs(dataset, lost)
    for split, rows in rows_of_splits(dataset, lost).items():
        for number, first in enumerate(range(0, len(rows), images)):
            file = folder / f"{split or 'data'}-{number:06}.tar"
            _write_shard(file, rows[first : first + images], dataset, lost)
            written.append(file)
    points = {} if dataset.keypoints is None else {"keypoints": list(dataset.keypoints.names)}
    categories = [{"id": i, "name": n} | points for n, i in zip(dataset.classes, dataset.category_ids, strict=True)]
    (folder / CATEGORIES).write_text(json.dumps(categories, indent=1), encoding="utf-8")
    return [*written, folder / CATEGORIES]


def _write_shard(file: Path, rows: list[int], dataset: Dataset, lost: Skipped) -> None:
    """Under another name until it is whole."""
    unfinished = file.with_name(file.name + ".part")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
            for row in rows:
                record = dataset.table[row]
                encoded, kind = encoded_image(record, _COPIED, lost, turned=True)
                key = f"{row:09}"
                _add(archive, f"{key}.{kind}", encoded)
                _add(archive, f"{key}.json", json.dumps(_sample(record, dataset)).encode())
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, BytesIO(content))


def _sample(record: Record, dataset: Dataset) -> dict[str, Any]:
    image = {"id": record.image_id, "file_name": record.path.name, "height": record.height, "width": record.width}
    return {"image": image, "annotations": [_annotation(record, i, dataset) for i in range(len(record))]}


def _annotation(record: Record, index: int, dataset: Dataset) -> dict[str, Any]:
    x0, y0, x1, y1 = map(float, record.boxes[index])
    label = int(record.labels[index])
    annotation: dict[str, Any] = {
        "id": int(record.annotation_ids[index]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(record.areas[index]),
        "iscrowd": int(record.crowd[index]),
        "category": dataset.classes[label],
        "category_id": int(dataset.category_ids[label]),
    }
    if record.keypoints is not None:
        annotation["keypoints"] = record.keypoints[index].ravel().tolist()
        annotation["num_keypoints"] = int((record.keypoints[index, :, 2] > 0).sum())
    if record.masks:
        annotation["segmentation"] = segmentation_of(record, index)
    return annotation
