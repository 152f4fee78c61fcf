from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from maskrcnn.config import DataConfig
from maskrcnn.errors import ConfigError, ExportError, WeightsError
from maskrcnn.evaluation.evaluate import evaluate
from maskrcnn.exporting.export import export
from maskrcnn.exporting.traced import trace
from maskrcnn.exporting.verify import compare, verify
from maskrcnn.predict.exported.info import ExportInfo
from maskrcnn.predict.predictor import Predictor
from maskrcnn.structures import Detections
from tests.model.tiny import tiny_model
from tests.predict.test_predictor import assert_same, photo


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    model = tiny_model()
    model.data = DataConfig(min_size=64, max_size=96)
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """One file for all sizes, and two fixed sizes under one name."""
    folder = tmp_path_factory.mktemp("exports")
    written = export(model, folder / "all.onnx", batch=None)
    written += export(model, folder / "two.onnx", size=[(64, 96), (96, 64)])
    return folder, written


def test_every_file_was_run_with_none_one_and_many_detections(files):
    _, written = files
    assert [file.path.name for file in written] == ["all.onnx", "two-64x96.onnx", "two-96x64.onnx"]
    for file in written:
        counts = [row.wanted for row in file.agreement]
        assert 0 in counts
        assert max(counts) >= 40
        assert [row.found for row in file.agreement] == counts
    assert 1 in [row.wanted for row in written[1].agreement]
    assert "run and compared" in str(written[0])
    assert "40 detections: 40 found" in str(written[1])


@pytest.mark.parametrize("shapes", [[(60, 80)], [(60, 80), (80, 60), (60, 80), (50, 90)]])
def test_an_exported_file_predicts_what_the_model_does(model, files, shapes):
    exported, eager = Predictor.load(files[0] / "all.onnx"), Predictor(model, "cpu")
    images = [photo(*shape, seed) for seed, shape in enumerate(shapes)]
    for ours, theirs in zip(eager.batch(images), exported.batch(images), strict=True):
        assert len(ours)
        assert ours.names == theirs.names
        assert_same(ours, theirs)


def test_of_several_sizes_the_fitting_one_runs(model, files):
    exported, eager = Predictor.load(files[0] / "two.onnx"), Predictor(model, "cpu")
    for shape in ((64, 96), (96, 64)):  # resized by nothing, padded by nothing: the same input
        image = photo(*shape)
        assert_same(eager(image), exported(image))
    single = Predictor.load(files[0] / "two-64x96.onnx")
    assert len(single(photo(200, 120))) > 0  # fits any photo in


def test_evaluation_takes_exported_files(model, files, tmp_path):
    from maskrcnn.data.synthetic import write_shapes

    data = write_shapes(tmp_path / "data", train=1, val=4, size=(64, 96), seed=0)
    ours, theirs = (evaluate(m, data, progress=False) for m in (model, files[0] / "all.onnx"))
    assert theirs.box == pytest.approx(ours.box, abs=1e-6)
    assert theirs.mask == pytest.approx(ours.mask, abs=1e-6)


def test_the_threshold_can_change_after_the_export(files):
    path = files[0] / "all.onnx"
    few = Predictor.load(path, **{"box.score_threshold": 0.9})(photo(60, 80))
    many = Predictor.load(path, **{"box.score_threshold": 0.0})(photo(60, 80), score_threshold=0.0)
    assert len(few) < len(many)
    with pytest.raises(ConfigError, match=r"box.nms_iou: fixed when the model was exported; only box.score_threshold"):
        Predictor.load(path, **{"box.nms_iou": 0.4})


def test_precision_and_device_of_a_file_are_its_own(files):
    path = files[0] / "all.onnx"
    predictor = Predictor.load(path)
    assert (predictor.precision, predictor.device.type) == ("float32", "cpu")
    with pytest.raises(ConfigError, match="was exported in float32"):
        Predictor.load(path, precision="bf16")


