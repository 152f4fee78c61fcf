"""Whatever file or folder a TensorFlow user has -> the variables in it, by TensorFlow's names and in its layout."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from maskrcnn.data.formats.example import Damaged
from maskrcnn.errors import WeightsError
from maskrcnn.weights.tensorflow.bundle import V1, Bundle
from maskrcnn.weights.tensorflow.files import STATE, check_no_stranger, damaged, mapped
from maskrcnn.weights.tensorflow.graph import Graph
from maskrcnn.weights.tensorflow.objects import GRAPH_KEY, is_of_model, read_objects
from maskrcnn.weights.tensorflow.table import is_table
from maskrcnn.weights.tensorflow.wire import STRING

Kind = Literal["checkpoint", "frozen graph", "saved model", "object checkpoint"]

SAVED_MODEL, FROZEN, PIPELINE = "saved_model.pb", "frozen_inference_graph.pb", "pipeline.config"
SUPPORTED = (
    "a checkpoint (the prefix model.ckpt or its .index file), a frozen graph (.pb), a SavedModel folder, or a folder "
    "that holds one of these"
)
_PART_OF_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
SLOTS = ("Momentum", "RMSProp", "RMSProp_1", "Adam", "Adam_1", "Adagrad", "Adadelta", "Adadelta_1", "Ftrl", "Ftrl_1")
"""What tf.train optimisers call their variables."""
_POWERS = ("beta1_power", "beta2_power")


@dataclass(frozen=True)
class TensorFlowFile:
    """What was found.

    Attributes:
        path: the file or prefix that was read.
        kind: its form.
        variables: name -> array, in TensorFlow's layout; of an object checkpoint (and a SavedModel of TF2) the key with
            its end `/.ATTRIBUTES/VARIABLE_VALUE`. Arrays may be views of the file; writing to them does not change it.
        full_names: key -> name of the variable in the program, of an object checkpoint; else empty.
        left_out: names that are there and were not read: optimiser state, counters of an object checkpoint, strings.
        config: the `pipeline.config` that lies beside.
    """

    path: Path
    kind: Kind
    variables: dict[str, np.ndarray]
    full_names: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    config: Path | None = None


def read_tensorflow(path: str | Path) -> TensorFlowFile:
    """Read the weights of a detector that TensorFlow wrote.

    Args:
        path: the prefix `model.ckpt` or `model.ckpt-1234`, any file of it, a `.pb` file, a SavedModel folder, or a
            folder that holds one of these. In a folder comes first `saved_model.pb`, then the checkpoint that the file
            `checkpoint` names, the one of the last step, whole or not, `frozen_inference_graph.pb`, and last what the
            folders `saved_model` and `checkpoint` hold.

    Raises:
        WeightsError: nothing there, another kind of file, a V1 checkpoint, a missing or truncated data file, damage.
    """
    given = Path(path)
    try:
        found = _find(given)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise WeightsError(f"{given}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if found is None:
        raise _nothing(given)
    if found.name == SAVED_MODEL:
        return _saved_model(found)
    return _graph(found) if found.suffix == ".pb" else _checkpoint(found)


def looks_like_tensorflow(path: str | Path) -> bool:
    """Whether `read_tensorflow` is the one to read it, or to say what is wrong with it. Never raises."""
    try:
        return _find(Path(path)) is not None
    except (WeightsError, OSError, ValueError):
        return False


# ---------------------------------------------------------------- what is meant


def _find(path: Path) -> Path | None:
    """A prefix, a `.pb` file, or a V1 checkpoint."""
    if path.is_dir():
        return _find_in(path)
    if path.suffix == ".pb":
        return path if path.is_file() else None
    name = _PART_OF_CHECKPOINT.sub("", path.name)
    if path.name and not name:
        raise WeightsError(f"{path}: the name of the checkpoint is missing; rename it to model.ckpt{path.name}")
    prefix = path.with_name(name) if name else path
    if _is_prefix(prefix):
        return prefix
    if path.is_file():
        if path.name == STATE:
            return _stated(path)
        return path if _ends_as_table(path) else None
    return None


def _find_in(folder: Path, inner: tuple[str, ...] = ("saved_model", "checkpoint")) -> Path | None:
    if (folder / SAVED_MODEL).is_file():
        return folder / SAVED_MODEL
    if found := (_stated(folder / STATE) if (folder / STATE).is_file() else None):
        return found
    if names := _checkpoints(folder):
        return folder / max(names, key=lambda name: (_step(name), name))
    if (folder / FROZEN).is_file():
        return folder / FROZEN
    for name in inner:
        if (folder / name).is_dir() and (found := _find_in(folder / name, ())):
            return found
    return None


def _checkpoints(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder, damaged and incomplete ones too: the reader says what is wrong with them.

    Other programs have files .index and .meta as well; one such file alone is a checkpoint's by its end or its name.
    """
    ends: dict[str, set[str]] = {}
    for file in folder.iterdir():
        part = _PART_OF_CHECKPOINT.search(file.name)
        if part and part.start() and file.is_file():
            ends.setdefault(file.name[: part.start()], set()).add(part[1][:4])

    def is_checkpoint(name: str) -> bool:
        if len(ends[name]) > 1 or "data" in ends[name] or "ckpt" in name:
            return True
        return "inde" in ends[name] and _ends_as_table(folder / f"{name}.index")

    return [name for name in ends if is_checkpoint(name)]


