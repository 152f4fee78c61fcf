"""Open whatever it is: a path (work out the format, read it, find its splits), or another library's data set."""

from __future__ import annotations

import difflib
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from maskrcnn.data.cache import cache_folder, cached
from maskrcnn.data.formats import FORMATS
from maskrcnn.data.formats.layout import load_json
from maskrcnn.data.merge import merge_datasets
from maskrcnn.data.regenerate import boxes_from_masks
from maskrcnn.data.remote import is_url, local_copy
from maskrcnn.data.splits import splits_from_files
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError, NoAnnotationsError

Source = Any
"""str | Path | Dataset | Matterport's Dataset | Hugging Face's Dataset or DatasetDict"""


def open_dataset(
    path: Source,
    format: str = "auto",
    split: str | None = None,
    *,
    boxes: Literal["given", "masks"] = "given",
    cache: bool | None = None,
    truth_only: bool = False,
) -> Dataset:
    """A data set from a file or folder.

    Args:
        path: a file, a folder, the address of shards; a `Dataset`, one of Matterport's, one of Hugging Face's; several
            in a list are joined, their classes by name.
        format: a reader's name, or "auto" to look.
        split: only this split.
        boxes: "given" takes the boxes of the annotations, "masks" makes them anew around the masks.
        cache: keep the result for the next time; None: when reading took long.
        truth_only: no image will be looked at: of COCO files those whose image file is missing are kept too.

    Raises:
        DataError: nothing there, nothing recognised, an unknown format or split, or a reader's own complaint.
    """
    if boxes not in ("given", "masks"):
        raise DataError(f"boxes={boxes!r}: give 'given' or 'masks'")
    sources = list(path) if isinstance(path, (list, tuple)) else [path]
    if not sources:
        raise DataError("no data set is named; give at least one path")
    opened = [_open_one(source, format, cache, truth_only) for source in sources]
    dataset = opened[0] if len(opened) == 1 else merge_datasets(opened)
    if boxes == "masks":
        dataset = boxes_from_masks(dataset)
    return dataset if split is None else dataset.split(split)


def _open_one(source: Source, format: str, cache: bool | None, truth_only: bool) -> Dataset:
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, (str, Path)):
        return _adapted(source)
    if isinstance(source, str) and is_url(source):
        source = local_copy(source, cache_folder() / "remote")
    path = Path(source)
    if not os.path.exists(path) and not any(sign in path.name for sign in "*?["):  # a pattern of shards
        raise DataError("no such file or folder", path=path)
    if format != "auto" and format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, 1, 0.4)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise DataError(f"unknown format {format!r}{hint}; known: {', '.join(FORMATS)}", path=path)
    with _collector_paused():
        kind = f"{format}, truth only" if truth_only else format
        return cached(path, kind, lambda: _read(path, format, truth_only), cache)


def _adapted(source: Any) -> Dataset:
    """Told apart by what they can do, so that neither library has to be installed."""
    if hasattr(source, "load_mask") and hasattr(source, "image_info"):
        from maskrcnn.data.adapters.matterport import from_matterport

        return from_matterport(source)
    if hasattr(source, "column_names"):
        from maskrcnn.data.adapters.huggingface import from_huggingface

        return from_huggingface(source)
    raise DataError(f"cannot take {type(source).__name__} for a data set; give a path, or a Dataset")


def _read(path: Path, format: str, truth_only: bool) -> Dataset:
    names = list(FORMATS) if format == "auto" else [format]
    name = next((n for n in names if FORMATS[n].sniff(path)), None)
    if name is None:
        if path.suffix == ".json" and path.is_file():
            load_json(path)  # raises where that is the reason
        looked = "; ".join(f"{n}: {FORMATS[n].LOOKS_FOR}" for n in names)
        raise NoAnnotationsError(f"no annotations found; looked for {looked}", path=path)
    options = {"truth_only": True} if truth_only and name == "coco" else {}
    dataset = FORMATS[name].read(path, **options)
    return dataset if dataset.splits else splits_from_files(dataset, path if path.is_dir() else path.parent)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Readers make millions of objects and no cycles; looking for cycles all the while takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