def test_the_description_is_readable_without_us(files):
    import json

    (entry,) = onnx.load(files[0] / "two-64x96.onnx", load_external_data=False).metadata_props
    value = json.loads(entry.value)
    assert entry.key == "maskrcnn"
    assert value["classes"] == ["square", "circle", "triangle"]
    assert value["category_ids"] == [1, 2, 3]
    assert (value["takes"], value["size"], value["batch"], value["image_dtype"]) == ("photo", [64, 96], 1, "uint8")
    assert (value["score_threshold"], value["mask_threshold"]) == (0.4, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "m.tflite"}, r"unknown ending .tflite; use .onnx, .xml \(OpenVINO\) or .pt2 \(PyTorch\)"),
        ({"path": "model"}, r"unknown ending \(none\)"),
        ({"path": "m.onnx", "precision": "int8"}, ".onnx is written in float32, not in int8"),
        ({"path": "m.xml", "precision": "int8"}, "int8 needs typical images .* --calibrate FOLDER"),
        ({"path": "m.xml", "calibrate": "photos"}, "calibration images are for int8, not for float32"),
        ({"path": "m.xml", "opset": 18}, "only .onnx files have an opset"),
        ({"path": "m.onnx", "opset": 11}, "opset 11 is not one of 18 to 2"),
        ({"path": "m.onnx", "compiled": True}, "only .pt2 files can be compiled"),
        ({"path": "m.onnx", "size": (60, 64)}, "size 60x64: both sides must be multiples of 32, 64 at least"),
        ({"path": "m.onnx", "size": (32, 64)}, "size 32x64: both sides must be multiples of 32, 64 at least"),
        ({"path": "m.onnx", "batch": 0}, "batch 0 must be at least 1"),
        ({"path": "m.onnx", "size": [(64, 64), (64, 64)]}, "size: the same size is given twice"),
    ],
)
def test_wrong_use_ends_in_a_sentence(model, tmp_path, arguments, message):
    path = tmp_path / arguments.pop("path")
    with pytest.raises((ExportError, ConfigError), match=message):
        export(model, path, **arguments)
    assert not path.exists()


def test_a_missing_package_names_the_pip_line(model, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"onnxscript is not installed; pip install 'maskrcnn\[export\]'"):
        export(model, tmp_path / "m.onnx")


def test_files_that_are_not_ours(tmp_path, files):
    with pytest.raises(WeightsError, match="no such file"):
        Predictor.load(tmp_path / "none.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="ONNX Runtime cannot open it"):
        Predictor.load(tmp_path / "junk.onnx")
    proto = onnx.load(files[0] / "two-64x96.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    with pytest.raises(WeightsError, match="not one that `maskrcnn export` wrote"):
        Predictor.load(tmp_path / "foreign.onnx")


def shift_boxes(outputs):
    outputs["boxes"] += 0.2


def shift_scores(outputs):
    outputs["scores"] += 0.01


def no_number(outputs):
    outputs["scores"][:] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shift_boxes, "does not agree with the model, .* 40 found, 40 overlapping by half, 0 within 0.1 px$"),
        (shift_scores, "does not agree with the model"),
        (no_number, "does not agree with the model"),
        (lambda outputs: outputs.pop("masks"), "gives boxes, scores, labels, valid instead of boxes, .*, masks"),
    ],
)
def test_verify_sees_a_file_that_differs(model, change, message):
    traced = trace(model, size=(64, 96))

    def run(inputs):
        values = traced.module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        outputs = {name: value.numpy().copy() for name, value in zip(traced.outputs, values, strict=True)}
        change(outputs)
        return outputs

    with pytest.raises(ExportError, match=message):
        verify(traced, run, Path("m.onnx"))


def test_a_model_that_finds_nothing_cannot_be_checked(model):
    broken = copy.deepcopy(model)
    torch.nn.init.constant_(broken.box_head.class_logits.weight, float("nan"))
    traced = trace(broken, size=(64, 96))
    with pytest.raises(ExportError, match=r"finds nothing at all, .*; are its weights finite"):
        verify(traced, lambda inputs: {}, Path("m.onnx"))


def test_a_failed_export_leaves_the_earlier_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m.pt2"
    export(model, path, size=(64, 96))
    before = path.read_bytes()

    def fail(*_):
        raise ExportError("different")

    monkeypatch.setattr("maskrcnn.exporting.export.verify", fail)
    with pytest.raises(ExportError, match="different"):
        export(model, path, size=(64, 96))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.pt2"]


