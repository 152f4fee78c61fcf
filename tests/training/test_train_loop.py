"""The loop: it learns, it stops with one sentence, it goes on exactly where it was killed."""

from __future__ import annotations

import json
import math
from threading import Event

import pytest
import torch
from safetensors.torch import load_file

import maskrcnn.training.loop as loop
import maskrcnn.training.scoring as scoring
from maskrcnn.errors import ConfigError, DataError, TrainingError
from maskrcnn.training.loop import train
from maskrcnn.weights.native import load_model
from tests.training.tiny_run import tiny_config, write_squares


class Killed(BaseException):
    """As sudden as a signal: nothing in the package may catch it."""


def read_lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def train_until_killed(number, monkeypatch, *args, **options):
    """Train; a kill comes inside step `number`."""
    real, calls = loop.backward, []

    def backward(*args):
        calls.append(None)
        if len(calls) == number:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "backward", backward)
        train(*args, **options)


def test_run_folder_and_result(squares, tmp_path):
    out = tmp_path / "run"
    run = train(tiny_config(), train=squares[0], val=squares[1], out=out, device="cpu", progress=False)
    assert run.checkpoint == out / "checkpoints" / "best"
    assert (out / "checkpoints" / "last" / "state.safetensors").is_file()
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["best", "last"]
    assert run.metrics == load_model(run.checkpoint)[2]["metrics"]
    assert "box" in run.metrics
    losses = [line for line in read_lines(out) if "loss/total" in line]
    assert [line["step"] for line in losses] == [2, 4, 6]
    assert set(losses[0]) >= {"loss/rpn_score", "loss/rpn_box", "loss/class", "loss/box", "loss/mask", "learning_rate"}
    assert not run.model.training
    assert run.model.classes == ("red", "green")


