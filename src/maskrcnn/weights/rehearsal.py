"""A pickle of PyTorch gone through with inert objects first: what it would call, and how much its storages claim.

`weights_only` keeps foreign code out, but the tensors, byte arrays and codecs that it does call take any size.
"""

from __future__ import annotations

import functools
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

TENSORS = re.compile(r"torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)")
WITH_TYPE = "torch._tensor._rebuild_from_type_v2"  # calls its first argument
CALLED = re.compile(
    r"torch\.nn\.parameter\.Parameter|torch\.(Size|device)|torch\.serialization\._get_layout"
    r"|collections\.OrderedDict|builtins\.(set|complex)"
)
BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip


class Refused(Exception):
    """What a pickle would do that weights do not need."""


class Inert:
    """Stands for whatever a pickle names; a class for each name."""

    name = ""

    def __new__(cls, *arguments: Any) -> Any:
        _check_call(cls.name, arguments)
        return OrderedDict() if cls.name == "collections.OrderedDict" else object.__new__(cls)

    def __init__(self, *_: Any) -> None: ...
    def __call__(self, *_: Any) -> None: ...
    def __setstate__(self, _: Any) -> None: ...
    def __setitem__(self, _: Any, __: Any) -> None: ...
    def append(self, _: Any) -> None: ...
    def extend(self, _: Any) -> None: ...


class Rehearsal(pickle.Unpickler):
    """An unpickler of inert objects.

    Args:
        file: at the start of a pickle.
        ignored: names of classes that become stubs when the file is read.
    """

    def __init__(self, file: BinaryIO, ignored: re.Pattern[str]) -> None:
        super().__init__(file, encoding="latin1")
        self.claims: dict[Any, int] = {}
        self.ignored = ignored

    def find_class(self, module: str, name: str) -> Any:
        full = _renamed(module, name)
        real = full in ("collections.OrderedDict", "collections.Counter", "_codecs.encode")
        return _inert("" if self.ignored.fullmatch(full) and not real else full)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise Refused("a storage without its size")
        kind, key, count = pid[1], pid[2], pid[4]
        size = BYTES.get(getattr(kind, "name", "").rpartition(".")[2])
        if size is None or type(count) is not int or count < 0:
            raise Refused("a storage of an unusual kind")
        self.claims[key] = max(self.claims.get(key, 0), count * size)
        return _inert("")()


def rehearse(file: BinaryIO, ignored: re.Pattern[str]) -> dict[Any, int]:
    """Bytes that each storage claims, by its key.

    Raises:
        Refused: a call that makes no tensor of a storage and no plain container.
    """
    rehearsal = Rehearsal(file, ignored)
    rehearsal.load()
    return rehearsal.claims


@functools.cache
def _inert(name: str) -> type[Inert]:
    return type("Inert", (Inert,), {"name": name})


def _check_call(name: str, arguments: tuple[Any, ...]) -> None:
    inner = arguments[0] if arguments else None
    if name == "_codecs.encode":
        good = len(arguments) == 2 and arguments[1] in ("latin1", "latin-1") and isinstance(inner, str)
    elif name == "collections.Counter":  # milestones of a schedule
        good = not arguments or type(inner) is dict
    elif name == WITH_TYPE:
        good = isinstance(inner, type) and bool(TENSORS.fullmatch(getattr(inner, "name", "")))
    else:
        good = not name or bool(TENSORS.fullmatch(name) or CALLED.fullmatch(name))
    if not good:
        raise Refused(f"a call of {name}")


def globals_in(file: BinaryIO) -> Iterator[str]:
    """What a pickle names, as `module.name` of Python 3; read as bytes, nothing is run.

    Raises:
        ValueError: no pickle, or a place in its memo beyond all that it keeps: an unpickler takes memory up to there.
    """
    last = count = 0
    for operation, argument, _ in pickletools.genops(file):
        count += 1
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            last = max(last, int(argument or 0))
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield _renamed(module, name)
    if last > count:
        raise ValueError(f"memo place {last} of {count} operations")


def _renamed(module: str, name: str) -> str:
    import _compat_pickle as compat

    module, name = compat.NAME_MAPPING.get((module, name), (compat.IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