def _nothing(path: Path) -> WeightsError:
    """To raise, where there is nothing that we read."""
    if not path.is_file():
        what = "no TensorFlow weights in this folder" if path.is_dir() else "no such file or folder"
        return WeightsError(f"{path}: {what}; give {SUPPORTED}")
    check_no_stranger(path, mapped(path))
    return WeightsError(f"{path}: no weights of TensorFlow; give {SUPPORTED}")


def _stated(state: Path) -> Path | None:
    """The checkpoint that a file `checkpoint` names; it may have moved with its folder. None for another file."""
    with state.open("rb") as file:
        content = file.read(1 << 20).decode("utf-8", "replace")
    match = re.search(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)*)"', content, re.MULTILINE)
    if not match:
        return None
    name = re.sub(r"\\(.)", r"\1", match[1])
    prefix = state.parent / name
    return prefix if _is_prefix(prefix) else state.parent / re.split(r"[/\\]", name)[-1]


def _is_prefix(prefix: Path) -> bool:
    """Whether one of a checkpoint's files is there."""
    return bool(prefix.name) and (
        any(prefix.with_name(prefix.name + end).is_file() for end in (".index", ".meta"))
        or any(_PART_OF_CHECKPOINT.search(file.name) for file in _beginning_with(prefix.parent, f"{prefix.name}.data-"))
    )


def _beginning_with(folder: Path, start: str) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.startswith(start)] if folder.is_dir() else []


def _step(name: str) -> int:
    """1234 of model.ckpt-1234; -1 without."""
    match = re.search(r"-(\d{1,18})$", name)
    return int(match[1]) if match else -1


def _ends_as_table(file: Path) -> bool:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 48))
        return is_table(stream.read(48))


def _config(path: Path) -> Path | None:
    """`pipeline.config` in the folder of a file or in the one above it."""
    folder = path.absolute().parent
    if folder.name == "variables":  # of a SavedModel
        folder = folder.parent
    return next((file for above in (folder, folder.parent) if (file := above / PIPELINE).is_file()), None)


# ---------------------------------------------------------------- what is in it


def _checkpoint(prefix: Path) -> TensorFlowFile:
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        if prefix.is_file():
            raise WeightsError(f"{prefix}: {V1}") if _ends_as_table(prefix) else _nothing(prefix)
        raise WeightsError(f"{prefix}.index: missing; put it beside the other files of the checkpoint, or give another")
    bundle = Bundle(prefix)
    kind: Kind = "object checkpoint" if GRAPH_KEY in bundle.entries else "checkpoint"
    variables, full_names, left_out = _variables(bundle)
    return TensorFlowFile(prefix, kind, variables, full_names, left_out, _config(prefix))


def _saved_model(file: Path) -> TensorFlowFile:
    prefix = file.parent / "variables" / "variables"
    if prefix.with_name("variables.index").is_file() or _is_prefix(prefix):
        variables, full_names, left_out = _variables(Bundle(prefix))
        if variables:
            return TensorFlowFile(file, "saved model", variables, full_names, left_out, _config(file))
    return _graph(file)


def _graph(file: Path) -> TensorFlowFile:
    graph = Graph(file)
    return TensorFlowFile(
        file, "saved model" if graph.is_saved_model else "frozen graph", graph.weights(), config=_config(file)
    )


def _variables(bundle: Bundle) -> tuple[dict[str, np.ndarray], dict[str, str], tuple[str, ...]]:
    """Variables of the model, their names in the program, and what is left out."""
    entries, full_names = bundle.entries, {}
    if GRAPH_KEY in entries:
        try:
            graph = read_objects(b"".join(bundle.strings(GRAPH_KEY)))
        except Damaged as error:
            raise damaged(bundle.index, f"object graph: {error}") from error
        wanted = [key for key in entries if is_of_model(key, graph)]
        full_names = {key: graph.full_names[key] for key in wanted if graph.full_names.get(key)}
    else:
        wanted = [name for name in entries if not _is_slot(name, bundle)]
    wanted = [name for name in wanted if entries[name].dtype != STRING]
    kept = set(wanted)
    return {name: bundle.read(name) for name in wanted}, full_names, tuple(name for name in entries if name not in kept)


def _is_slot(name: str, bundle: Bundle) -> bool:
    """Whether a TF1 variable is an optimiser's: `VARIABLE/Momentum`, perhaps in its own scope, of the same shape."""
    owner, _, last = name.rpartition("/")
    if last in _POWERS:
        return not bundle.entries[name].shape
    while owner and last in SLOTS:
        if owner in bundle.entries and bundle.entries[owner].shape == bundle.entries[name].shape:
            return True
        owner = owner.partition("/")[2]
    return False