def test_loss_falls(squares, tmp_path):
    config = tiny_config(**{"train.steps": 40, "train.learning_rate": 0.01, "train.evaluate_every": 0.0})
    train(config, train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    losses = [line["loss/total"] for line in read_lines(tmp_path / "run")]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resume_is_exact(squares, tmp_path, monkeypatch, optimizer, ema):
    config = tiny_config(
        **{"train.optimizer": optimizer, "train.ema_decay": ema, "train.steps": 7, "model.backbone.norm": "bn"}
    )
    options = {"train": squares[0], "val": squares[1], "device": "cpu", "progress": False}
    whole = train(config, out=tmp_path / "whole", **options)
    with pytest.raises(Killed):  # checkpoints at steps 3 and 6: two steps of work are lost
        train_until_killed(6, monkeypatch, config, out=tmp_path / "killed", **options)
    assert json.loads((tmp_path / "killed/checkpoints/last/state.json").read_text())["step"] == 3
    resumed = train(config, out=tmp_path / "killed", resume=True, **options)
    for name in ("last/model", "last/state", "best/model"):
        first = load_file(tmp_path / f"whole/checkpoints/{name}.safetensors")
        second = load_file(tmp_path / f"killed/checkpoints/{name}.safetensors")
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert resumed.metrics | {"speed": None} == whole.metrics | {"speed": None}
    without_speed = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_lines(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    # Scores come when they are ready, each under its own step.
    assert sorted(line["step"] for line in without_speed[0]) == sorted(line["step"] for line in without_speed[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_mid_epoch(squares, tmp_path, monkeypatch, workers):
    config = tiny_config(**{"train.save_every": 1 / 3, "train.evaluate_every": 0.0, "data.workers": workers})
    options = {"train": squares[0], "device": "cpu", "progress": False}
    train(config, out=tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train_until_killed(3, monkeypatch, config, out=tmp_path / "killed", **options)
    train(config, out=tmp_path / "killed", resume=True, **options)
    first = load_file(tmp_path / "whole/checkpoints/last/model.safetensors")
    second = load_file(tmp_path / "killed/checkpoints/last/model.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_resume_errors(squares, tmp_path, monkeypatch):
    config, out = tiny_config(**{"train.evaluate_every": 0.0}), tmp_path / "run"
    options = {"train": squares[0], "out": out, "device": "cpu", "progress": False}
    with pytest.raises(TrainingError, match=r"nothing to resume.*leave --resume out"):
        train(config, resume=True, **options)
    with pytest.raises(Killed):
        train_until_killed(5, monkeypatch, config, **options)
    with pytest.raises(TrainingError, match=r"not empty; continue that run with --resume or choose another folder"):
        train(config, **options)
    changed = config.replace(**{"train.learning_rate": 0.5, "data.workers": 1, "train.log_every": 1})
    with pytest.raises(TrainingError, match=r"train.learning_rate was 0.001, is 0.5; take") as caught:
        train(changed, resume=True, **options)
    assert "workers" not in str(caught.value)
    assert "log_every" not in str(caught.value)
    other = write_squares(tmp_path / "other", 12, classes=("red", "blue"))
    with pytest.raises(TrainingError, match=r"knows the classes red, green, but .* has red, blue"):
        train(config, resume=True, **(options | {"train": other}))
    other = write_squares(tmp_path / "other", 11)
    with pytest.raises(TrainingError, match=r"training data .* changed since the run began"):
        train(config, resume=True, **(options | {"train": other}))
    train(config, resume=True, **options)
    with pytest.raises(TrainingError, match=r"finished \(6 steps\); to train longer start a new --out with --weights"):
        train(config, resume=True, **options)


@pytest.mark.parametrize("killed", [False, True])
def test_a_schedule_in_steps_may_get_longer(squares, tmp_path, monkeypatch, killed):
    rates = {"train.schedule": "manual", "train.rates": ((0, 0.01), (4, 0.001)), "train.evaluate_every": 0.0}
    short, long = (tiny_config(**rates, **{"train.steps": steps}) for steps in (6, 9))
    options = {"train": squares[0], "device": "cpu", "progress": False}
    train(long, out=tmp_path / "whole", **options)
    out = tmp_path / "longer"
    if killed:
        with pytest.raises(Killed):
            train_until_killed(5, monkeypatch, short, out=out, **options)
    else:
        train(short, out=out, **options)
        with pytest.raises(TrainingError, match=r"finished \(6 steps\); to train longer give more train.steps"):
            train(short, out=out, resume=True, **options)
        with pytest.raises(TrainingError, match="6 steps are done, and 5 are asked for; give more"):
            train(short.replace(**{"train.steps": 5}), out=out, resume=True, **options)
    train(long, out=out, resume=True, **options)
    first, second = (load_file(tmp_path / name / "checkpoints/last/model.safetensors") for name in ("whole", "longer"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_schedule_fitted_to_the_run_may_not_get_longer(squares, tmp_path):
    config, options = tiny_config(**{"train.steps": 1}), {"train": squares[0], "out": tmp_path / "run", "device": "cpu"}
    train(config, **options)
    with pytest.raises(TrainingError, match=r"train.steps was 1, is 2, but the learning rate is fitted to the length"):
        train(config.replace(**{"train.steps": 2}), resume=True, **options)


def test_bad_loss_stops_with_images_and_parts(squares, tmp_path, monkeypatch):
    out, real, calls = tmp_path / "run", loop.backward, []

    def backward(*args):
        calls.append(None)
        losses = real(*args)
        return losses | {"mask": losses["mask"] * math.nan} if len(calls) == 5 else losses

    monkeypatch.setattr(loop, "backward", backward)
    with pytest.raises(TrainingError) as caught:
        train(tiny_config(), train=squares[0], out=out, device="cpu", progress=False)
    message = str(caught.value)
    assert "step 5: the loss is not finite" in message
    assert "mask nan" in message
    assert ".png" in message
    assert str(out / "checkpoints" / "last") in message
    assert load_model(out / "checkpoints" / "last")[2]["step"] == 3
    assert all(tensor.isfinite().all() for tensor in load_file(out / "checkpoints/last/model.safetensors").values())


def test_infinite_gradient_never_reaches_the_weights(squares, tmp_path, monkeypatch):
    real = loop.backward

    def backward(model, *args):
        losses = real(model, *args)
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(math.inf)
        return losses

    monkeypatch.setattr(loop, "backward", backward)
    with pytest.raises(TrainingError, match=r"step 1: the loss is not finite .*gradient norm inf.*no checkpoint"):
        train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)


def test_out_of_memory_halves_the_micro_batch(squares, tmp_path, monkeypatch, capsys):
    real, sizes = loop.backward, []

    def backward(model, network, batches, *args):
        sizes.append([len(batch.images) for batch in batches])
        if len(batches[0].images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(model, network, batches, *args)

    monkeypatch.setattr(loop, "backward", backward)
    run = train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu")
    assert sizes[:3] == [[4], [2, 2], [1, 1, 1, 1]]
    assert len(sizes) == 2 + 6
    said = " ".join(capsys.readouterr().out.split())
    assert "step 1: out of memory on cpu; going on with train.accumulate 2: micro-batches of 2 images" in said
    assert json.loads((run.checkpoint / "state.json").read_text())["accumulate"] == 4


def test_out_of_memory_with_one_image_is_an_error(squares, tmp_path, monkeypatch):
    def backward(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(loop, "backward", backward)
    with pytest.raises(TrainingError, match=r"one image already; make data.min_size"):
        train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)


def test_other_runtime_errors_pass(squares, tmp_path, monkeypatch):
    def backward(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(loop, "backward", backward)
    with pytest.raises(RuntimeError, match=r"a bug"):
        train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)


class FixedMetrics:
    mask = keypoint = None
    speed = {"score": 0.0}

    def __init__(self, ap):
        self.box = {"ap": ap}

    def to_dict(self):
        return {"box": self.box}


def test_best_checkpoint_and_early_stop(squares, tmp_path, monkeypatch):
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    monkeypatch.setattr(scoring, "score", lambda *args, **kwargs: FixedMetrics(next(scores)))
    config = tiny_config(**{"train.steps": 30, "train.early_stop": 2})
    run = train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    assert run.metrics == {"box": {"ap": 0.5}}
    assert load_model(run.checkpoint)[2]["step"] == 6  # 12 images in batches of 4: three steps an epoch
    last = json.loads((tmp_path / "run/checkpoints/last/state.json").read_text())
    assert (last["step"], last["finished"], last["best_step"]) == (12, True, 6)


def test_without_objects_to_validate_on_the_latest_is_best(squares, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "score", lambda *args, **kwargs: FixedMetrics(-1.0))
    run = train(tiny_config(), train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu")
    assert load_model(run.checkpoint)[2]["step"] == 6
    assert "step 6: box AP - (best so far)" in capsys.readouterr().out


@pytest.mark.parametrize(("keep", "expected"), [(0, []), (2, [6, 9]), (-1, [3, 6, 9])])
def test_numbered_checkpoints(squares, tmp_path, keep, expected):
    config = tiny_config(**{"train.steps": 9, "train.keep_checkpoints": keep})
    train(config, train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    folders = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert folders == [f"step-{step:06d}" for step in expected]
    assert all(load_model(tmp_path / "run" / "checkpoints" / name) for name in folders)


def test_plan_and_lines(squares, tmp_path, capsys):
    train(tiny_config(), train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu")
    said = capsys.readouterr().out
    for part in [
        "data: 12 images",
        "validation: 4 images",
        "classes (2): ",
        "schedule: 6 steps, 2.0 epochs, 3 steps an epoch; batch 4",
        "optimiser: adamw, learning rate 0.0005",
        "parameters train",
        "device: cpu, float32",
        "weights: random",
        "step 2/6",
        "images/s",
        "left",
        "box AP",
        "checkpoint: ",
    ]:
        assert part in said, part


def test_silent_without_progress(squares, tmp_path, capsys):
    train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    assert capsys.readouterr().out == ""


def test_tensorboard_by_default(squares, tmp_path):
    config = tiny_config(**{"train.trackers": ("tensorboard",), "train.steps": 2})
    train(config, train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.trackers": ("tensorbored",)}, "train.trackers: unknown tracker 'tensorbored'; known: .*tensorboard"),
        ({"train.trackers": ("aim",)}, "train.trackers: aim is not installed; pip install aim"),
        ({"model.mask": None, "train.monitor": "mask"}, "train.monitor: 'mask', but there is no mask head"),
    ],
)
def test_bad_config(squares, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(**changes), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_bad_device(squares, tmp_path):
    with pytest.raises(TrainingError, match=r"--device tpu: unknown; use auto"):
        train(tiny_config(), train=squares[0], out=tmp_path / "run", device="tpu", progress=False)


def test_no_images(squares, tmp_path):
    with pytest.raises(DataError, match=r"no images to train on"):
        train(tiny_config(), train=squares[0][:0], out=tmp_path / "run", device="cpu", progress=False)


def test_bf16_trains_and_saves_float32(squares, tmp_path):
    config = tiny_config(**{"train.precision": "bf16", "train.steps": 2})
    run = train(config, train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert all(math.isfinite(line["loss/total"]) for line in read_lines(tmp_path / "run"))


def test_minutes_end_in_time(squares, tmp_path):
    import time

    config = tiny_config(**{"train.steps": None, "train.minutes": 0.1, "train.evaluate_every": 0.0})
    began = time.monotonic()
    run = train(config, train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    assert time.monotonic() - began < 8
    assert load_model(run.checkpoint)[2]["step"] > 20
    rates = [line["learning_rate"] for line in read_lines(tmp_path / "run") if "learning_rate" in line]
    assert rates[-1] < 0.1 * max(rates)  # the cosine came to its end


def test_boxes_only_data_trains_without_mask_head(squares, tmp_path):
    from dataclasses import replace

    boxes_only = replace(squares[0], records=[replace(record, masks=()) for record in squares[0]])
    run = train(tiny_config(), train=boxes_only, out=tmp_path / "run", device="cpu", progress=False)
    assert run.model.mask_head is None


def slow_score(started, release):
    """Scoring that waits until it may go on."""
    real = scoring.score

    def score(*args, **options):
        started.set()
        assert release.wait(30)
        return real(*args, **options)

    return score


def test_steps_go_on_while_scores_are_counted(squares, tmp_path, monkeypatch):
    """The second epoch's first step does not wait for the score of the first."""
    started, release = Event(), Event()
    monkeypatch.setattr(scoring, "score", slow_score(started, release))
    real, steps = loop.backward, []

    def backward(*args):
        steps.append(started.is_set())
        if len(steps) == 5:  # the evaluation after step 3 is on its way still
            assert not (tmp_path / "run/checkpoints/best").exists()
            release.set()
        return real(*args)

    monkeypatch.setattr(loop, "backward", backward)
    run = train(tiny_config(), train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
    assert steps == [False] * 3 + [True] * 3
    assert run.checkpoint.exists()
    scored = [line["step"] for line in read_lines(tmp_path / "run") if "box/ap" in line]
    assert scored == [3, 6]


def test_a_run_killed_before_its_score_evaluates_again(squares, tmp_path, monkeypatch):
    options = {"train": squares[0], "val": squares[1], "device": "cpu", "progress": False}
    whole = train(tiny_config(), out=tmp_path / "whole", **options)
    started, release = Event(), Event()
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "score", slow_score(started, release))
        patch.setattr(scoring.Scoring, "close", lambda self: release.set())
        with pytest.raises(Killed):
            train_until_killed(5, monkeypatch, tiny_config(), out=tmp_path / "killed", **options)
    state = json.loads((tmp_path / "killed/checkpoints/last/state.json").read_text())
    assert (state["step"], state["pending"], state["best"]) == (3, 3, None)
    resumed = train(tiny_config(), out=tmp_path / "killed", resume=True, **options)
    assert resumed.metrics | {"speed": None} == whole.metrics | {"speed": None}
    for name in ("whole", "killed"):
        assert [line["step"] for line in read_lines(tmp_path / name) if "box/ap" in line] == [3, 6]
    last = [json.loads((tmp_path / name / "checkpoints/last/state.json").read_text()) for name in ("whole", "killed")]
    assert all(state["pending"] == 0 for state in last)
    assert last[0]["best_step"] == last[1]["best_step"]


def test_a_score_that_fails_ends_the_run(squares, tmp_path, monkeypatch):
    def score(*args, **options):
        raise DataError("a broken mask")

    monkeypatch.setattr(scoring, "score", score)
    with pytest.raises(DataError, match="a broken mask"):
        train(tiny_config(), train=squares[0], val=squares[1], out=tmp_path / "run", device="cpu", progress=False)
