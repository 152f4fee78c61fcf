"""Weight files of PyTorch and pickles of numpy arrays, read without running what is pickled in them.

A pickle is a program. Of a `.pth`, PyTorch's own `weights_only` reader runs the part that makes tensors and plain
containers; what else training tools leave in there (a log's history, the arguments of the run) becomes an inert `Stub`.
A file that asks for anything else is refused. Sizes are bounded by what is on the disk.
"""

from __future__ import annotations

import functools
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.weights.file_kinds import check_file, is_text
from maskrcnn.weights.rehearsal import Refused, globals_in, rehearse

# Packages whose objects in a checkpoint say something about the run and nothing about the network.
HARMLESS = re.compile(
    r"(mmengine|mmcv|mmdet|mmcls|mmpretrain|detectron2|fvcore|yacs|omegaconf|addict|numpy|argparse|pathlib|datetime"
    r"|collections|lightning|pytorch_lightning)\..*|builtins\.(getattr|set|slice|complex)|_codecs\.encode"
)
TABLES = re.compile(r".*\.(ConfigDict|CfgNode|DictConfig|Dict|defaultdict)")
# A whole model pickled as an object, by what it asks for.
FAMILIES = (
    (r"ultralytics\..*|models\.(yolo|common|experimental)\..*|yolov?\d*\..*", "a YOLO"),
    (r"torchvision\.models\..*", "a whole torchvision model"),
    (r"timm\..*", "a whole timm model"),
    (r"transformers\..*", "a whole Hugging Face model"),
    (r"__main__\..*", "an object of somebody's own program"),
)
KNOWN = re.compile(r"(torch|collections|_codecs|builtins)\b.*")
LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)  # how PyTorch's files before 1.6 begin


class Stub:
    """Stands for an object that is not needed. It takes whatever its pickle gives it and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None: ...


def read_pth(path: str | Path) -> dict[str, Any]:
    """What `torch.save` wrote: a table of tensors, or a table that has one in it beside other things.

    Args:
        path: .pth, .pt, .pyth or .bin, in PyTorch's zip form or the one before 1.6.

    Returns:
        The table. Tensors are on the CPU; objects that are not part of the weights are `Stub`s.

    Raises:
        WeightsError: nothing there, a damaged file, one that asks for code, a network saved as an object or as
            TorchScript, or tensors that claim more than is in the file.
    """
    path = check_file(path)
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_archive(path)
    elif is_text(path):
        raise WeightsError(f"{path}: plain text, not weights; download the file itself")
    wanted = _globals_of(path, zipped)
    if any(not KNOWN.fullmatch(name) and not HARMLESS.fullmatch(name) for name in wanted):
        raise _refused(path, wanted)
    _check_claims(path, zipped, wanted)
    stubs = [
        (OrderedDict if TABLES.fullmatch(name) else _stub(name), name) for name in wanted if HARMLESS.fullmatch(name)
    ]
    try:
        with torch.serialization.safe_globals([pair for pair in stubs if pair[1] not in ALREADY_SAFE]):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        raise _refused(path, wanted) from error
    except Exception as error:
        raise WeightsError(
            f"{path}: truncated or not a readable PyTorch weight file ({type(error).__name__}); fetch it again"
        ) from error
    if isinstance(data, Tensor) or not isinstance(data, dict):
        raise WeightsError(f"{path}: holds no table of tensors; save model.state_dict()")
    _check_tensors(data, path)
    return _plain_dicts(data)


def _plain_dicts(data: dict[str, Any]) -> dict[str, Any]:
    """Plain tables down to where weights are: a pickle can put anything in place of an OrderedDict's methods."""
    return _plain_dict(data, 3)


