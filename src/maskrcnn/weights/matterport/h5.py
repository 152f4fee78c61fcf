"""The arrays of a Keras 2 weight file, and back: HDF5 through h5py, bounded, without what lies outside of the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from maskrcnn.errors import WeightsError
from maskrcnn.file_kinds import check_file

MOST_ARRAYS = 5000  # ResNet-101's file has 699
MOST_BYTES = 4 << 30  # together; ResNet-101's file has 256 MB
LARGER = 8  # times the file may the arrays be, as numbers of 4 bytes: Keras writes them as they are
HEADERS = 1 << 20  # bytes more, for tiny files
ROOT = "model_weights"  # where Keras's `save` has them, beside the optimizer's
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def need_h5py() -> ModuleType:
    """h5py. Raises `WeightsError` with the remedy where it is not installed."""
    try:
        import h5py
    except ImportError:
        raise WeightsError("Keras's .h5 files need h5py, which is not installed: pip install maskrcnn[h5]") from None
    return h5py


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """`layer/weight` -> array, whatever groups lie around the layer: `conv1/kernel`.

    Args:
        path: what Keras 2's `save_weights` or `save` wrote.

    Raises:
        WeightsError: nothing there, no HDF5 file, a damaged one, one of Keras 3, too many or too large arrays, or
            two of one name.
    """
    path = Path(path)
    h5py = need_h5py()
    _check_head(path)
    try:
        with h5py.File(path, "r") as file:
            top = file[ROOT] if isinstance(file.get(ROOT, getlink=True), h5py.HardLink) else file
            names: list[str] = []
            top.visit(lambda name: _collected(names, name))  # follows no link to another file
            found = {name: top[name] for name in names if isinstance(top[name], h5py.Dataset)}
            _check(found, path)
            return _read(found, path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: truncated or damaged ({error}); fetch it again") from error


def _read(found: Mapping[str, Any], path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, dataset in found.items():
        short = _short(name)
        if short in arrays:
            raise WeightsError(f"{path}: has two arrays named {short}; give a file with the weights of one network")
        arrays[short] = np.asarray(dataset[()], np.float32)
    return arrays


def _collected(names: list[str], name: str) -> bool | None:
    """None goes on, anything else ends the walk."""
    names.append(name)
    return True if len(names) > 4 * MOST_ARRAYS else None


def _check_head(path: Path) -> None:
    with check_file(path).open("rb") as file:
        if not file.read(len(SIGNATURE)).startswith(SIGNATURE):
            raise WeightsError(f"{path}: no HDF5 file; give the .h5 that Matterport's Mask_RCNN saved")


def _check(found: Mapping[str, Any], path: Path) -> None:
    if any("/vars/" in f"/{name}" for name in found):
        raise WeightsError(
            f"{path}: written by Keras 3, which leaves the layers' names out; save it with TF_USE_LEGACY_KERAS=1"
        )
    if len(found) > MOST_ARRAYS:
        raise WeightsError(f"{path}: has more than {MOST_ARRAYS} arrays; refused")
    for name, dataset in found.items():
        if dataset.is_virtual or dataset.external:
            raise WeightsError(f"{path}: {name} lies in another file; refused")
        if dataset.dtype.kind not in "fiu":
            raise WeightsError(f"{path}: {name} holds {dataset.dtype}, no numbers; give a weight file")
        if dataset.shape is None:
            raise WeightsError(f"{path}: {name} is empty; give a weight file")
    size, most = sum(dataset.size * max(dataset.dtype.itemsize, 4) for dataset in found.values()), _most(path)
    if size > most:
        raise WeightsError(f"{path}: its arrays have {size} bytes, more than the {most} that are read; refused")


def _most(path: Path) -> int:
    """Bytes of all arrays together."""
    return min(MOST_BYTES, LARGER * path.stat().st_size + HEADERS)


def _short(name: str) -> str:
    """The last two parts, without the number that TensorFlow puts behind."""
    return "/".join(name.split("/")[-2:]).removesuffix(":0")


def write_arrays(path: Path, groups: Iterable[tuple[str, Mapping[str, np.ndarray]]]) -> None:
    """A file as Keras 2's `save_weights` writes it; what was there is replaced only when the new one is complete.

    Args:
        path: .h5.
        groups: (group, {`layer/weight`: array}), in the order of the network's layers.

    Raises:
        WeightsError: a disk that does not let us write.
    """
    h5py = need_h5py()
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(part, "w") as file:
            listed = list(groups)
            # As bytes of a fixed length: every Keras from 2.0 on reads these.
            file.attrs["layer_names"] = np.array([name.encode() for name, _ in listed])
            file.attrs["backend"], file.attrs["keras_version"] = np.bytes_(b"tensorflow"), np.bytes_(b"2.2.4")
            for name, weights in listed:
                group = file.create_group(name)
                group.attrs["weight_names"] = np.array([f"{weight}:0".encode() for weight in weights])
                for weight, array in weights.items():
                    group.create_dataset(f"{weight}:0", data=np.asarray(array, np.float32))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WeightsError(
            f"{path}: cannot write ({error.strerror or error}); free some space or give another place"
        ) from error
