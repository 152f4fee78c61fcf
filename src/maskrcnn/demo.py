"""`maskrcnn demo`: data made, model trained from random weights, measured and drawn on images that it never saw."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn.errors import TrainingError
from maskrcnn.presets import preset

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset
    from maskrcnn.predict.predictor import Predictor

MARK = "made-by-maskrcnn-demo"  # a folder with this file may be overwritten
IMAGES = 1500  # to train on; making them takes seconds
MINUTES = 6.5  # of training, so that all of it stays below 8 on two CPU cores
PICTURES = 12
SCORE = 0.5
HEIGHT = 384  # pixels of a drawn image, about


def run_demo(out: Path, *, minutes: float | None = None, device: str = "auto") -> dict:
    """Make the Shapes data, train, measure, draw; print what happens.

    Args:
        out: `data/`, `run/`, `pictures/` and `overview.png` go here; an earlier demo in it is replaced.
        minutes: wall time of the training, to which the schedule is fitted; None: `MINUTES`.
        device: auto, cpu, cuda or mps.

    Returns:
        The metrics of the model on the validation images, plain JSON types.

    Raises:
        TrainingError: `out` holds something else, or cannot be written.
    """
    from maskrcnn.data.open import open_dataset
    from maskrcnn.data.synthetic import write_shapes
    from maskrcnn.predict.predictor import Predictor
    from maskrcnn.training.loop import train

    began = time.monotonic()
    _clear(out)
    print(f"1 of 4: drawing shapes into {out / 'data'}", flush=True)
    dataset = open_dataset(write_shapes(out / "data", train=IMAGES))
    config = preset("shapes").replace(**{"train.minutes": minutes or MINUTES})
    print(dataset.summary())
    print("2 of 4: training a small Mask R-CNN from random weights", flush=True)
    run = train(config, train=dataset.split("train"), val=dataset.split("val"), out=out / "run", device=device)
    print(f"3 of 4: drawing what it sees on {PICTURES} images it never saw", flush=True)
    _draw(Predictor(run.model, device=device), dataset.split("val"), out)
    print("4 of 4: results on the validation images, none of which was trained on")
    for kind in ("box", "mask"):
        print(f"  {kind} AP {run.metrics[kind]['ap']:.3f} (COCO, IoU .50:.95)")
    print(f"  pictures, truth next to prediction: {out / 'overview.png'} and {out / 'pictures'}")
    print(f"  model: {run.checkpoint}")
    print(f"  {(time.monotonic() - began) / 60:.1f} minutes in all")
    print(f"next: maskrcnn predict {run.checkpoint} {out / 'data' / 'val'} --out {out / 'predictions'}")
    return run.metrics


def _clear(out: Path) -> None:
    """Make `out`, with the mark. What an earlier demo left goes; anything else is never touched."""
    if out.exists() and not (out / MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"{out}: holds something that is not an earlier demo; choose another --out")
    try:
        for name in ("data", "run", "pictures"):
            if (out / name).exists():
                shutil.rmtree(out / name)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
    except OSError as error:
        raise TrainingError(f"{out}: cannot write: {error.strerror or error}; choose another --out") from error


def _draw(predictor: Predictor, dataset: Dataset, out: Path) -> None:
    from PIL import Image

    from maskrcnn.view.draw import draw_truth, grid, side_by_side

    (out / "pictures").mkdir()
    pictures = []
    for record in dataset[:PICTURES]:
        found = predictor(record.path, score_threshold=SCORE)
        scale = max(1, round(HEIGHT / record.height))
        picture = side_by_side(draw_truth(record, dataset, scale=scale), found.draw(scale=scale))
        Image.fromarray(picture).save(out / "pictures" / f"{record.path.stem}.png")
        pictures.append(picture)
    Image.fromarray(grid(pictures, columns=3)).save(out / "overview.png")
