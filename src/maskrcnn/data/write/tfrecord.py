"""A data set -> TFRecord shards that the TensorFlow Object Detection API reads, and their label map.

One image is in memory at a time, and one mask.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from maskrcnn.data.formats.crc32c import masked_crc
from maskrcnn.data.formats.example import example_head, feature_bytes, feature_head, floats_head
from maskrcnn.data.formats.label_map import label_map_text
from maskrcnn.data.formats.shards import shard_files
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.tf_image import BOX_KEYS, KEYPOINT
from maskrcnn.data.formats.tfrecord import NAMES
from maskrcnn.data.write.encoded import encoded_image, png_bytes
from maskrcnn.data.write.lost import full_rle, note_outlines, note_pairs, rows_of_splits
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle
from maskrcnn.structures import Record

LABEL_MAP = "label_map.pbtxt"
CANNOT_HOLD = (
    "outlines finer than pixels, images that are neither JPEG nor 8-bit nor PNG, category ids below 1, and pairs of "
    "keypoints not called left... and right..."
)
LARGEST = (1 << 31) - 1  # bytes of a record: protobuf's limit
_COPIED = {"JPEG": "jpeg", "PNG": "png"}


def write(
    dataset: Dataset,
    folder: Path,
    *,
    mask_type: Literal["png", "numerical"] = "png",
    shards: int = 1,
    lost: Skipped | None = None,
) -> list[Path]:
    """Write `SPLIT.record-00000-of-0000N` for each split ("data" without splits) and `label_map.pbtxt`.

    Image ids go to `image/source_id`, category ids to `image/object/class/label` (1, 2, 3 ... where one is below 1,
    which TensorFlow keeps for the background), annotation ids to `image/object/id`. JPEG and PNG files are copied byte
    by byte, unless an EXIF tag turns them; other images become PNG.

    Args:
        folder: made where it is missing; must not hold records.
        mask_type: "png", or "numerical" for floats `[N, H, W]`, 32 times the size of the mask's pixels.
        shards: files for each split.
        lost: counts what is left out or changed.

    Returns:
        the shards, then the label map.

    Raises:
        DataError: `google-crc32c` is not installed, the folder holds records, an image or mask cannot be read, or a
            record becomes larger than 2 GB.
    """
    checksum = _checksum()
    if mask_type not in ("png", "numerical") or shards < 1:
        raise DataError(f"mask_type {mask_type!r}, shards {shards}: give 'png' or 'numerical', and at least 1 shard")
    if folder.is_dir() and (old := shard_files(folder, NAMES, depth=0)):
        raise DataError(f"already holds {old[0].name}; give another folder, or empty it", path=folder)
    folder.mkdir(parents=True, exist_ok=True)
    lost, written = Skipped() if lost is None else lost, []
    ids = _category_ids(dataset, lost)
    note_pairs(dataset, lost)
    for split, rows in rows_of_splits(dataset, lost).items():
        for number, part in enumerate(np.array_split(np.array(rows, np.int64), shards)):
            file = folder / f"{split or 'data'}.record-{number:05}-of-{shards:05}"
            pieces = (_record(dataset.table[int(row)], dataset, ids, mask_type, lost) for row in part)
            _write_shard(file, pieces, checksum)
            written.append(file)
    label_map = folder / LABEL_MAP
    label_map.write_bytes(label_map_text(dataset.classes, ids).encode("utf-8", "replace"))
    return [*written, label_map]


def _category_ids(dataset: Dataset, lost: Skipped) -> tuple[int, ...]:
    if min(dataset.category_ids, default=1) > 0:
        return dataset.category_ids
    ids = tuple(range(1, len(dataset.classes) + 1))
    changed = [(old, new) for old, new in zip(dataset.category_ids, ids, strict=True) if old != new]
    value = f"{changed[0][0]} becomes {changed[0][1]}"
    lost.add("category ids", Path(dataset.name), None, None, value, "renumbered", len(changed))
    return ids


def _checksum() -> Callable[[], Any]:
    try:
        from google_crc32c import Checksum
    except ImportError:
        message = 'writing TFRecords needs google-crc32c; pip install "maskrcnn[tf]"'
        raise DataError(message) from None
    return Checksum


# ---------------------------------------------------------------- framing

Pieces = tuple[int, Iterable[bytes]]
"""Length of a record, and its bytes in pieces."""


def _write_shard(file: Path, records: Iterable[Pieces], checksum: Callable[[], Any]) -> None:
    """Under another name until it is whole."""
    unfinished = file.with_name(file.name + ".part")
    try:
        with unfinished.open("wb") as stream:
            for length, pieces in records:
                head = struct.pack("<Q", length)
                stream.write(head + _masked(checksum, [head]))
                content = checksum()
                for piece in pieces:
                    content.update(piece)
                    stream.write(piece)
                stream.write(_masked_digest(content))
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def _masked(checksum: Callable[[], Any], pieces: Iterable[bytes]) -> bytes:
    whole = checksum()
    for piece in pieces:
        whole.update(piece)
    return _masked_digest(whole)


def _masked_digest(checksum: Any) -> bytes:
    return struct.pack("<I", masked_crc(int.from_bytes(checksum.digest(), "big")))


# ---------------------------------------------------------------- one image


def _record(record: Record, dataset: Dataset, ids: tuple[int, ...], mask_type: str, lost: Skipped) -> Pieces:
    encoded, kind = encoded_image(record, _COPIED, lost, turned=False)
    note_outlines(record, lost)
    body = b"".join(feature_bytes(key, values) for key, values in _features(record, dataset, ids, encoded, kind))
    head, length = b"", 0
    masks: Iterator[bytes] = iter(())
    if record.masks and mask_type == "png":
        body += feature_bytes("image/object/mask", [_png(mask) for mask in _masks(record)])
    elif record.masks:
        start = floats_head(len(record) * record.height * record.width)
        length = len(start) + 4 * len(record) * record.height * record.width
        head = feature_head("image/object/mask", "float", length) + start
        masks = (mask.astype("<f4").tobytes() for mask in _masks(record))
        length -= len(start)
    whole = len(body) + len(head) + length
    start = example_head(whole)
    if len(start) + whole > LARGEST:
        message = f"the record becomes {(len(start) + whole) / 2**30:.1f} GB, more than protobuf's 2; write PNG masks"
        raise DataError(message, path=record.path, image=record.image_id)
    return len(start) + whole, _chain(start + body + head, masks)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _features(
    record: Record, dataset: Dataset, ids: tuple[int, ...], encoded: bytes, kind: str
) -> Iterator[tuple[str, list[bytes] | np.ndarray]]:
    name = record.path.name if record.span is None and record.make is None else f"{record.image_id}.{kind}"
    labels = record.labels.tolist()
    yield "image/encoded", [encoded]
    yield "image/format", [kind.encode()]
    yield "image/key/sha256", [hashlib.sha256(encoded).hexdigest().encode()]
    yield "image/filename", [name.encode("utf-8", "replace")]
    yield "image/source_id", [str(record.image_id).encode()]
    yield "image/height", np.array([record.height], np.int64)
    yield "image/width", np.array([record.width], np.int64)
    sides = record.boxes.astype(np.float64) / np.array([record.width, record.height] * 2)
    yield from zip(BOX_KEYS, sides.T, strict=True)
    yield "image/object/class/text", [dataset.classes[label].encode("utf-8", "replace") for label in labels]
    yield "image/object/class/label", np.array([ids[label] for label in labels], np.int64)
    yield "image/object/is_crowd", record.crowd.astype(np.int64)
    yield "image/object/area", record.areas
    yield "image/object/id", record.annotation_ids
    if dataset.keypoints is not None and record.keypoints is not None and len(record):
        points = record.keypoints.astype(np.float64).reshape(-1, 3)
        yield f"{KEYPOINT}/x", points[:, 0] / record.width
        yield f"{KEYPOINT}/y", points[:, 1] / record.height
        yield f"{KEYPOINT}/visibility", points[:, 2].astype(np.int64)
        yield f"{KEYPOINT}/num", (record.keypoints[..., 2] > 0).sum(axis=1)
        yield f"{KEYPOINT}/text", [name.encode("utf-8", "replace") for name in dataset.keypoints.names] * len(record)


def _masks(record: Record) -> Iterator[np.ndarray]:
    """(H, W) bool, one after the other."""
    for index in range(len(record.masks)):
        yield decode_rle(full_rle(record, index))


def _png(mask: np.ndarray) -> bytes:
    """One channel, 0 or 1, as the API's own scripts write it."""
    return png_bytes(Image.fromarray(mask.view(np.uint8)))
