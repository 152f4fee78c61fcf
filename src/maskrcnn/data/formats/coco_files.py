"""Which files of a folder are COCO's, which split each is, and where its images lie."""

from __future__ import annotations

import codecs
import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn.data.formats.layout import json_files, split_of_name
from maskrcnn.errors import DataError

OTHER_TASKS = ("captions", "image_info", "panoptic", "stuff")  # of COCO's own files
MOST_BYTES = 16 << 30
"""Of an unpacked file; LVIS has 1.2 GB. A file that claims more is taken for a bomb."""
_LOOK = 1 << 16


def coco_files(path: Path) -> list[Path]:
    """The file itself, or the annotation files in a folder, two levels down."""
    found = json_files(path, 2, _looks_right, (".json", ".json.gz"))
    instances = [file for file in found if file.name.startswith("instances")]
    others = [file for file in found if not file.name.startswith(OTHER_TASKS)]
    return instances or others or found  # person_keypoints_* beside instances_* describes the same images


def _looks_right(file: Path) -> bool:
    """Cheap: two of the three lists show up in the first or last part of the text, by name or by what they hold."""
    try:
        if file.suffix == ".gz":  # the end cannot be read without the rest
            with file.open("rb") as stream:
                head = text = zlib.decompressobj(wbits=31).decompress(stream.read(_LOOK), _LOOK)
        else:
            with file.open("rb") as stream:
                head = stream.read(_LOOK)
                stream.seek(max(0, file.stat().st_size - _LOOK))
                text = head + stream.read()
    except (OSError, EOFError, zlib.error):
        return False
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return False
    signs = (b'"images"', b'"file_name"'), (b'"annotations"', b'"image_id"'), (b'"categories"', b'"supercategory"')
    return sum(any(key in text for key in keys) for keys in signs) >= (1 if file.suffix == ".gz" else 2)


def split_of(file: Path, root: Path, files: int) -> str:
    """Of a file of several, by its name or its folders; one file alone may say it in its name."""
    if files == 1:
        return split_of_name(file.stem) or ""
    names = [file.stem, *reversed(file.relative_to(root).parent.parts)]
    return next((split for name in names if (split := split_of_name(name))), file.stem)


def image_folders(file: Path, split: str) -> list[Path]:
    """Where images may lie, nearest first."""
    here = file.parent
    stem = file.name.removesuffix(".gz").removesuffix(".json")
    base = re.sub(r"^(instances|person_keypoints|annotations|captions|lvis_v\d[^_]*)_?", "", stem)
    names = [base, split, "images", "data", *(f"images/{n}" for n in (base, split))]
    places = [here, *(here / n for n in names if n), *(here.parent / n for n in names if n), here.parent]
    return list(dict.fromkeys(place for place in places if place.is_dir()))


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """The file, or its content in a temporary one. Raises `DataError` for a broken or bottomless archive."""
    if file.suffix != ".gz":
        yield file
        return
    with tempfile.NamedTemporaryFile(suffix=".json") as plain:
        try:
            with gzip.open(file) as packed:
                while block := packed.read(1 << 24):
                    plain.write(block)
                    if plain.tell() > MOST_BYTES:
                        raise DataError(f"unpacks to more than {MOST_BYTES >> 30} GB; it cannot be right", path=file)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"cannot be unpacked ({error}); pack it again", path=file) from error
        plain.flush()
        yield Path(plain.name)