def _plain_dict(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or not depth:
        return value
    return {key: _plain_dict(inner, depth - 1) for key, inner in dict.items(value)}


ALREADY_SAFE = {"collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set", "builtins.complex"}


@functools.cache
def _stub(name: str) -> type[Stub]:
    """A class of its own for each name: PyTorch looks classes up by value."""
    return type(name.rpartition(".")[2], (Stub,), {})


def _check_claims(path: Path, zipped: bool, wanted: list[str]) -> None:
    """Nothing is called that takes memory, and the storages fit into the file and are in it."""
    try:
        claims = _claims(path, zipped)
    except Refused as error:
        raise _refused(path, wanted, str(error)) from error
    except WeightsError:
        raise
    except Exception as error:  # a pickle can fail in any way: inert objects were all there was
        raise WeightsError(f"{path}: not a readable PyTorch weight file ({type(error).__name__})") from error
    if sum(claims.values()) > path.stat().st_size:
        raise WeightsError(f"{path}: its tensors claim {sum(claims.values())} bytes, more than the file has; refused")


def _claims(path: Path, zipped: bool) -> dict[Any, int]:
    if zipped:
        with zipfile.ZipFile(path) as archive:
            return rehearse(io.BytesIO(archive.read(_table_in(archive))), HARMLESS)
    with path.open("rb") as file:
        for _ in range(3):  # magic number, version, system
            rehearse(file, HARMLESS)
        claims = rehearse(file, HARMLESS)
        keys = _Unpickler(file, encoding="latin1").load()
    if not isinstance(keys, list) or set(keys) != set(claims):
        raise WeightsError(f"{path}: the numbers of its tensors are not in the file; refused")
    return claims


def _table_in(archive: zipfile.ZipFile) -> str:
    return next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")


def _check_archive(path: Path) -> None:
    """`torch.save` never compresses, so what comes out is no larger than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{path}: truncated or damaged ({error}); fetch it again") from error
    names = [entry.filename.partition("/")[2] for entry in entries]
    if "constants.pkl" in names:
        raise WeightsError(f"{path}: a TorchScript program; save model.state_dict() of the model it was made from")
    if "data.pkl" not in names:
        raise WeightsError(f"{path}: a zip archive, but not one of PyTorch; unpack it and give the weight file in it")
    if len({entry.filename.lower() for entry in entries}) < len(entries) or names.count("data.pkl") > 1:
        raise WeightsError(f"{path}: an archive that has a name twice, which torch.save does not write; refused")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError(f"{path}: a compressed archive, which torch.save does not write; refused")


def _globals_of(path: Path, zipped: bool) -> list[str]:
    """What the pickles of a file ask for, as `module.name` of Python 3; read as bytes, nothing is run."""
    names: dict[str, None] = {}
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive, archive.open(_table_in(archive)) as file:
                names.update(dict.fromkeys(globals_in(file)))  # type: ignore[arg-type]
        else:
            with path.open("rb") as file:
                for _ in range(5):  # magic number, version, system, the table, its storages
                    names.update(dict.fromkeys(globals_in(file)))
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a readable PyTorch weight file ({type(error).__name__})") from error
    return list(names)


def _refused(path: Path, wanted: list[str], call: str = "") -> WeightsError:
    for pattern, kind in FAMILIES:
        if found := next((name for name in wanted if re.fullmatch(pattern, name)), None):
            return WeightsError(
                f"{path}: this is {kind} checkpoint saved as an object ({found}), which only its own code can open; "
                "Mask R-CNN weights saved with torch.save(model.state_dict()) are read"
                if kind.startswith("a YOLO")
                else f"{path}: {kind} saved as an object ({found}); save model.state_dict() instead"
            )
    strange = [name for name in wanted if not KNOWN.fullmatch(name) and not HARMLESS.fullmatch(name)] or wanted
    return WeightsError(
        f"{path}: refused: its pickle asks for {call or ', '.join(strange[:3]) or 'an operation'} that weights do not "
        "need (nothing of it was run); save model.state_dict() alone"
    )


def _check_tensors(data: Any, path: Path) -> None:
    """A tensor is no larger than its storage: sizes in a pickle are only numbers."""
    for value in _tensors_in(data):
        whole = value.layout == torch.strided and value.device.type == "cpu"
        if not whole or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(
                f"{path}: a tensor of shape {tuple(value.shape)} has no such numbers in the file; refused"
            )


def _tensors_in(data: Any) -> Iterator[Tensor]:
    """Every tensor, each container looked into once: a small pickle can hold one list a billion times."""
    seen, left = set(), [data]
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left.extend(dict.values(value) if isinstance(value, dict) else value)


# ---------------------------------------------------------------- pickles of numpy arrays


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


class _Unpickler(pickle.Unpickler):
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
            data = _Unpickler(file, encoding="latin1").load()
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
