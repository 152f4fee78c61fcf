"""Large data sets are read once: afterwards their columns are mapped from the cache, as long as no file has changed.

The cache lies in `$MASKRCNN_CACHE`, else `$XDG_CACHE_HOME/maskrcnn`, else `~/.cache/maskrcnn`; deleting it is safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from os.path import isfile
from pathlib import Path
from typing import Any

from maskrcnn import __version__
from maskrcnn.data.splits import list_files
from maskrcnn.dataset import Dataset, Federated
from maskrcnn.structures import KeypointSchema
from maskrcnn.table import VERSION, Table

SLOW = 2.0
"""Seconds of reading from which on it pays to keep the result."""
_HEADER = "dataset.json"
_ONE_FILE = ("coco", "via", "cvat", "tfrecord", "tar")
"""Formats whose annotations all lie in the file that was named."""


def cache_folder() -> Path:
    """Where everything that can be made again is kept."""
    if chosen := os.environ.get("MASKRCNN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskrcnn"


def cached(path: Path, format: str, read: Callable[[], Dataset], keep: bool | None = None) -> Dataset:
    """What `read()` gives, from the cache where that is still true.

    Args:
        path: the file or folder that is read.
        format: the reader's name.
        keep: True, False, or None: keep what took long.
    """
    if keep is False:
        return read()
    place = cache_folder() / "tables" / _name(path, format)
    if (known := _load(place)) is not None:
        return known
    started = time.perf_counter()
    dataset = read()
    if keep or time.perf_counter() - started > SLOW:
        _save(dataset, path, place)
    return dataset


def _name(path: Path, format: str) -> str:
    """The path as given too: names and image paths in the table begin with it, so a relative one has its own."""
    text = f"{path}\0{path.resolve()}\0{format}\0{VERSION}\0{__version__}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _load(place: Path) -> Dataset | None:
    """None where there is nothing, where it is damaged, or where a file has changed."""
    try:
        header = json.loads((place / _HEADER).read_text(encoding="utf-8"))
        if _fingerprint([Path(root) for root in header["roots"]]) != header["fingerprint"]:
            return None
        schema = header["keypoints"]
        return Dataset(
            records=Table.open(place),
            classes=tuple(header["classes"]),
            category_ids=tuple(header["category_ids"]),
            keypoints=schema and KeypointSchema(tuple(schema["names"]), tuple(map(tuple, schema["flip_pairs"]))),
            name=header["name"],
            format=header["format"],
            warnings=tuple(header["warnings"]),
            federated=_federated(header["federated"]),
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _federated(saved: dict[str, Any] | None) -> Federated | None:
    """JSON knows no integer keys."""
    if saved is None:
        return None
    negative, partial = (
        {int(image): tuple(labels) for image, labels in saved[name].items()} for name in ("negative", "not_exhaustive")
    )
    return Federated(negative, partial, tuple(saved["frequency"]))


def _save(dataset: Dataset, path: Path, place: Path) -> None:
    """Written beside and moved into place: another process sees all of it or nothing."""
    roots = _roots(dataset, path)
    if roots is None:
        return
    draft = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=place.parent))
        dataset.table.save(draft)
        header = {
            "roots": [str(root) for root in roots],
            "fingerprint": _fingerprint(roots),
            "classes": dataset.classes,
            "category_ids": dataset.category_ids,
            "keypoints": dataset.keypoints and asdict(dataset.keypoints),
            "name": dataset.name,
            "format": dataset.format,
            "warnings": dataset.warnings,
            "federated": dataset.federated and asdict(dataset.federated),
        }
        (draft / _HEADER).write_text(json.dumps(header), encoding="utf-8")
        _move(draft, place)
    except OSError as error:
        warnings.warn(
            f"{path}: cannot be kept in {place.parent} ({error}); it will be read again next time", stacklevel=2
        )
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, place: Path) -> None:
    """Another process may do the same at the same time; then either's table will do."""
    old = draft.with_name(f"old-{draft.name}")
    with suppress(OSError):  # nothing there
        place.rename(old)
    try:
        draft.rename(place)
    except OSError:
        if not place.exists():
            raise
    shutil.rmtree(old, ignore_errors=True)


def _roots(dataset: Dataset, path: Path) -> list[Path] | None:
    """Files and folders on which the data set depends; None where that cannot be told, or images are made by code."""
    if dataset.table.is_made:
        return None
    path = path.absolute()
    folders = {Path(folder).resolve() for folder in dataset.table.folders()}
    outside = sorted(folder for folder in folders if not (path.is_dir() and folder.is_relative_to(path.resolve())))
    if outside and dataset.format not in _ONE_FILE:
        return None
    return [path if path.exists() else path.parent, *outside]  # a pattern of shards has its folder


def _fingerprint(roots: Iterable[Path]) -> str:
    """A hash of the names, sizes and times of all files; of a root that is a file, of it and split lists beside it."""
    digest, seen = hashlib.blake2b(digest_size=16), set[str]()
    for root in roots:
        if root.is_dir():
            _add_folder(str(root), digest, seen)
        else:
            for file in (root, *list_files(root.parent)):
                _add(str(file), file.stat(), digest)
    return digest.hexdigest()


def _add_folder(folder: str, digest: hashlib.blake2b, seen: set[str]) -> None:
    """Through links too, each folder once: what changes behind a link changes the data set."""
    if (real := os.path.realpath(folder)) in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
                _add_folder(entry.path, digest, seen)
            else:
                _add(entry.path, entry.stat(follow_symlinks=not entry.is_symlink() or isfile(entry.path)), digest)


def _add(name: str, stat: os.stat_result, digest: hashlib.blake2b) -> None:
    digest.update(
        f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0".encode("utf-8", "surrogateescape")
    )
