"""Our own checkpoint: a folder with `model.safetensors` and `model.json`, enough to rebuild the model anywhere.

`model.json` holds the format version, the whole config, class names, category ids, keypoints, sizes of the training
objects, and metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

import maskrcnn
from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.file_kinds import check_file
from maskrcnn.model.build import build_model
from maskrcnn.structures import KeypointSchema, ObjectSizes
from maskrcnn.weights.folder import current_folder, replace_folder, write_json, write_tensors

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

FORMAT_VERSION = 1
TENSORS, HEADER = "model.safetensors", "model.json"
# What no other framework's importer need find: the preprocessing, counters of norms, Swin's table of a window.
OWN = re.compile(r"mean|std|.*\.num_batches_tracked|.*\.relative_position_index")


def save_model(
    model: MaskRCNN,
    folder: str | Path,
    *,
    config: Config | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint folder, atomically; what was there before is replaced.

    Args:
        model: the network.
        folder: where; created with its parents.
        config: of the run; None: the model's own with default training options.
        metrics: plain JSON types.
        extra: further entries of `model.json`: step, epoch.
        tensors: weights in place of the network's own.

    Raises:
        TrainingError: the disk is full or does not let us write.
    """
    return replace_folder(
        Path(folder),
        lambda fresh: write_model(model, fresh, config=config, metrics=metrics, extra=extra, tensors=tensors),
    )


def write_model(
    model: MaskRCNN,
    folder: Path,
    *,
    config: Config | None = None,
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """The two files of `save_model` into an existing folder. Raises `OSError`."""
    config = config or Config(model=model.config, data=model.data)
    keypoints = model.keypoints
    header = {
        "format": "maskrcnn",
        "format_version": FORMAT_VERSION,
        "maskrcnn_version": maskrcnn.__version__,
        "config": config.to_dict(),
        "classes": list(model.classes),
        "category_ids": [int(i) for i in model.category_ids],
        "keypoints": keypoints
        and {"names": list(keypoints.names), "flip_pairs": [list(p) for p in keypoints.flip_pairs]},
        "object_sizes": model.object_sizes and asdict(model.object_sizes),
        "metrics": dict(metrics or {}),
        **(extra or {}),
    }
    write_tensors(model.state_dict() if tensors is None else tensors, folder / TENSORS)
    write_json(header, folder / HEADER)


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a checkpoint folder or its `model.safetensors`."""
    folder = path.parent if path.suffix == ".safetensors" else current_folder(path)
    return (folder / HEADER).is_file()


def load_model(path: str | Path, **model_overrides: Any) -> tuple[MaskRCNN, Config, dict[str, Any]]:
    """Rebuild a model from a checkpoint folder or the `model.safetensors` in it.

    Args:
        path: the folder or file.
        model_overrides: dotted fields of the model config that leave the weights' shapes alone: `{"box.nms_iou": 0.6}`.

    Returns:
        The model on the CPU in evaluation mode, the config of its run, and all of `model.json`.

    Raises:
        WeightsError: no checkpoint, a damaged file, or tensors that do not fit; `missing` and `unexpected` name them.
        ConfigError: unknown override.
    """
    state, config, header = read_model(path)
    config = config.replace(**{f"model.{name}": value for name, value in model_overrides.items()})
    model = build_model(
        config.model,
        classes=header["classes"],
        category_ids=header["category_ids"],
        data=config.data,
        keypoints=header["keypoints"],
    )
    load_state(model, state, where=str(path))
    model.object_sizes = header["object_sizes"]
    return model.eval(), config, header


def read_model(path: str | Path) -> tuple[dict[str, Tensor], Config, dict[str, Any]]:
    """Tensors, config and header of a checkpoint, without building a network. Raises `WeightsError`.

    In the header `classes` and `category_ids` are tuples, `keypoints` a `KeypointSchema` or None, and `object_sizes` an
    `ObjectSizes`, or None where an older checkpoint has none.
    """
    path = Path(path)
    folder = path.parent if path.suffix == ".safetensors" else current_folder(path)
    header_path = folder / HEADER
    header = read_json(header_path)
    if header.get("format") != "maskrcnn":
        raise WeightsError(f"{header_path}: not written by maskrcnn; give a checkpoint folder of a run")
    if header.get("format_version", 0) > FORMAT_VERSION:
        raise WeightsError(
            f"{header_path}: format {header['format_version']} was written by maskrcnn "
            f"{header.get('maskrcnn_version')}, newer than this one; update maskrcnn"
        )
    try:
        config = Config.from_dict(header["config"])
        header["classes"], header["category_ids"] = tuple(header["classes"]), tuple(header["category_ids"])
        if header["keypoints"]:
            pairs = tuple((int(left), int(right)) for left, right in header["keypoints"]["flip_pairs"])
            header["keypoints"] = KeypointSchema(tuple(header["keypoints"]["names"]), pairs)
        sizes = header.get("object_sizes")
        header["object_sizes"] = sizes and ObjectSizes(**sizes)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise WeightsError(f"{header_path}: entry missing or wrong: {error}; take another checkpoint") from error
    return read_tensors(path if path.suffix == ".safetensors" else folder / TENSORS), config, header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `WeightsError`."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give a run folder, a checkpoint folder or a weight file")
    check_file(path, safetensors=True)
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: damaged or cut short ({error}); take another checkpoint or copy it again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `WeightsError`."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; give a run folder, a checkpoint folder or a weight file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(
            f"{path}: not readable as JSON ({error}); take another checkpoint or copy it again"
        ) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: holds no JSON object; take another checkpoint or copy it again")
    return value


def load_foreign(model: MaskRCNN, state: Mapping[str, Tensor], *, where: str) -> None:
    """`load_state` of another framework's tensors. What theirs need not hold stays the model's own where they do not:
    the preprocessing, which a config tells, and what follows from the layers; what only theirs has of it is dropped:
    the counters of norms that are frozen here."""
    own = model.state_dict()
    theirs = {name: value for name, value in state.items() if name in own or not OWN.fullmatch(name)}
    load_state(model, {name: own[name] for name in own if OWN.fullmatch(name)} | theirs, where=where)


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Strict: every tensor of the module, of the same shape, and no other. Raises `WeightsError` listing the names."""
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems = []
    if missing:
        problems.append(f"missing {_some(missing)}")
    if unexpected:
        problems.append(f"unexpected {_some(unexpected)}")
    if shapes:
        first = shapes[0]
        problems.append(
            f"other shapes {_some(shapes)} ({first}: {tuple(state[first].shape)} in the file, "
            f"{tuple(own[first].shape)} in the model)"
        )
    if problems:
        raise WeightsError(
            f"{where}: tensors do not fit the model: {'; '.join(problems)}; "
            "build the model from the checkpoint's own config",
            missing=[*missing, *shapes],
            unexpected=unexpected,
        )
    module.load_state_dict(dict(state))


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
