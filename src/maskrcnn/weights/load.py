"""Any checkpoint we can read -> our model, its classes and its preprocessing included."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import WeightsError
from maskrcnn.weights.folder import current_folder
from maskrcnn.weights.native import is_checkpoint, load_model

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

SUPPORTED = (
    "a run folder, a checkpoint folder, the model.safetensors in one, a .pth or .pt file of torchvision's "
    "maskrcnn_resnet50_fpn, or TensorFlow's model.ckpt, frozen .pb, SavedModel or their folder"
)
# Names that only TensorFlow's files have, and the archives that they are published in.
TENSORFLOW = re.compile(r"\.(pb|index|data-\d+-of-\d+|meta|tar|tar\.gz|tgz|zip)$")
PREFIX = re.compile(r"\.ckpt(-\d+)?$")


def load_weights(path: str | Path, **model_overrides: Any) -> MaskRCNN:
    """A model on the CPU in evaluation mode.

    Args:
        path: a run folder (its best checkpoint, else its last), a checkpoint folder, the `model.safetensors` in one, a
            torchvision `.pth`, or what `load_tensorflow` reads.
        model_overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Raises:
        WeightsError: nothing there, an unknown kind of file, or tensors that do not fit.
        ConfigError: unknown override; a pipeline.config beside TensorFlow's weights that cannot be read.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt"):
        from maskrcnn.weights.torchvision import load_torchvision

        if not path.is_file():
            raise WeightsError(f"{path}: no such file; give {SUPPORTED}")
        return load_torchvision(path, **model_overrides)
    if not is_ours(path) and means_tensorflow(path):
        from maskrcnn.weights.tensorflow.model import load_tensorflow

        return load_tensorflow(path, **model_overrides)
    return load_model(find_checkpoint(path), **model_overrides)[0]


def is_ours(path: str | Path) -> bool:
    """Whether `find_checkpoint` finds one. Never raises."""
    try:
        find_checkpoint(path)
    except WeightsError:
        return False
    return True


def means_tensorflow(path: str | Path) -> bool:
    """Whether TensorFlow's reader is the one to read a path, or to say what is wrong with it. Never raises."""
    from maskrcnn.weights.tensorflow.read import looks_like_tensorflow

    path = Path(path)
    named = TENSORFLOW.search(path.name) or (PREFIX.search(path.name) and not path.exists())
    return bool(named) or looks_like_tensorflow(path)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that `path` means: itself, or the best, else the last, of a run folder. Raises `WeightsError`."""
    path = Path(path)
    if is_checkpoint(path):
        return path
    for name in ("best", "last"):
        for folder in (path / "checkpoints" / name, path / name):
            if is_checkpoint(folder):
                return current_folder(folder)
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder; give {SUPPORTED}")
    if path.is_dir():
        raise WeightsError(f"{path}: no checkpoint in this folder; give {SUPPORTED}")
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path}: no model.json beside it; give {SUPPORTED}")
    raise WeightsError(f"{path}: unknown kind of checkpoint; give {SUPPORTED}")
