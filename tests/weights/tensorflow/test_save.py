"""Our model -> a checkpoint of TensorFlow with its pipeline.config and label map."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskrcnn.config import Config
from maskrcnn.errors import WeightsError
from maskrcnn.model.build import build_model
from maskrcnn.pipeline.read import read_pipeline
from maskrcnn.presets import preset
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.tensorflow.model import load_tensorflow, open_tensorflow
from maskrcnn.weights.tensorflow.save import save_tensorflow
from tests.weights.tensorflow.golden import tiny

NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def _loud():
    """Warnings are part of what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_there_and_back_again(tmp_path: Path):
    source = load_tensorflow(tiny() / "ckpt", classes=["a cup", "unused 2", "jug"])
    files = save_tensorflow(source, tmp_path / "new" / "model.ckpt")
    assert sorted(file.name for file in files) == sorted(file.name for file in (tmp_path / "new").iterdir())
    found = load_weights(tmp_path / "new")
    assert (found.config, found.data, found.classes) == (source.config, source.data, source.classes)
    assert found.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in found.state_dict().items())
    with pytest.raises(WeightsError, match=r"model\.ckpt\.index: is there already; choose an empty folder"):
        save_tensorflow(source, tmp_path / "new" / "model.ckpt")


def test_the_checkpoint_holds_what_the_original_code_wrote(tmp_path: Path):
    source = tiny() / "ckpt" / "model.ckpt"
    save_tensorflow(load_tensorflow(source, classes=NAMES), tmp_path / "model.ckpt")
    for end in (".index", ".data-00000-of-00001"):  # global_step too
        assert (tmp_path / f"model.ckpt{end}").read_bytes() == source.with_name(f"model.ckpt{end}").read_bytes()


def test_models_that_the_api_cannot_express_are_refused(tmp_path: Path):
    prefix = tmp_path / "model.ckpt"
    with pytest.raises(WeightsError, match=r"\(resnet18, with a pyramid\) has no counterpart"):
        save_tensorflow(build_model(preset("shapes").model, classes=NAMES), prefix)
    usual = load_tensorflow(tiny() / "ckpt", classes=NAMES).config
    aligned = replace(usual, box=replace(usual.box, pooler=replace(usual.box.pooler, kind="roi_align")))
    data = preset("mask_rcnn_inception_v2_coco").data
    with pytest.raises(WeightsError, match=r"cannot express the model: model\.box\.pooler\.kind: 'roi_align'"):
        save_tensorflow(build_model(aligned, classes=NAMES, data=data), prefix)
    with pytest.raises(WeightsError, match=r"cannot express the model: data\.interpolation: 'antialias'"):
        save_tensorflow(build_model(usual, classes=NAMES), prefix)
    keras = replace(usual, backbone=replace(usual.backbone, stage_two_padding="same"))
    with pytest.raises(WeightsError, match=r"as Keras does it .* no checkpoint of TF1"):
        save_tensorflow(build_model(keras, classes=NAMES, data=data), prefix)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["checkpoint", "model.ckpt.data-00000-of-00002", "pipeline.config", "label_map.pbtxt"])
def test_no_file_is_replaced(tmp_path: Path, name: str):
    (tmp_path / name).write_text("precious")
    (tmp_path / "model.ckpt-7.data-00000-of-00001").touch()
    with pytest.raises(WeightsError, match=rf"{name}: is there already; choose an empty folder"):
        save_tensorflow(load_tensorflow(tiny() / "ckpt", classes=NAMES), tmp_path / "model.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, "model.ckpt-7.data-00000-of-00001"])
    assert (tmp_path / name).read_text() == "precious"


# ---------------------------------------------------------------- the schedule


def test_a_pipeline_config_stays_as_it_was(tmp_path: Path):
    shutil.copytree(tiny() / "ckpt", tmp_path / "old")
    text = (tiny() / "pipeline.config").read_text()
    text = "# mine\n" + text.replace("eval_config {", 'eval_config {\n  metrics_set: "coco_mask_metrics"')
    text = text.replace("num_steps: 200000", 'num_steps: 777\n  fine_tune_checkpoint: "there"')
    (tmp_path / "old" / "pipeline.config").write_text(text)
    model, run, pipeline = open_tensorflow(tmp_path / "old", classes=NAMES)
    save_tensorflow(model, tmp_path / "new" / "model.ckpt", run=run, pipeline=pipeline)
    written = (tmp_path / "new" / "pipeline.config").read_text()
    old, new = (read_pipeline(tmp_path / folder / "pipeline.config") for folder in ("old", "new"))
    assert new.config == old.config
    for here, there in ((new.train_data, old.train_data), (new.val_data, old.val_data)):
        assert here
        assert here == replace(there, lines=here.lines)
    assert new.metrics == ("coco_mask_metrics",)
    assert (new.steps, new.fine_tune_checkpoint) == (777, "there")
    assert "# mine" in written


def written_run(tmp_path: Path, **changes: object) -> Config:
    """What is read back of a run with other fields than the thin model's."""
    model, run, _ = open_tensorflow(tiny() / "ckpt", classes=NAMES)
    save_tensorflow(model, tmp_path / "model.ckpt", run=run.replace(**changes))
    return read_pipeline(tmp_path / "pipeline.config").config


def test_the_schedule_of_a_run_is_kept(tmp_path: Path):
    changes = {
        "train.learning_rate": 0.007,
        "train.rates": ((0, 0.007), (500, 0.0007)),
        "train.steps": 900,
        "train.batch_size": 3,
        "train.learning_rate_batch": 3,
        "data.vertical_flip": 0.5,
        "train.seed": 5,  # which no pipeline.config has
    }
    found = written_run(tmp_path, **changes)
    assert (found.train.rates, found.train.steps) == (((0, 0.007), (500, 0.0007)), 900)
    assert (found.train.batch_size, found.data.vertical_flip, found.train.seed) == (3, 0.5, 0)


def test_a_schedule_that_cannot_be_said_is_replaced_and_that_is_told(tmp_path: Path):
    with pytest.warns(
        UserWarning,
        match=r"pipeline\.config: has the schedule of mask_rcnn_inception_v2_coco, not that of the run \(train\.",
    ):
        found = written_run(tmp_path, **{"train.optimizer": "adamw", "data.vertical_flip": 0.5})
    assert found.train.rates == preset("mask_rcnn_inception_v2_coco").train.rates
    assert found.data.vertical_flip == 0.5


def test_epochs_cannot_be_said(tmp_path: Path):
    with pytest.warns(UserWarning, match="num_steps is 0, without an end: the run counts epochs; set it"):
        assert written_run(tmp_path, **{"train.steps": None}).train.steps is None


def test_ids_with_gaps_are_counted_anew_and_that_is_told(tmp_path: Path):
    source = load_tensorflow(tiny() / "ckpt", classes=NAMES)
    source.category_ids = (1, 5, 7)
    with pytest.warns(UserWarning, match=r"label_map\.pbtxt: the ids 1, 5, 7 became 1, 2, 3: checkpoints number"):
        save_tensorflow(source, tmp_path / "model.ckpt")
