"""The parts on tiny models: that each measures what it says, not how fast that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from maskrcnn import cli, export
from maskrcnn.benchmark import evaluation, exported, infer, loader, run, scaling, train
from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.settings import make_settings
from maskrcnn.benchmark.subject import Subject, photo, photo_size, random_subject, targets
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.presets import PRESETS
from maskrcnn.training.checkpoint import State, save_best
from tests.model.tiny import tiny_config, tiny_model

SIZE = "64x96"


def a_context(**keywords: object) -> Context:
    settings = make_settings(repeat=2, **{"size": SIZE, **keywords})  # type: ignore[arg-type]
    return Context(settings, torch.device("cpu"), "float32", lambda text: None)


def a_subject(**changes: object) -> Subject:
    return random_subject("tiny", tiny_config(**{"data.workers": 0, **changes}), 3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=6, val=3, size=(64, 96))


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_inference_by_batch_size_and_part() -> None:
    context = a_context(parts=["infer"], batch="1,2", size="64x96,96x96")
    rows = infer.run(context, a_subject())
    whole = [row for row in rows if row.name == "whole call"]
    assert [(row.batch, row.size) for row in whole] == [(1, (64, 96)), (2, (64, 96)), (1, (96, 96)), (2, (96, 96))]
    assert [row.extra["detections"] for row in whole] == [40, 80, 40, 80]  # random weights, every slot is filled
    assert all(row.repeat == 2 and row.median_ms > 0 and row.images_per_second for row in whole)
    parts = [row.name.removeprefix("part: ") for row in rows if row.name.startswith("part: ")]
    assert parts == 2 * [part for part in infer.PARTS if part != "stage two"]  # another arrangement has that
    assert "40 detections an image, so that masks and RLE are timed too" in context.notes[0]


def test_the_parts_do_the_arithmetic_of_the_whole_call() -> None:
    rows = by_name(infer.run(a_context(parts=["infer"]), a_subject()))
    inside = sum(row.gflop or 0 for name, row in rows.items() if name.startswith("part: "))
    assert inside == pytest.approx(rows["whole call"].gflop)
    assert rows["part: trunk"].gflop
    assert rows["part: proposals"].gflop is None
    (sentence,) = infer.where_it_goes(run.with_limit(list(rows.values()), [{"best": 1.0}])[0])
    assert sentence.startswith("64x96: of ")


def test_a_model_without_masks() -> None:
    rows = by_name(infer.run(a_context(parts=["infer"]), a_subject(**{"model.mask": None})))
    assert "part: mask head" not in rows
    assert rows["whole call"].extra == {"detections": 40}
    assert by_name(train.run(a_context(parts=["train"]), a_subject(**{"model.mask": None})))["step"].median_ms > 0


def test_inference_leaves_the_subject_as_it_was() -> None:
    subject = a_subject()
    before = subject.model.data
    infer.run(a_context(parts=["infer"]), subject)
    assert subject.model.data == before


def test_no_share_of_the_limit_is_above_one() -> None:
    row = Row("infer", "part: trunk", "m", 1, (64, 96), 10.0, 10.0, 0.0, 1, gflop=2.0)
    (shared,), peak = run.with_limit([row], [{"best": 100.0, "matrix": 1.0}, {"best": 90.0, "matrix": 2.0}])
    assert (shared.limit_share, peak) == (1.0, {"best": 200.0, "matrix": 2.0})


def test_the_step_is_its_parts_and_trains_nothing() -> None:
    subject = a_subject()
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    rows = by_name(train.run(a_context(parts=["train"], batch="2"), subject))
    assert set(rows) == {"step", "part: forward", "part: backward", "part: optimiser"}
    step = rows["step"]
    assert (step.batch, step.size) == (2, (64, 96))
    assert step.gflop
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_made_up_targets() -> None:
    made = targets(2, (64, 96), 3, 8)
    assert made.masks.shape == (2, 8, 8, 8)
    assert (made.boxes >= 0).all()
    assert (made.boxes <= torch.tensor([96.0, 64, 96, 64])).all()
    assert made.labels.max() < 3
    assert targets(1, (64, 96), 3, 0).masks.shape == (1, 8, 0, 0)


def test_photos_have_the_proportions_of_the_input() -> None:
    assert photo_size(None) == (480, 640)
    assert photo_size((320, 448)) == (457, 640)
    config = tiny_config()
    assert photo((64, 96), config.model, config.data).shape == (3, 64, 96)


def test_a_model_of_raw_channels() -> None:
    five = {"model.image_mean": (0.0,) * 5, "model.image_std": (1.0,) * 5, "data.pixels": "raw"}
    plain = dict.fromkeys(["data.brightness", "data.contrast", "data.saturation"], 0.0)
    subject = a_subject(**five, **plain)
    assert by_name(infer.run(a_context(parts=["infer"]), subject))["whole call"].extra["detections"] == 40
    assert by_name(train.run(a_context(parts=["train"]), subject))["step"].median_ms > 0


def test_the_loader_and_how_long_training_would_wait(shapes: Path) -> None:
    context = a_context(parts=["data"], data=[str(shapes)], batch="2")
    step = Row("train", "step", "tiny", 2, (64, 96), 100.0, 100.0, 0.0, 1)
    (row,) = loader.run(context, a_subject(), open_dataset(shapes), [step])
    assert row.extra["batch_mib"] > 2 * 3 * 64 * 96 / 2**20
    assert row.extra["images"] == 4
    assert 0 < row.extra["wait_share"] < 1
    assert "would wait" in context.notes[0]


def test_shares_of_waiting() -> None:
    assert loader.wait_share(50.0, 100.0, ahead=True) == 0
    assert loader.wait_share(200.0, 100.0, ahead=True) == 0.5
    assert loader.wait_share(100.0, 300.0, ahead=False) == 0.25


@pytest.mark.parametrize("given", [True, False])
def test_evaluation(given: bool, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SYNTHETIC", 2)
    rows = by_name(evaluation.run(a_context(parts=["eval"]), a_subject(), open_dataset(shapes) if given else None))
    assert list(rows) == [
        "truth",
        "scoring",
        "load and resize",
        "network",
        "predictions to RLE",
        "whole evaluation",
    ]
    count = 3 if given else 2
    assert rows["scoring"].extra["results"] == 100 * count
    assert rows["whole evaluation"].extra["images"] == count


def test_made_up_results_are_real_ones(shapes: Path) -> None:
    from maskrcnn.evaluation.coco import GroundTruth, measure

    dataset = open_dataset(shapes).split("val")
    metrics = measure(GroundTruth(dataset), evaluation.made_up_results(dataset))
    assert metrics.box["ar_100"] > 0.5
    assert metrics.mask is not None
    assert metrics.mask["ar_100"] > 0.5


def test_scaling_counts_what_it_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "PROPOSALS", (10, 20))
    monkeypatch.setattr(scaling, "DETECTIONS", (5, 10))
    monkeypatch.setattr(scaling, "CLASSES", (2, 4))
    monkeypatch.setattr(scaling, "AREAS", (0.5, 1.0))
    rows = by_name(scaling.run(a_context(parts=["infer"], size="128x128"), a_subject()))
    points = {name.removeprefix("scaling: "): row.extra["x"] for name, row in rows.items()}
    assert points["proposals"] == [10, 20]
    assert points["detections"] == [5, 10]
    assert points["classes"] == [2, 4]
    assert points["image area"] == pytest.approx([96 * 96 / 1e6, 128 * 128 / 1e6])


@pytest.mark.slow
def test_exported_files_next_to_pytorch(tmp_path: Path) -> None:
    export(tiny_model(), tmp_path / "m.onnx")
    rows = exported.run(a_context(models=[str(tmp_path / "m.onnx")]))
    assert [row.model for row in rows] == [str(tmp_path / "m.onnx"), "PyTorch"]
    assert [row.extra["detections"] for row in rows] == [40, 40]
    assert rows[0].extra["file_mb"] > 1
    assert rows[0].extra["load_s"] > 0


def test_every_preset_can_be_asked_for() -> None:
    assert [make_settings(preset_name=name).preset for name in PRESETS] == list(PRESETS)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "peak_gflops", lambda device, precision: {"best": 100.0})
    save_best(tmp_path / "run", model=tiny_model(), state=State(), config=tiny_config())
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    command = ["benchmark", "infer", "--model", str(tmp_path / "run"), "--repeat", "1", "--device", "cpu"]
    assert cli.main([*command, "--size", SIZE, "--json", str(first)]) == 0
    saved = json.loads(first.read_text())
    assert (saved["schema"], saved["schema_version"]) == ("maskrcnn-benchmark", 1)
    assert {"machine", "versions", "config", "rows", "notes", "date"} < set(saved)
    assert saved["config"]["network"]["model"]["fpn"]["channels"] == 32
    assert cli.main([*command, "--size", SIZE, "--json", str(second), "--compare", str(first)]) == 0
    shown = capsys.readouterr()
    assert "whole call" in shown.out
    assert "above 1x it is faster now" in shown.out
    assert "not comparable" not in shown.out
    assert "infer: 1 images at a time, input 64x96" in shown.err


def test_targets_with_keypoints_lie_in_their_boxes():
    made = targets(2, (64, 96), 3, 8, points=5)
    assert made.keypoints is not None
    assert made.keypoints.shape == (2, 8, 5, 3)
    places, boxes = made.keypoints[..., :2], made.boxes[:, :, None]
    assert ((places >= boxes[..., :2]) & (places <= boxes[..., 2:])).all()
    assert (made.keypoints[..., 2] == 2).all()
