"""Any checkpoint we can read -> our model, its classes and its preprocessing included."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError, weights_of
from maskrcnn.file_kinds import check_file
from maskrcnn.weights.folder import current_folder
from maskrcnn.weights.native import is_checkpoint, load_model

if TYPE_CHECKING:
    from maskrcnn.model.mask_rcnn import MaskRCNN

SUPPORTED = (
    "a run folder, a checkpoint folder, the model.safetensors in one, a .pth, .pt or .pkl file of Detectron2, "
    "MMDetection or torchvision, an .h5 file of Matterport's Mask_RCNN, torchvision:NAME for what torchvision "
    "publishes, or TensorFlow's model.ckpt, frozen .pb, SavedModel or their folder"
)
PUBLISHED = "torchvision:"
PYTORCH = (".pth", ".pt", ".pkl", ".pyth", ".bin")
KERAS = (".h5", ".hdf5", ".keras")
# Names that only TensorFlow's files have, and the archives that they are published in.
TENSORFLOW = re.compile(r"\.(pb|index|data-\d+-of-\d+|meta|tar|tar\.gz|tgz|zip)$")
PREFIX = re.compile(r"\.ckpt(-\d+)?$")


def load_weights(path: str | Path, **options: Any) -> MaskRCNN:
    """A model on the CPU in evaluation mode.

    Args:
        path: a run folder (its best checkpoint, else its last), a checkpoint folder, the `model.safetensors` in one, or
            what another framework wrote: Detectron2's and MMDetection's `.pkl` and `.pth`, torchvision's `.pth`,
            Matterport's `.h5`, what `load_tensorflow` reads; `torchvision:NAME` downloads published weights.
        options: dotted fields of the model config: `**{"box.score_threshold": 0.3}`. For other frameworks' weights also
            `config` and `classes`, see `load_detectron2`, `load_mmdetection`, `load_torchvision`, `load_matterport`,
            `load_tensorflow`.

    Raises:
        WeightsError: nothing there, an unknown kind of file, another kind of network, or tensors that do not fit.
        ConfigError: unknown override; a config beside the weights that cannot be read.
    """
    return open_weights(path, **options)[0]


def open_weights(path: str | Path, **options: Any) -> tuple[MaskRCNN, Config]:
    """`load_weights`, with the whole config of the run: schedule and data too, as far as the framework tells them."""
    if str(path).startswith(PUBLISHED):
        from maskrcnn.weights.torchvision.published import load_published

        _no_config(path, options)
        return _with_config(load_published(str(path).removeprefix(PUBLISHED), **options))
    path = Path(path)
    if path.suffix.lower() in PYTORCH and not path.is_dir():
        return _open_pytorch(path, **options)
    if path.suffix.lower() in KERAS and not path.is_dir():
        from maskrcnn.weights.matterport.model import open_matterport

        return open_matterport(path, **options)
    if not is_ours(path) and means_tensorflow(path):
        from maskrcnn.weights.tensorflow.model import open_tensorflow

        opened = open_tensorflow(path, **options)
        return opened.model, opened.config
    checkpoint = find_checkpoint(path)
    if given := [name for name in ("config", "classes") if name in options]:
        raise WeightsError(f"{path}: {', '.join(given)}: a checkpoint of maskrcnn brings its own; leave it out")
    return load_model(checkpoint, **options)[:2]


def _open_pytorch(path: Path, **options: Any) -> tuple[MaskRCNN, Config]:
    """By the names of the tensors in the file."""
    from maskrcnn.weights.numpy_pickle import read_numpy_pickle
    from maskrcnn.weights.pickles import read_pth
    from maskrcnn.weights.recognise import framework_of, state_of

    if not path.exists():
        raise WeightsError(f"{path}: no such file; give {SUPPORTED}")
    data = read_numpy_pickle(path) if path.suffix.lower() == ".pkl" else read_pth(path)
    with weights_of(path):
        framework = framework_of(state_of(data))
    if framework == "mmdetection":
        from maskrcnn.weights.mmdetection.model import open_mmdetection

        return open_mmdetection(path, data=data, **options)
    if framework == "torchvision":
        from maskrcnn.weights.torchvision.model import load_torchvision

        _no_config(path, options)
        return _with_config(load_torchvision(path, data=data, **options))
    from maskrcnn.weights.detectron2.model import open_detectron2

    return open_detectron2(path, data=data, **options)


def _no_config(path: str | Path, options: dict[str, Any]) -> None:
    """torchvision's settings are arguments in a program; there is no file of them."""
    if isinstance(options.get("config"), str | Path):
        raise WeightsError(
            f"{path}: torchvision has no config files; leave {options['config']} out, and give thresholds and sizes as "
            "fields"
        )
    if not isinstance(given := options.get("config"), Config | None):
        raise WeightsError(f"{path}: config= takes a Config of maskrcnn, got {type(given).__name__}")


def _with_config(model: MaskRCNN) -> tuple[MaskRCNN, Config]:
    return model, Config(model=model.config, data=model.data)


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
    if path.suffix == ".weights":
        raise WeightsError(f"{path}: weights of Darknet, which are a YOLO's; give {SUPPORTED}")
    if path.suffix == ".safetensors":
        check_file(path, safetensors=True)
        raise WeightsError(f"{path}: no model.json beside it; give {SUPPORTED}")
    raise WeightsError(f"{path}: unknown kind of checkpoint; give {SUPPORTED}")
