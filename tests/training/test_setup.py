"""Where weights, data and devices come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import maskrcnn.training.setup as setup
from maskrcnn.config import KeypointHeadConfig
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError, WeightsError
from maskrcnn.structures import KeypointSchema
from maskrcnn.training.loop import train
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.native import save_model
from tests.training.tiny_run import tiny_config, write_squares


def start(dataset, weights, out, **changes):
    return setup.initial_model(tiny_config(**changes), dataset, weights, out)


def test_random_weights_depend_on_the_seed_alone(squares, tmp_path):
    first, said = start(squares[0], None, tmp_path)
    torch.rand(5)
    second, _ = start(squares[0], None, tmp_path)
    third, _ = start(squares[0], None, tmp_path, **{"train.seed": 1})
    assert said == "weights: random"
    assert torch.equal(first.box_head.class_logits.weight, second.box_head.class_logits.weight)
    assert not torch.equal(first.box_head.class_logits.weight, third.box_head.class_logits.weight)
    assert first.category_ids == squares[0].category_ids


def test_fine_tuning_other_classes(squares, tmp_path, capsys):
    train(tiny_config(**{"train.steps": 2}), train=squares[0], out=tmp_path / "first", device="cpu", progress=False)
    other = write_squares(tmp_path / "other", 8, classes=("blue", "red"))
    config = tiny_config(**{"train.steps": 1, "train.learning_rate": 1e-9, "train.ema_decay": 0.0})
    options = {"train": other, "device": "cpu"}
    run = train(config, weights=tmp_path / "first", out=tmp_path / "second", **options)
    said = capsys.readouterr().out
    assert "classes kept: red" in said
    assert "classes initialised: blue" in said
    assert "classes dropped: green" in said
    source = load_weights(tmp_path / "first")
    torch.testing.assert_close(
        run.model.box_head.class_logits.weight[1], source.box_head.class_logits.weight[0], atol=1e-5, rtol=0
    )
    run = train(config, weights="last", out=tmp_path / "third", **options)  # the newest run: the second
    assert f"from {tmp_path / 'second'}" in capsys.readouterr().out


def test_last_without_an_earlier_run(squares, tmp_path):
    with pytest.raises(WeightsError, match="no earlier run to take the last weights from; give a path with --weights"):
        start(squares[0], "last", tmp_path / "runs" / "x")


def test_trunk_file(squares, tmp_path, monkeypatch):
    loaded = []
    told = lambda *given, state: loaded.append(given) or "3 tensors"  # noqa: E731
    monkeypatch.setattr(setup, "load_backbone", told)
    path = tmp_path / "mobilenet_v2.pth"
    torch.save({"features.0.0.weight": torch.zeros(1)}, path)
    model, said = start(squares[0], path, tmp_path)
    assert loaded == [(model.backbone, path, None)]
    assert said == "weights: random but for the trunk; 3 tensors"
    _, said = start(squares[0], path, tmp_path, **{"model.image_mean": (0.0, 0.0, 0.0)})
    assert "warning: resnet18 was trained with model.image_mean [123.675" in said


def test_published_detector(squares, tmp_path, monkeypatch):
    source, _ = start(squares[0], None, tmp_path, **{"train.seed": 3})
    config = tiny_config(**{"model.image_mean": (1.0, 2.0, 3.0)})
    monkeypatch.setattr("maskrcnn.weights.start.open_weights", lambda path: (source, config))
    model, said = start(squares[0], "torchvision:maskrcnn_resnet50_fpn", tmp_path)
    assert "from torchvision:maskrcnn_resnet50_fpn" in said
    assert "warning: made with model.image_mean [1.0, 2.0, 3.0] (here [123.675" in said
    assert torch.equal(model.box_head.class_logits.weight, source.box_head.class_logits.weight)


def test_another_family_of_networks_is_named(squares, tmp_path):
    torch.save({"model.0.conv.weight": torch.zeros(1)}, tmp_path / "best.pt")
    with pytest.raises(WeightsError, match=r"best.pt: this is a YOLO checkpoint"):
        start(squares[0], tmp_path / "best.pt", tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "trunk.pth")
    with pytest.raises(WeightsError, match=r"not weights of this trunk .* choose the matching model.backbone.name"):
        start(squares[0], tmp_path / "trunk.pth", tmp_path)


def test_keypoints_of_data_and_model_must_go_together(squares, tmp_path):
    with pytest.raises(ConfigError, match=r"model.keypoint: the data set has no keypoints; set it to null"):
        start(squares[0], None, tmp_path, **{"model.keypoint": KeypointHeadConfig(channels=8)})
    pointed = replace(squares[0], keypoints=KeypointSchema(("tip",)))
    assert "the model no head for them (model.keypoint null)" in setup.resolve(tiny_config(), pointed)[1][0]


def test_weights_of_another_width_are_warned_of(squares, tmp_path):
    model, _ = start(squares[0], None, tmp_path)
    state = model.state_dict()
    assert "warning" not in setup._transferred(model, state, model.classes)
    wide = {name: torch.zeros((*tensor.shape, 2)) for name, tensor in state.items()}
    said = setup._transferred(model, wide, model.classes)
    assert "warning: only 0 of" in said
    assert "tensors fit: these weights are probably of another trunk or width than" in said


def test_weights_that_are_not_there(squares, tmp_path):
    with pytest.raises(WeightsError, match=r"gone.pth: unknown|gone.pth: no such file"):
        start(squares[0], tmp_path / "gone.pth", tmp_path)
    (tmp_path / "bad.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"bad.pth: plain text, not weights; download the file itself"):
        start(squares[0], tmp_path / "bad.pth", tmp_path)


def test_splits_are_used(squares):
    records = [replace(r, split="train") for r in squares[0]] + [replace(r, split="val") for r in squares[1]]
    both = replace(squares[0], records=records)
    first, second = setup.open_data(both, None)
    assert (len(first), len(second)) == (12, 4)
    first, second = setup.open_data(squares[0], both)
    assert (len(first), len(second)) == (12, 4)
    assert setup.open_data(squares[0], None)[1] is None


def test_paths_are_opened(squares, monkeypatch):
    monkeypatch.setattr(setup, "open_dataset", lambda path: squares[path == "b"])
    assert setup.open_data("a", "b") == squares


def test_classes_of_the_validation(squares):
    same = setup.check_classes(squares[0], squares[1])
    more = setup.check_classes(squares[0], replace(squares[1], classes=("red", "blue")))
    assert same == []
    assert more == ["warning: no training data for blue: never found in the validation"]
    with pytest.raises(DataError, match=r"no class in common with the training data: it has x, y, .* red, green"):
        setup.check_classes(squares[0], replace(squares[1], classes=("x", "y")))


def test_detections_follow_the_data(squares):
    crowded = squares[0][0]
    many = replace(
        crowded,
        boxes=crowded.boxes.repeat(200, axis=0),
        labels=crowded.labels.repeat(200),
        crowd=crowded.crowd.repeat(200),
    )
    config, lines = setup.resolve(tiny_config(), Dataset([many], ("red", "green"), (1, 2)))
    assert config.model.box.detections_per_image == len(many)
    assert lines[0].startswith(f"up to {len(many)} objects in one image") or not many.masks
    assert setup.resolve(tiny_config(), squares[0])[0].model.box.detections_per_image == 100


def test_batch_divides_over_processes(tmp_path):
    config = tiny_config(**{"train.batch_size": 6, "train.accumulate": 3}).train
    assert setup.make_accelerator(config, tmp_path, "cpu").num_processes == 1


def test_device_may_change_between_runs(tmp_path):
    options = tiny_config().train
    assert setup.make_accelerator(options, tmp_path, "auto").device.type in ("cpu", "cuda", "mps")
    assert setup.make_accelerator(options, tmp_path, "cpu").device.type == "cpu"


def test_checkpoint_of_an_interrupted_save_is_found(squares, tmp_path):
    model, _ = start(squares[0], None, tmp_path)
    folder = save_model(model, tmp_path / "run" / "checkpoints" / "last")
    folder.rename(folder.with_name("last.old"))
    assert "tensors kept" in start(squares[0], tmp_path / "run", tmp_path / "new")[1]


def test_unknown_class_twice_is_refused(squares, tmp_path):
    with pytest.raises(ConfigError, match="twice"):
        start(replace(squares[0], classes=("red", "red")), None, tmp_path)


def test_quiet_single_process_is_noticed(monkeypatch):
    assert setup.launch_notes() == []
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert "use torchrun --nproc_per_node N" in setup.launch_notes()[0]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert setup.launch_notes() == []
