"""A checkpoint folder is replaced whole or not at all: a crash at any moment leaves a complete one behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from maskrcnn.errors import TrainingError


def replace_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a new folder, then put it in the place of `target`.

    The new folder is complete and on the disk before the old one moves aside to `NAME.old`, and the old one is deleted
    last, so `current_folder(target)` finds a complete folder at every moment.

    Raises:
        TrainingError: the disk is full or does not let us write; what was at `target` is untouched.
    """
    target = Path(target)
    fresh, old = target.with_name(f"{target.name}.new"), target.with_name(f"{target.name}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not target.exists():  # an earlier save died between the two renames
            old.rename(target)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        fresh.mkdir()
        write(fresh)
        _sync(fresh)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        _sync(target.parent)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)  # give the space back
        raise TrainingError(
            f"{target}: cannot save the checkpoint: {error.strerror or error}; earlier checkpoints are intact; "
            "free some space or choose another folder with --out"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return target


def current_folder(target: Path) -> Path:
    """`target`, or `NAME.old` where a crash came between the two renames of `replace_folder`."""
    old = target.with_name(f"{target.name}.old")
    return old if not target.exists() and old.exists() else target


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file and wait for the disk. Raises `OSError`."""
    # Through Python's own write, because safetensors reports a full disk as an error of its own class.
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    _write(path, content)


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write JSON and wait for the disk. Raises `OSError`."""
    _write(path, json.dumps(value, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make renames durable; Windows cannot open a folder and does without."""
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