def test_several_sizes_are_not_mixed_with_earlier_files(model, tmp_path):
    export(model, tmp_path / "m.pt2", size=[(64, 96), (96, 64)])
    with pytest.raises(ExportError, match=r"m-96x64\.pt2 is of an earlier export and would be opened too; remove it"):
        export(model, tmp_path / "m.pt2", size=[(64, 96), (64, 128)])
    (tmp_path / "m-96x64.pt2").rename(tmp_path / "m-max-512x512.pt2")  # of another name
    assert Predictor.load(tmp_path / "m.pt2").model.info.size == (64, 96)
    other = copy.deepcopy(model)
    other.classes = ("a", "b", "c")
    export(other, tmp_path / "m-64x160.pt2", size=(64, 160))
    with pytest.raises(WeightsError, match=r"m-64x96\.pt2 and .*m-64x160\.pt2 hold different models; remove"):
        Predictor.load(tmp_path / "m.pt2")


@pytest.mark.parametrize(
    "change",
    [
        {"size": []},
        {"size": [0, 64]},
        {"batch": -3},
        {"category_ids": [1]},
        {"category_ids": [float("inf")] * 2},
        {"classes": None},
    ],
)
def test_a_damaged_description_is_one_sentence(files, change):
    text = onnx.load(files[0] / "two-64x96.onnx").metadata_props[-1].value
    with pytest.raises(WeightsError, match=r"m\.onnx: its description is damaged \(.*\); export the model again"):
        ExportInfo.from_json(json.dumps(json.loads(text) | change), Path("m.onnx"))


def test_what_is_larger_than_a_graph_takes(files):
    exported = Predictor.load(files[0] / "all.onnx").model
    with pytest.raises(ExportError, match="multiples of 32 from 64 to 4096, got 64x4128; resize"):
        exported(torch.zeros(1, 3, 64, 4128, dtype=torch.uint8), torch.tensor([[64, 4128]]))
    with pytest.raises(ExportError, match="takes at most 256 images at a time, got 300"):
        exported(torch.zeros(300, 3, 64, 64, dtype=torch.uint8), torch.tensor([[64, 64]] * 300))


def test_compiling_is_not_for_files(files):
    with pytest.raises(ConfigError, match="is an exported file; --compiled is for its export"):
        Predictor.load(files[0] / "all.onnx", compiled=True)


def detections(boxes, labels, masks) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
        scores=torch.linspace(0.9, 0.5, count),
        labels=torch.tensor(labels, dtype=torch.int64),
        valid=torch.ones(count, dtype=torch.bool),
        masks=torch.tensor(masks, dtype=torch.float32).reshape(count, 2, 2),
    )


def test_compare_finds_each_detection_by_class_and_place():
    box, other = [0, 0, 10, 10], [20, 20, 30, 30]
    ours = detections([box, other], [0, 1], [[1, 1, 0, 0], [1, 1, 1, 1]])
    swapped = detections([other, box], [1, 0], [[1, 1, 1, 1], [1, 1, 0, 0.0]])
    row = compare(ours, swapped, 0.5)
    assert (row.wanted, row.found, row.same, row.overlapping, row.mask_iou) == (2, 2, 2, 2, 1.0)
    assert row.score == pytest.approx(0.4)
    wrong_class = detections([box, other], [1, 1], [[1, 1, 0, 0], [1, 1, 1, 1]])
    assert compare(ours, wrong_class, 0.5).same == 1
    thinner = detections([box, other], [0, 1], [[1, 0, 0, 0], [1, 1, 1, 1]])
    assert compare(ours, thinner, 0.5).mask_iou == 0.5
    undecided = detections([box, other], [0, 1], [[1, 1, 0, 0], [1, 1, 1, 0.4999]])
    almost = detections([box, other], [0, 1], [[1, 1, 0, 0], [1, 1, 1, 0.5001]])
    assert compare(undecided, almost, 0.5).mask_iou == 1.0
    assert compare(ours, detections([], [], []), 0.5).found == 0
    assert np.isfinite(row.box)
