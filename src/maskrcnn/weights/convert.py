"""Another framework's weights -> a checkpoint folder of ours, and ours -> a checkpoint of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.errors import WeightsError
from maskrcnn.weights.load import is_ours, load_weights, means_tensorflow
from maskrcnn.weights.native import save_model
from maskrcnn.weights.tensorflow.model import open_tensorflow, save_tensorflow

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
    again a checkpoint of TensorFlow where `dst` is named `.ckpt`.

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
    to_tensorflow = ours or ".ckpt" in dst.name
    prefix = dst if ".ckpt" in dst.name else dst / CHECKPOINT
    if not to_tensorflow and dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise WeightsError(f"{dst}: is there already; choose another name, or delete it")
    options: dict[str, Any] = {"config": config, "classes": classes, "moving_averages": moving_averages}
    run = None
    if not ours and means_tensorflow(src):
        model, run = open_tensorflow(src, **options)
    else:
        if given := [name for name, value in options.items() if value is not None]:
            raise WeightsError(f"{src}: {', '.join(given)}: for weights of TensorFlow; these bring their own")
        model = load_weights(src)
    return save_tensorflow(model, prefix) if to_tensorflow else [save_model(model, dst, config=run)]
