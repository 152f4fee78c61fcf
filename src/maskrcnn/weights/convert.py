"""Weights of one form -> another: a checkpoint folder of ours, or files of TensorFlow, torchvision, Matterport."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.fields import nearest
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.pipeline.read import Pipeline
from maskrcnn.weights.classes import read_names
from maskrcnn.weights.load import KERAS, PREFIX, PUBLISHED, find_checkpoint, is_ours, means_tensorflow, open_weights
from maskrcnn.weights.native import load_model, save_model
from maskrcnn.weights.tensorflow.model import open_tensorflow
from maskrcnn.weights.tensorflow.read import PIPELINE
from maskrcnn.weights.tensorflow.save import save_tensorflow

CHECKPOINT = "model.ckpt"
FORMS = ("maskrcnn", "tensorflow", "torchvision", "matterport")
TORCH = (".pth", ".pt")


def convert_weights(
    src: str | Path,
    dst: str | Path,
    *,
    to: str | None = None,
    config: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    moving_averages: bool | None = None,
) -> list[Path]:
    """Write weights in another form.

    A pipeline.config has the schedule of the source; a warning says where it has that of the published config instead.

    Args:
        src: whatever `load_weights` reads.
        dst: a new folder, the prefix `DIR/model.ckpt`, or a new file.
        to: one of `FORMS`; None: by the name of `dst`: `.h5` Matterport's, `.pth` torchvision's, `.ckpt` TensorFlow's,
            else a folder of ours, or TensorFlow's where `src` is ours.
        config: the config that the weights had, as in the loader of their framework.
        classes: names, or a file of them, see `read_names`.
        moving_averages: as in `load_tensorflow`, for weights of TensorFlow.

    Returns:
        What was written.

    Raises:
        WeightsError: nothing to read, a model that the other framework cannot express, or something at `dst` already.
        ConfigError, DataError: a form, config or label map that is unknown or cannot be read.
        TrainingError: the disk does not let us write.
    """
    dst = Path(dst)
    form = to or _form(dst, ours=_is_ours(src))
    if form not in FORMS:
        raise ConfigError(f"--to {form!r}{nearest(form, FORMS)}; one of {', '.join(FORMS)}")
    _check_target(dst, form)
    model, run, pipeline = _opened(src, config, classes, moving_averages)
    if form == "maskrcnn":
        return [save_model(model, dst, config=run)]
    if form == "torchvision":
        return [_save_torchvision(model, dst)]
    if form == "matterport":
        from maskrcnn.weights.matterport.write import save_matterport

        return save_matterport(model, dst)
    prefix = dst if PREFIX.search(dst.name) else dst / CHECKPOINT
    if not _is_ours(src) and pipeline is None:
        warnings.warn(f"{prefix.with_name(PIPELINE)}: its schedule is the published one, {src} has none", stacklevel=2)
    return save_tensorflow(model, prefix, run=run, pipeline=pipeline)


def _is_ours(src: str | Path) -> bool:
    return not str(src).startswith(PUBLISHED) and is_ours(src)


def _form(dst: Path, *, ours: bool) -> str:
    if dst.suffix in KERAS:
        return "matterport"
    if dst.suffix in TORCH:
        return "torchvision"
    return "tensorflow" if ours or PREFIX.search(dst.name) else "maskrcnn"


def _check_target(dst: Path, form: str) -> None:
    """Before anything is read."""
    if form == "torchvision" and dst.suffix not in TORCH:
        raise WeightsError(f"{dst}: a state dict of torchvision is a file; name it .pth")
    wanted = form in ("maskrcnn", "torchvision")  # the others look for each of their files
    if wanted and dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise WeightsError(f"{dst}: is there already; choose another name, or delete it")


def _opened(
    src: str | Path,
    config: str | Path | None,
    classes: str | Path | Sequence[str] | None,
    moving_averages: bool | None,
) -> tuple[MaskRCNN, Config, Pipeline | None]:
    """The model, the config of its run, and the pipeline.config that it is from."""
    options: dict[str, Any] = {"config": config, "classes": classes, "moving_averages": moving_averages}
    given = {name: value for name, value in options.items() if value is not None}
    if _is_ours(src):
        if given:
            raise WeightsError(f"{src}: {', '.join(given)}: a checkpoint of maskrcnn brings its own; leave it out")
        return *load_model(find_checkpoint(src))[:2], None
    if not str(src).startswith(PUBLISHED) and means_tensorflow(src):
        return open_tensorflow(src, **options)
    if moving_averages is not None:
        raise WeightsError(f"{src}: moving_averages: for weights of TensorFlow; leave it out")
    if isinstance(classes, str | Path):
        given["classes"] = read_names(classes)
    return *open_weights(src, **given), None


def _save_torchvision(model: MaskRCNN, path: Path) -> Path:
    """`torch.load` gives the state dict. Raises `WeightsError` where the disk does not let us write."""
    import torch

    from maskrcnn.weights.torchvision.write import to_torchvision

    state = to_torchvision(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{path}: cannot write ({error}); choose another place") from error
    return path
