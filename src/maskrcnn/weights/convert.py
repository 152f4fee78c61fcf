"""Another framework's weights -> a checkpoint folder of ours, and ours -> a checkpoint of TensorFlow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError
from maskrcnn.pipeline.read import Pipeline
from maskrcnn.weights.load import PREFIX, find_checkpoint, is_ours, load_weights, means_tensorflow
from maskrcnn.weights.native import load_model, save_model
from maskrcnn.weights.tensorflow.model import open_tensorflow
from maskrcnn.weights.tensorflow.read import PIPELINE
from maskrcnn.weights.tensorflow.save import save_tensorflow

CHECKPOINT = "model.ckpt"


def convert_weights(
    src: str | Path,
    dst: str | Path,
    *,
    config: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    moving_averages: bool | None = None,
) -> list[Path]:
    """Write weights in another form.

    What is ours becomes a checkpoint of TensorFlow with TF1's names, everything else a checkpoint folder of ours, or
    again a checkpoint of TensorFlow where `dst` is named `.ckpt`. Its pipeline.config has the schedule of the source; a
    warning says where it has that of the published config instead.

    Args:
        src: whatever `load_weights` reads.
        dst: new folder, or the prefix `DIR/model.ckpt`.
        config, classes, moving_averages: as in `load_tensorflow`, for weights of TensorFlow.

    Returns:
        What was written: the folder, or the files of the checkpoint with its pipeline.config and label map.

    Raises:
        WeightsError: nothing to read, a model that TensorFlow's API cannot express, or something at `dst` already.
        ConfigError, DataError: a pipeline.config or label map that cannot be read.
        TrainingError: the disk does not let us write.
    """
    src, dst = Path(src), Path(dst)
    ours = is_ours(src)
    named = bool(PREFIX.search(dst.name))
    to_tensorflow = ours or named
    prefix = dst if named else dst / CHECKPOINT
    if not to_tensorflow and dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise WeightsError(f"{dst}: is there already; choose another name, or delete it")
    options: dict[str, Any] = {"config": config, "classes": classes, "moving_averages": moving_averages}
    run: Config | None = None
    pipeline: Pipeline | None = None
    if not ours and means_tensorflow(src):
        model, run, pipeline = open_tensorflow(src, **options)
    else:
        if given := [name for name, value in options.items() if value is not None]:
            raise WeightsError(f"{src}: {', '.join(given)}: for weights of TensorFlow; these bring their own")
        if ours:
            model, run, _ = load_model(find_checkpoint(src))
        else:
            model = load_weights(src)
    if not to_tensorflow:
        return [save_model(model, dst, config=run)]
    if not ours and pipeline is None:
        warnings.warn(f"{prefix.with_name(PIPELINE)}: its schedule is the published one, {src} has none", stacklevel=2)
    return save_tensorflow(model, prefix, run=run, pipeline=pipeline)
