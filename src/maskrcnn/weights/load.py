"""Any checkpoint we can read -> our model, its classes and its preprocessing included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import WeightsError
from maskrcnn.weights.folder import current_folder
from maskrcnn.weights.native import is_checkpoint, load_model

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

SUPPORTED = (
    "a run folder, a checkpoint folder, the model.safetensors in one, or a .pth or .pt file of torchvision's "
    "maskrcnn_resnet50_fpn"
)


def load_weights(path: str | Path, **model_overrides: Any) -> MaskRCNN:
    """A model on the CPU in evaluation mode.

    Args:
        path: a run folder (its best checkpoint, else its last), a checkpoint folder, the `model.safetensors` in one, or
            a torchvision `.pth`.
        model_overrides: dotted fields of the model config: `**{"box.score_threshold": 0.3}`.

    Raises:
        WeightsError: nothing there, an unknown kind of file, or tensors that do not fit.
        ConfigError: unknown override.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt"):
        from maskrcnn.weights.torchvision import load_torchvision

        if not path.is_file():
            raise WeightsError(f"{path}: no such file; give {SUPPORTED}")
        return load_torchvision(path, **model_overrides)
    return load_model(find_checkpoint(path), **model_overrides)[0]


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
