"""TFRecord shards of the TensorFlow Object Detection API, read without TensorFlow.

Records are walked over in a memory map; images and masks stay where they are, as byte ranges of their shard. Boxes are
normalised y-x; masks are PNG strings or floats `[N, H, W]`, whichever the feature holds.
"""

from __future__ import annotations

import mmap as mmap_module
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from pathlib import Path

from maskrcnn.data.formats.assemble import Found, assemble
from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.data.formats.keypoint_rows import Rows, keypoint_schema, with_keypoints
from maskrcnn.data.formats.label_map import ClassNames, Item, looks_like_label_map, read_label_map
from maskrcnn.data.formats.layout import split_of_name
from maskrcnn.data.formats.shards import absent_shards, shard_files
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.formats.tf_image import ImageReader, TFImage
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError

NAME = "tfrecord"
LOOKS_FOR = "TFRecord shards (.tfrecord, .record, NAME-00000-of-00010), a file, a pattern or a folder"
NAMES = r".*(-\d{5}-of-\d{5}|\.tfrecords?|\.records?|\.tfrec)(\.gz)?"
_FORGOTTEN = 64 << 20  # bytes of a shard that may stay mapped behind us
_GZIP = b"\x1f\x8b"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def sniff(path: Path) -> bool:
    """Whether a file, or one whose name says so in a folder, begins as a TFRecord does; never raises."""
    if path.is_file():
        return _begins_right(path) or (_head(path)[:2] == _GZIP and bool(shard_files(path.parent / path.name, NAMES)))
    return any(_begins_right(file) or _head(file)[:2] == _GZIP for file in shard_files(path, NAMES))


def read(path: Path, label_map: Sequence[Item] | None = None) -> Dataset:
    """Open a shard, all shards that a pattern like `x.record-?????-of-00010` matches, or those of a folder.

    Args:
        path: see above.
        label_map: its items; None looks for a label map beside the shards, or in the folder above.

    Raises:
        DataError: no shard, a missing one, compressed ones, a broken label map, or no image that can be used.
    """
    files = [path] if path.is_file() else shard_files(path, NAMES)
    if not files:
        raise DataError("no TFRecord file here", path=path)
    if not path.is_file() and (absent := absent_shards(files)):
        message = f"shard {absent[0].name} is missing ({len(absent)} in all); put it beside the others"
        raise DataError(message, path=absent[0].parent)
    if label_map is not None:
        return _dataset(path, files, label_map, Skipped())[0]
    skipped = Skipped()
    items, above = _label_map(files, skipped)
    dataset, names = _dataset(path, files, items, skipped)
    if above is None or names.known():
        return dataset
    skipped = Skipped()
    skipped.add("label maps of other data", above, None, None, "put that of these records beside them")
    return _dataset(path, files, [], skipped)[0]


def _dataset(path: Path, files: list[Path], items: Sequence[Item], skipped: Skipped) -> tuple[Dataset, ClassNames]:
    names = ClassNames(items)
    images: list[Found] = []
    ids: list[str] = []
    rows: list[Rows] = []
    point_names: tuple[str, ...] = ()
    for file, split in zip(files, _splits(files, path), strict=True):
        for image in _images(file, split, names, skipped):
            images.append(image.found)
            ids.append(image.source_id)
            rows.append(image.rows)
            point_names = point_names or image.point_names
    classes, category_ids = names.classes()
    dataset = assemble(images, path=path, format=NAME, skipped=skipped, classes=classes, category_ids=category_ids)
    return _with_ids(with_keypoints(dataset, rows, keypoint_schema(point_names)), ids), names


def _with_ids(dataset: Dataset, ids: list[str]) -> Dataset:
    """COCO's image ids, where every image/source_id is such a number and none is there twice."""
    numbers = [int(text) for text in ids if text.isascii() and text.isdigit() and len(text) < 19]
    if len(set(numbers)) < len(ids):
        return dataset
    records = [replace(record, image_id=n) for record, n in zip(dataset.records, numbers, strict=True)]
    return replace(dataset, records=records)


# ---------------------------------------------------------------- which files


