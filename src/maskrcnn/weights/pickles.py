"""Weight files of PyTorch, read without running what is pickled in them.

A pickle is a program. Of a `.pth`, PyTorch's own `weights_only` reader runs the part that makes tensors and plain
containers; what else training tools leave in there (a log's history, the arguments of the run) becomes an inert `Stub`.
A file that asks for anything else is refused. Sizes are bounded by what is on the disk.
"""

from __future__ import annotations

import functools
import io
import itertools
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.file_kinds import check_file, is_text
from maskrcnn.weights.numpy_pickle import ArrayUnpickler
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
ZIP = b"PK\3\4"  # how the form from 1.6 on begins; without its end it is no archive
KNOWN = re.compile(r"(torch|collections|_codecs|builtins)\b.*")


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
    elif _is_plain_pickle(path):
        raise WeightsError(
            f"{path}: a plain pickle, not a file of torch.save; name it .pkl where it holds arrays of numpy, as in "
            "Detectron2's zoo, else save with torch.save(model.state_dict(), ...)"
        )
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
        raise _unreadable(path, error) from error
    if isinstance(data, Tensor) or not isinstance(data, dict):
        raise WeightsError(f"{path}: holds no table of tensors; save model.state_dict()")
    _check_tensors(data, path)
    return _plain_dicts(data)


def _is_plain_pickle(path: Path) -> bool:
    """Whether it is a pickle that does not begin with PyTorch's number, whatever protocol that is in."""
    with path.open("rb") as file:
        if file.read(1) != b"\x80":  # older protocols than 2 are text
            return False
        file.seek(0)
        try:
            for operation, argument, _ in itertools.islice(pickletools.genops(file), 4):
                if operation.name.startswith("LONG"):
                    return argument != torch.serialization.MAGIC_NUMBER
        except (ValueError, EOFError):
            return False
    return True


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
        raise _unreadable(path, error) from error
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
        keys = ArrayUnpickler(file, encoding="latin1").load()
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
        raise _unreadable(path, error) from error
    return list(names)


def _unreadable(path: Path, error: Exception) -> WeightsError:
    with path.open("rb") as file:
        begun = file.read(4) == ZIP
    what = "truncated" if begun else f"truncated or no weight file of PyTorch ({type(error).__name__})"
    return WeightsError(f"{path}: {what}; fetch it again")


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
