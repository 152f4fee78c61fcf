"""Weight files of PyTorch and pickles of numpy arrays, read without running what is pickled in them.

A pickle is a program. Of a `.pth`, PyTorch's own `weights_only` reader runs the part that makes tensors and plain
containers; what else training tools leave in there (a log's history, the arguments of the run) becomes an inert `Stub`.
A file that asks for anything else is refused. Sizes are bounded by what is on the disk.
"""

from __future__ import annotations

import functools
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError

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


class Stub:
    """Stands for an object that is not needed. It takes whatever its pickle gives it and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None: ...


def check_file(path: str | Path) -> Path:
    """The path, if a weight file can be there. Raises `WeightsError` saying what lies there instead."""
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; give the weight file in it")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(200)
    if not head:
        raise WeightsError(f"{path}: an empty file; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` where it came from")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{path}: a web page, not weights; download the file itself")
    return path


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
    wanted = _globals_of(path, zipped)
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
    return data


ALREADY_SAFE = {"collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set", "builtins.complex"}


@functools.cache
def _stub(name: str) -> type[Stub]:
    """A class of its own for each name: PyTorch looks classes up by value."""
    return type(name.rpartition(".")[2], (Stub,), {})


def _check_archive(path: Path) -> None:
    """`torch.save` never compresses, so what comes out is no larger than the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{path}: truncated or damaged ({error}); fetch it again") from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise WeightsError(f"{path}: a TorchScript program; save model.state_dict() of the model it was made from")
    if "data.pkl" not in names:
        raise WeightsError(f"{path}: a zip archive, but not one of PyTorch; unpack it and give the weight file in it")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError(f"{path}: a compressed archive, which torch.save does not write; refused")


def _globals_of(path: Path, zipped: bool) -> list[str]:
    """What the pickles of a file ask for, as `module.name` of Python 3; read as bytes, nothing is run."""
    names: dict[str, None] = {}
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                entry = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
                with archive.open(entry) as file:
                    names.update(dict.fromkeys(_globals_in(file)))  # type: ignore[arg-type]
        else:
            with path.open("rb") as file:
                for _ in range(4):  # magic number, version, system, the table
                    names.update(dict.fromkeys(_globals_in(file)))
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: not a readable PyTorch weight file ({type(error).__name__})") from error
    return list(names)


def _globals_in(file: BinaryIO) -> Iterator[str]:
    import _compat_pickle as compat

    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = compat.NAME_MAPPING.get((module, name), (compat.IMPORT_MAPPING.get(module, module), name))
            yield f"{module}.{name}"


def _refused(path: Path, wanted: list[str]) -> WeightsError:
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
        f"{path}: refused: its pickle asks for {', '.join(strange[:3]) or 'an operation'} that weights do not need "
        "(nothing of it was run); save model.state_dict() alone"
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
            left.extend(value.values() if isinstance(value, dict) else value)


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

    tensor: Tensor

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # protocol 2 and Python 2 keep bytes as text
            content = content.encode("latin1")
        self.tensor = _tensor(content, dtype, shape, "F" if fortran else "C")


def _tensor(content: Any, dtype: Any, shape: Any, order: str) -> Tensor:
    import math

    import numpy as np

    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError("arrays of objects")
    kind = dtype.numpy()
    if any(type(side) is not int or side < 0 for side in shape) or math.prod(shape) * kind.itemsize != len(content):
        raise pickle.UnpicklingError(f"an array of shape {tuple(shape)} in {len(content)} bytes")
    array = np.frombuffer(content, kind).reshape(shape, order=order)  # type: ignore[call-overload]
    return torch.from_numpy(np.ascontiguousarray(array.astype(kind.newbyteorder("="), copy=True)).reshape(shape))


def _reconstruct(kind: Any, shape: Any, _: Any) -> _Array:
    if kind is not _Array or shape != (0,):
        raise pickle.UnpicklingError(f"an array that begins with shape {shape}")
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: str, *_: Any) -> _Array:
    array = _Array()
    array.tensor = _tensor(content, dtype, shape, "F" if order == "F" else "C")
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    if isinstance(content, str):
        content = content.encode("latin1")
    return _tensor(content, dtype, (), "C").item()


def _encode(text: Any, coding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in another coding")
    return text.encode("latin1")


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
            data = _Unpickler(file, encoding="latin1").load()
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
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: holds no table of arrays")
    return {str(key): _plain(value) for key, value in data.items()}


def _plain(value: Any) -> Any:
    """Arrays as tensors, in a table too; those deeper down are an optimiser's and are left."""
    if isinstance(value, dict):
        return {str(key): v.tensor if isinstance(v, _Array) else v for key, v in value.items()}
    return value.tensor if isinstance(value, _Array) else value
