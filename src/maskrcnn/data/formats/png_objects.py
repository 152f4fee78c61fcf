"""One PNG per object: `ID/images/*.png` and `ID/masks/*.png`, as in the Data Science Bowl 2018 (nuclei)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.data.formats.layout import split_of_name
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from maskrcnn.structures import MaskFile, Record

NAME = "png_objects"
LOOKS_FOR = "folders ID/images/*.png with ID/masks/*.png, one mask an object, here or one folder down"


def sniff(path: Path) -> bool:
    """Whether a folder holds ID/images and ID/masks."""
    return path.is_dir() and any(True for _ in _folders(path))


def read(path: Path) -> Dataset:
    """Open all images of a folder; masks are read once for their boxes and stay in their files.

    Raises:
        DataError: no image that can be used.
    """
    skipped = Skipped()
    records: list[Record] = []
    next_id = 1
    for folder in sorted(_folders(path)):
        images = sorted((folder / "images").glob("*.png"))
        if len(images) != 1:
            skipped.add("folders without exactly one image", folder, None, None, f"{len(images)} images")
            continue
        try:
            with Image.open(images[0]) as image:
                width, height = image.size
        except Exception as error:
            skipped.add("images that cannot be opened", images[0], None, None, type(error).__name__)
            continue
        split = split_of_name(folder.parent.name) if folder.parent != path else None
        record = _record(images[0], folder, len(records) + 1, (height, width), next_id, split or "", skipped)
        records.append(record)
        next_id += len(record)
    if not records:
        reason = f"; {skipped.sentences()[0]}" if skipped else ""
        raise DataError(f"holds no image that can be used{reason}", path=path)
    name = "nucleus" if "nucle" in str(path.resolve()).lower() else "object"
    return Dataset(records, (name,), (1,), name=str(path), format=NAME, warnings=tuple(skipped.sentences()))


def _folders(path: Path) -> list[Path]:
    return [masks.parent for pattern in ("*/masks", "*/*/masks") for masks in path.glob(pattern)
            if (masks.parent / "images").is_dir()]  # fmt: skip


def _record(
    image: Path, folder: Path, number: int, size: tuple[int, int], first_id: int, split: str, skipped: Skipped
) -> Record:
    boxes, masks, areas = [], [], []
    for file in sorted((folder / "masks").glob("*.png")):
        mask = MaskFile(file)
        try:
            pixels = load_mask_file(mask)
        except DataError as error:
            skipped.add("masks that cannot be read", file, None, None, error.message)
            continue
        if pixels.shape != size:
            skipped.add("masks of another size than their image", file, None, None, f"{pixels.shape} instead of {size}")
            continue
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        if not len(rows):
            skipped.add("empty masks", file, None, None, "no pixel above 0")
            continue
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        masks.append(mask)
        areas.append(pixels.sum())
    return Record(
        path=image,
        image_id=number,
        height=size[0],
        width=size[1],
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.zeros(len(boxes), np.int64),
        masks=tuple(masks),
        crowd=np.zeros(len(boxes), bool),
        areas=np.array(areas, np.float32),
        annotation_ids=np.arange(first_id, first_id + len(boxes), dtype=np.int64),
        split=split,
    )