def _splits(files: list[Path], root: Path) -> list[str]:
    """Of each shard: train, val or test by its name or folder; other names where there are several kinds of them."""
    bases = [re.sub(r"(-\d{5}-of-\d{5}|\.[a-z]+)+$", "", file.name) for file in files]
    several = len(set(bases)) > 1
    splits = []
    for file, base in zip(files, bases, strict=True):
        folders = file.relative_to(root).parent.parts if root.is_dir() else ()
        known = (split for name in (file.name, *reversed(folders)) if (split := split_of_name(name)))
        splits.append(next(known, base if several and base != "data" else ""))
    return splits


def _label_map(files: list[Path], skipped: Skipped) -> tuple[list[Item], Path | None]:
    """The label map beside the shards; or else one of the folder above, if its name says so, and its path. [] without.

    One above may belong to other data: only what names all classes of the records is theirs.
    """
    for folder in dict.fromkeys(file.parent for file in files):
        if found := _label_maps(folder):
            used = next((file for file in found if _is_named(file)), found[0])
            for other in found:
                if other != used and other.read_bytes() != used.read_bytes():
                    skipped.add("other label maps", other, None, None, f"{used.name} is used; remove one of the two")
            return read_label_map(used), None
    for folder in dict.fromkeys(file.resolve().parent.parent for file in files):
        found = _label_maps(folder)
        if named := [file for file in found if _is_named(file)]:
            return read_label_map(named[0]), named[0]
        for file in found:
            skipped.add("label maps above the records", file, None, None, "to use it, put it beside them")
    return [], None


def _label_maps(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.pbtxt")) if looks_like_label_map(file)]


def _is_named(file: Path) -> bool:
    """Whether it is called label_map.pbtxt, label.pbtxt, pet_label_map.pbtxt ..."""
    return "label" in file.name.lower()


# ---------------------------------------------------------------- records of a shard


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(12)
    except OSError:
        return b""


def _begins_right(file: Path) -> bool:
    return _length_of(_head(file)) is not None


def _length_of(head: bytes) -> int | None:
    """The length of the record behind these 12 bytes; None where its checksum is wrong."""
    if len(head) < 12:
        return None
    length, check = struct.unpack("<QI", head)
    return length if check == masked_crc(crc32c(head[:8])) else None


def _check_compression(file: Path) -> None:
    head = _head(file)
    if _length_of(head) is None and (head[:2] == _GZIP or head[:2] in _ZLIB):
        kind = "GZIP" if head[:2] == _GZIP else "ZLIB"
        raise DataError(f"is compressed with {kind}; decompress it (gunzip), or write it uncompressed", path=file)


def _images(file: Path, split: str, names: ClassNames, skipped: Skipped) -> Iterator[TFImage]:
    """Each image of a shard that can be used. Raises `DataError` for a compressed shard."""
    _check_compression(file)
    try:
        with file.open("rb") as stream:
            if not file.stat().st_size:  # fewer images than shards
                return
            with mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
                reader = ImageReader(file, data, split, names, skipped)
                seen = 0
                for number, (start, stop) in enumerate(_records(file, data, skipped)):
                    if made := reader.image(start, stop, number):
                        yield made
                    if stop - seen > _FORGOTTEN:
                        seen = _forget(data, seen, stop)
    except OSError as error:
        raise DataError(f"cannot be read ({error})", path=file) from error


def _forget(data: mmap, start: int, stop: int) -> int:
    """Unmap whole pages of [start, stop), so that a large file does not count as our memory. Where the rest begins."""
    stop -= stop % ALLOCATIONGRANULARITY
    if advice := getattr(mmap_module, "MADV_DONTNEED", None):  # not on Windows
        data.madvise(advice, start, stop - start)
    return stop


def _records(file: Path, data: mmap, skipped: Skipped) -> Iterator[tuple[int, int]]:
    """(start, stop) of each record's content."""
    at = number = 0
    while at < len(data):
        length = _length_of(data[at : at + 12])
        start = at + 12
        if length is None and start <= len(data):
            kind = "rests of files behind a damaged record" if number else "files that are not TFRecords"
            skipped.add(kind, file, f"record {number}", None, "the checksum of its length is wrong")
            return
        if length is None or start + length + 4 > len(data):
            skipped.add("truncated last records", file, f"record {number}", None, "the file ends inside it")
            return
        yield start, start + length
        at, number = start + length + 4, number + 1
