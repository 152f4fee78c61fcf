"""Write a data set in another format: whole, or not at all."""

from __future__ import annotations

import difflib
import inspect
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write import WRITERS
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError


def convert_dataset(dataset: Dataset, folder: str | Path, to: str, **options: Any) -> list[str]:
    """Write `dataset` to `folder` in the format `to`.

    All is written to a folder beside it that gets its name at the end.

    Args:
        folder: a new or empty folder; its parents are made.
        to: a name in `WRITERS`.
        options: those of the writer.

    Returns:
        what was left out or changed, a sentence with a count each.

    Raises:
        DataError: unknown format or option, the folder is not empty or cannot be written, or an image or a mask cannot
            be read. Nothing is left behind.
    """
    folder = Path(os.path.realpath(folder))
    if to not in WRITERS:
        raise DataError(f"unknown format {to!r}{_nearest(to, WRITERS)}; known: {', '.join(WRITERS)}")
    writer, lost = WRITERS[to], Skipped()
    known = options_of(writer)
    for name in options:
        if name not in known:
            has = ", ".join(known) or "none"
            raise DataError(f"{to} has no option {name!r}{_nearest(name, known)}; its options: {has}")
    try:
        _check_free(folder)
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        unfinished.mkdir(parents=True)
        try:
            writer.write(dataset, unfinished, **options, lost=lost)
            if folder.exists():
                folder.rmdir()
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, UnicodeError) as error:  # a name that no text file holds
        raise DataError(f"cannot be written ({error}); give another folder, or make room", path=folder) from error
    return lost.sentences()


def options_of(writer: ModuleType) -> list[str]:
    """Names of the options of a writer."""
    return [name for name in inspect.signature(writer.write).parameters if name not in ("dataset", "folder", "lost")]


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError("is a file; give a new folder", path=folder)
    first = next(iter(sorted(folder.iterdir())), None) if folder.exists() else None
    if first is not None:
        raise DataError(f"is not empty, it holds {first.name}; give a new folder, or empty it", path=folder)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.4)
    return f", did you mean {close[0]!r}?" if close else ""
