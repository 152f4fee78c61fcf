"""Pictures that trackers get: which, when, and by which call."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import accelerate
import numpy as np
import pytest
from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

from maskrcnn.evaluation.findings import given_findings
from maskrcnn.training.figures import final_figures, send_pictures, validation_pictures
from maskrcnn.training.loop import train
from tests.training.tiny_run import tiny_config, write_squares

PICTURES = {"validation/1": np.full((8, 12, 3), 200, np.uint8), "validation/2": np.zeros((6, 6, 3), np.uint8)}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    return write_squares(folder / "train", 12), write_squares(folder / "val", 6, seed=1)


def perfect(dataset):
    """Results equal to the truth, but for the first object."""
    found = []
    for record in dataset:
        for index, (x0, y0, x1, y1) in enumerate(record.boxes.tolist()):
            box = [x0, y0, x1 - x0, y1 - y0]
            ring = [x0, y0, x1, y0, x1, y1, x0, y1]
            category = dataset.category_ids[record.labels[index]]
            found.append({"image_id": record.image_id, "category_id": category, "score": 0.9, "bbox": box,
                          "segmentation": [ring]})  # fmt: skip
    return found[1:]


def test_the_same_images_each_time(squares):
    val = squares[1]
    findings = given_findings(perfect(val), val)
    pictures = validation_pictures(findings, val, 3)
    assert list(pictures) == ["validation/1", "validation/2", "validation/3"]
    again = validation_pictures(given_findings([], val), val, 3)
    for name, pixels in pictures.items():
        assert pixels.dtype == np.uint8
        half = (pixels.shape[1] - 8) // 2
        same_picture = np.abs(pixels[:, :half].astype(int) - again[name][:, :half]).mean()
        assert same_picture < 40  # truth of the same image; other colours, as now nothing is found
        assert not np.array_equal(pixels[:, half:], again[name][:, half:])
    assert len(validation_pictures(findings, val, 100)) == len(val)


def test_figures_of_the_end(squares):
    figures = final_figures(given_findings(perfect(squares[1]), squares[1]), squares[1])
    assert set(figures) == {f"evaluation/{name}" for name in ("precision_recall", "confusion", "errors", "calibration")}


class Images:
    """TensorBoard's writer."""

    def __init__(self):
        self.seen = []

    def add_images(self, tag, img_tensor, global_step=None, walltime=None, dataformats="NCHW"):
        self.seen.append((tag, img_tensor.shape, global_step, dataformats))


def bare(kind, **fields):
    """One of Accelerate's trackers, without its start."""
    tracker = object.__new__(kind)
    tracker.__dict__.update(fields)
    return tracker


@pytest.fixture
def alone():
    """Accelerate's trackers ask whether this is the main process."""
    return accelerate.PartialState(cpu=True)


def test_tensorboard_gets_pictures(alone):
    writer = Images()
    send_pictures([bare(TensorBoardTracker, writer=writer)], PICTURES, 20)
    assert writer.seen == [("validation/1", (1, 8, 12, 3), 20, "NHWC"), ("validation/2", (1, 6, 6, 3), 20, "NHWC")]


@pytest.mark.parametrize("late", [False, True])
def test_wandb_gets_pictures(alone, monkeypatch, late):
    """`Run.log(data, step=None, commit=None)`: with neither step nor commit it would count a step of its own."""
    lines = []

    class Run:
        def log(self, data, step=None, commit=None):
            lines.append((data, step, commit))

    module = ModuleType("wandb")
    module.Image = lambda pixels: SimpleNamespace(shape=pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    send_pictures([bare(WandBTracker, run=Run())], PICTURES, 20, late=late)
    assert [(list(data), step, commit) for data, step, commit in lines] == [
        (["validation/1"], None if late else 20, False if late else None),
        (["validation/2"], None if late else 20, False if late else None),
    ]
    assert lines[0][0]["validation/1"][0].shape == (8, 12, 3)


def test_mlflow_gets_pictures(alone, monkeypatch):
    kept = []

    def log_image(image, artifact_file=None, key=None, step=None, timestamp=None, synchronous=False):
        kept.append((image.shape, artifact_file))

    module = ModuleType("mlflow")
    module.log_image = log_image
    monkeypatch.setitem(sys.modules, "mlflow", module)
    send_pictures([bare(MLflowTracker)], PICTURES, 20)
    assert kept == [((8, 12, 3), "validation/1/0000020.png"), ((6, 6, 3), "validation/2/0000020.png")]


def tags_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file), size_guidance={"images": 0})
    events.Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_a_run_with_tensorboard(squares, tmp_path):
    config = tiny_config(**{"train.trackers": ("tensorboard",), "train.log_images": 2})
    train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    tags = tags_of(tmp_path / "run")
    assert tags["validation/1"] == tags["validation/2"] == [3, 6]
    assert tags["evaluation/confusion"] == tags["evaluation/precision_recall"] == [6]
    assert "validation/3" not in tags


def test_early_stopping_ends_with_figures(squares, tmp_path, monkeypatch):
    config = tiny_config(**{"train.trackers": ("tensorboard",), "train.log_images": 1, "train.early_stop": 1,
                            "train.steps": 30, "train.learning_rate": 1e-12})  # fmt: skip
    train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    tags = tags_of(tmp_path / "run")
    assert tags["evaluation/errors"] == [6]


def test_zero_images_is_none(squares, tmp_path):
    config = tiny_config(**{"train.trackers": ("tensorboard",), "train.log_images": 0, "train.steps": 3})
    train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    assert tags_of(tmp_path / "run") == {}


def test_without_a_drawing_library_training_goes_on(squares, tmp_path, monkeypatch, capsys):
    def missing(*arguments):
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr("maskrcnn.training.figures.validation_pictures", missing)
    config = tiny_config(**{"train.trackers": ("tensorboard",), "train.steps": 3})
    train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu")
    said = " ".join(capsys.readouterr().out.split())
    assert "no pictures for the trackers (No module named 'matplotlib'); pip install supervision" in said
    assert tags_of(tmp_path / "run") == {}
