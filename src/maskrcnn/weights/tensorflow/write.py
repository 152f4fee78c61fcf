"""Variables -> a checkpoint in the V2 form, as TensorFlow's own `tf.train.Saver` writes it, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow import wire
from maskrcnn.weights.tensorflow.files import STATE
from maskrcnn.weights.tensorflow.table import table_bytes

_PRODUCER = 1  # version of the form: kTensorBundleVersion


def write_checkpoint(prefix: str | Path, variables: Mapping[str, np.ndarray]) -> list[Path]:
    """Write `PREFIX.index`, `PREFIX.data-00000-of-00001`, and the file `checkpoint` that names the prefix.

    Files that are there are replaced, each when its successor is whole.

    Args:
        prefix: `folder/model.ckpt`; the folder is created with its parents.
        variables: TensorFlow name -> array; float16, float32, float64, bool or integers.

    Returns:
        The three files.

    Raises:
        WeightsError: a name or a type that the form cannot hold, or the disk does not let us write.
    """
    prefix = Path(prefix)
    if not prefix.name or prefix.is_dir() or (prefix.parent / STATE).is_dir():
        raise WeightsError(
            f"{prefix}: is a folder or lies beside one called {STATE}; give a prefix like DIR/model.ckpt"
        )
    names = _checked(prefix, variables)
    index = prefix.with_name(f"{prefix.name}.index")
    data = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
    state = prefix.with_name(STATE)
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        entries = [(b"", wire.varint_field(1, 1) + wire.delimited(3, wire.varint_field(1, _PRODUCER)))]
        unfinished = [file.with_name(f"{file.name}.part") for file in (data, index, state)]
        try:
            with unfinished[0].open("wb") as stream:
                for key in sorted(names):
                    content, entry = _entry(variables[names[key]], stream.tell())
                    stream.write(content)
                    entries.append((key, entry))
            unfinished[1].write_bytes(table_bytes(entries))
            unfinished[2].write_text(_state(prefix.name), encoding="utf-8")
            for part, file in zip(unfinished, (data, index, state), strict=True):
                os.replace(part, file)
        finally:
            for part in unfinished:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{prefix}: cannot write the checkpoint ({error.strerror or error}); free some space or give another folder"
        ) from error
    return [index, data, state]


def _checked(prefix: Path, variables: Mapping[str, np.ndarray]) -> dict[bytes, str]:
    """Keys of the table, and the names they stand for."""
    for name, array in variables.items():
        if not name or name.startswith("\0") or len(name.encode("utf-8", "replace")) > wire.MOST_NAME:
            raise WeightsError(f"{prefix}: {name[:60]!r} is no name for a variable; give it another one")
        if wire.type_number(array.dtype) is None:
            raise WeightsError(
                f"{prefix}: variable {name!r} has the type {array.dtype}, which is not written; convert it to float32"
            )
    return {name.encode("utf-8", "replace"): name for name in variables}


def _entry(array: np.ndarray, offset: int) -> tuple[bytes, bytes]:
    """The bytes of a variable, and its BundleEntryProto."""
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    entry = wire.varint_field(1, wire.type_number(array.dtype) or 0)
    entry += wire.delimited(2, wire.shape_message(array.shape))
    entry += wire.varint_field(4, offset) + wire.varint_field(5, len(content))
    return content, entry + wire.fixed32_field(6, masked_crc(crc32c(content)))


def _state(name: str) -> str:
    """CheckpointState, in text form."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n'
