"""Pickles of numpy arrays, as in Detectron2's zoo, read by an unpickler that knows arrays of numbers alone."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.file_kinds import check_file
from maskrcnn.weights.rehearsal import globals_in

LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)  # how PyTorch's files before 1.6 begin


class _Dtype:
    """`numpy.dtype` of plain numbers, without numpy's own unpickling."""

    PLAIN = re.compile(r"[<>|=]?[biuf][1248]")

    def __init__(self, kind: str | bytes, *_: Any) -> None:
        self.kind = kind.decode("latin1") if isinstance(kind, bytes) else kind
        if not isinstance(self.kind, str) or not self.PLAIN.fullmatch(self.kind):
            raise pickle.UnpicklingError(f"arrays of {self.kind!r}")
        self.order = "="

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else str(state[1])
        self.order = order if order in ("<", ">") else "="

    def numpy(self) -> Any:
        import numpy as np

        return np.dtype(self.kind).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """`numpy.ndarray`: shape and bytes, checked against each other before any memory is taken."""

    parts: tuple[Any, Any, Any, str] | None = None
    made: Tensor | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        self.parts = content, dtype, shape, "F" if fortran else "C"
        _check_size(content, dtype, shape)

    @property
    def bytes(self) -> int:
        return len(self.parts[0]) if self.parts else 0

    @property
    def tensor(self) -> Tensor:
        """Made when it is asked for: many arrays can share the bytes of one in a small file."""
        if self.parts is None:
            raise pickle.UnpicklingError("an array without numbers")
        if self.made is None:
            self.made = _tensor(*self.parts)
        return self.made


def _check_size(content: Any, dtype: Any, shape: Any) -> None:
    import math

    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray | str):
        raise pickle.UnpicklingError("arrays of objects")
    size = dtype.numpy().itemsize
    if any(type(side) is not int or side < 0 for side in shape) or math.prod(shape) * size != len(content):
        raise pickle.UnpicklingError(f"an array of shape {tuple(shape)} in {len(content)} bytes")


def _tensor(content: Any, dtype: Any, shape: Any, order: str) -> Tensor:
    import numpy as np

    _check_size(content, dtype, shape)
    if isinstance(content, str):  # protocol 2 and Python 2 keep bytes as text
        content = content.encode("latin1")
    kind = dtype.numpy()
    array = np.frombuffer(content, kind).reshape(shape, order=order)  # type: ignore[call-overload]
    return torch.from_numpy(np.ascontiguousarray(array.astype(kind.newbyteorder("="), copy=True)).reshape(shape))


def _reconstruct(kind: Any, shape: Any, _: Any) -> _Array:
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError(f"an array that begins with shape {shape}")
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: str, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    return _tensor(content, dtype, (), "C").item()


def _encode(text: Any, coding: Any = "latin1") -> str:
    """As it is: encoded where an array is made of it, once and not for each that a pickle asks for."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in another coding")
    return text


def _empty(*arguments: Any) -> bytes:
    """Early protocols write no bytes as a call of `bytes`; with an argument it would take memory."""
    if arguments:
        raise pickle.UnpicklingError("bytes")
    return b""


ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty,
    ("builtins", "bytes"): _empty,
    ("collections", "OrderedDict"): OrderedDict,
}


class ArrayUnpickler(pickle.Unpickler):
    """Anything but arrays, numbers, texts and plain containers is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return ALLOWED[module, name]


def read_numpy_pickle(path: str | Path) -> dict[str, Any]:
    """A pickled table of numpy arrays, as Detectron2's and Detectron's model zoos have them.

    Args:
        path: .pkl, of Python 2 or 3, numpy 1 or 2.

    Returns:
        The table, nested as in the file; arrays are tensors.

    Raises:
        WeightsError: nothing there, damaged, or a pickle that asks for more than arrays of numbers.
    """
    path = check_file(path)
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\3\4" or (file.seek(0) == 0 and file.read(len(LEGACY)) == LEGACY):
                raise WeightsError(f"{path}: what torch.save wrote, not a pickle of arrays; rename it to .pth")
            file.seek(0)
            for _ in globals_in(file):
                pass
            file.seek(0)
            data = ArrayUnpickler(file, encoding="latin1").load()
        return _tables(data, path)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        known = ("truncated" in str(error), "invalid load key" in str(error), "memo" in str(error))
        if any(known):
            raise WeightsError(f"{path}: truncated or not a pickle ({error}); fetch it again") from error
        raise WeightsError(
            f"{path}: refused: its pickle asks for {error}; only tables of numpy arrays are read from a .pkl (nothing "
            "of it was run); save tensors with torch.save as .pth"
        ) from error
    except Exception as error:  # a pickle can fail in any way: of its bytes, nothing was run
        raise WeightsError(f"{path}: truncated or not a pickle ({type(error).__name__}); fetch it again") from error


def _tables(data: Any, path: Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: holds no table of arrays")
    arrays = {id(value): value.bytes for value in _arrays_in(data)}
    if sum(arrays.values()) > path.stat().st_size:
        raise WeightsError(f"{path}: its arrays have {sum(arrays.values())} bytes, more than the file; refused")
    return {str(key): _plain(value) for key, value in dict.items(data)}


def _arrays_in(data: dict[Any, Any]) -> Iterator[_Array]:
    for value in dict.values(data):
        inner = dict.values(value) if isinstance(value, dict) else (value,)
        yield from (one for one in inner if isinstance(one, _Array))


def _plain(value: Any) -> Any:
    """Arrays as tensors, in a table too; those deeper down are an optimiser's and are left."""
    if isinstance(value, dict):
        return {str(key): v.tensor if isinstance(v, _Array) else v for key, v in dict.items(value)}
    return value.tensor if isinstance(value, _Array) else value
