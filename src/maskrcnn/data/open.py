"""Open whatever is at a path: work out the format, read it, choose a split."""

from __future__ import annotations

import difflib
from pathlib import Path

from maskrcnn.data.formats import FORMATS
from maskrcnn.data.formats.layout import load_json
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError


def open_dataset(path: str | Path | Dataset, format: str = "auto", split: str | None = None) -> Dataset:
    """A data set from a file or folder.

    Args:
        path: a file or folder; a `Dataset` is returned as it is.
        format: a reader's name, or "auto" to look.
        split: only this split.

    Raises:
        DataError: nothing there, nothing recognised, an unknown format or split, or a reader's own complaint.
    """
    if isinstance(path, Dataset):
        return path if split is None else path.split(split)
    path = Path(path)
    if not path.exists():
        raise DataError("no such file or folder", path=path)
    if format != "auto" and format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, 1, 0.4)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise DataError(f"unknown format {format!r}{hint}; known: {', '.join(FORMATS)}", path=path)
    names = list(FORMATS) if format == "auto" else [format]
    name = next((n for n in names if FORMATS[n].sniff(path)), None)
    if name is None:
        if path.suffix == ".json" and path.is_file():
            load_json(path)  # raises where that is the reason
        looked = "; ".join(f"{n}: {FORMATS[n].LOOKS_FOR}" for n in names)
        raise DataError(f"no annotations found; looked for {looked}", path=path)
    dataset = FORMATS[name].read(path)
    return dataset if split is None else dataset.split(split)
