"""Exports of networks with a keypoint head give its keypoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import onnxscript
import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim

from maskrcnn.config import DataConfig, KeypointHeadConfig
from maskrcnn.errors import ExportError
from maskrcnn.exporting.onnx import to_onnx, write_onnx
from maskrcnn.exporting.onnx_peaks import peaks_of
from maskrcnn.exporting.torch_export import write_torch_export
from maskrcnn.exporting.traced import trace
from maskrcnn.exporting.verify import Agreement, compare, verify
from maskrcnn.ops.keypoints import peaks
from maskrcnn.predict.exported.model import open_run
from maskrcnn.predict.exported.torch_graph import Archive, Graph
from maskrcnn.predict.predictor import Predictor
from maskrcnn.structures import Detections
from tests.model.tiny import POINTS, tiny_model
from tests.predict.test_predictor import photo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    model = tiny_model(**{"model.keypoint": KeypointHeadConfig(convolutions=1, channels=8)})
    model.data = DataConfig(min_size=64, max_size=96)
    with torch.no_grad():
        model.keypoint_head.logits.weight.mul_(30)
    return model


def agreement(traced, path: Path) -> list[Agreement]:
    rows = verify(traced, open_run(path, CPU)[1], path)
    assert max(row.wanted for row in rows) > 10
    return rows


class Peaks(torch.nn.Module):
    def forward(self, maps: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return peaks(maps, boxes, 300)


def test_both_kinds_of_file_find_the_peaks(tmp_path):
    low = torch.randn(12, 3, 14, 14, generator=torch.Generator().manual_seed(0))  # as the head makes them
    maps = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
    sides = torch.tensor([0.0, 0.4, 5.0, 28.0, 28.5, 57.0, 90.1, 120.0, 199.9, 240.0, 299.0, 300.0])
    boxes = torch.stack([torch.full((12,), 3.0), torch.full((12,), 7.5), 3 + sides, 7.5 + sides.flip(0)], dim=1)
    count = {0: Dim("count", min=1, max=1000)}
    program = torch.export.export(Peaks(), (maps, boxes), dynamic_shapes=(count, count))
    torch.export.save(program, tmp_path / "peaks.pt2")
    graph = Graph(Archive(tmp_path / "peaks.pt2"), tmp_path / "peaks.pt2", CPU)
    table = {torch.ops.maskrcnn.peaks.default: peaks_of(onnxscript.opset18)}
    written = torch.onnx.export(program, dynamo=True, opset_version=18, custom_translation_table=table, verbose=False)
    session = onnxruntime.InferenceSession(written.model_proto.SerializeToString())
    for rows in (slice(None), slice(0, 1)):
        given = {"maps": maps[rows], "boxes": boxes[rows]}
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for one, other, wanted in zip(found, graph(given), peaks(maps[rows], boxes[rows], 300), strict=True):
            assert other.equal(wanted)
            torch.testing.assert_close(torch.from_numpy(one), wanted, atol=1e-4, rtol=0)


def test_keypoints_are_compared():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 0.0, 40.0, 9.0]])
    points = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    ours = Detections(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2).long(), torch.ones(2).bool(), keypoints=points)
    moved = points.clone()
    moved[0, 1, 0] += 0.4
    moved[1, 2, 1] -= 2
    row = compare(ours, replace(ours, keypoints=moved), 0.5)
    assert (row.points, row.near, round(row.keypoint, 3)) == (6, 5, 2.0)
    assert "5 of 6 keypoints within 0.5 px" in str(row)
    assert compare(ours, replace(ours, keypoints=None), 0.5).points == 0


@pytest.mark.slow
@pytest.mark.parametrize("frame", [{"size": (64, 96)}, {"batch": None}])
def test_both_kinds_of_file_give_the_models_keypoints(model, frame, tmp_path):
    traced = trace(model, **frame)
    write_torch_export(traced, tmp_path / "model.pt2")
    write_onnx(to_onnx(traced), tmp_path / "model.onnx")
    for name in ("model.pt2", "model.onnx"):
        assert all(row.same == row.wanted and row.points == 3 * row.same for row in agreement(traced, tmp_path / name))
        if "size" not in frame:
            continue
        found = Predictor.load(tmp_path / name)(photo(64, 96))
        wanted = Predictor(model, "cpu")(photo(64, 96))
        assert found.keypoint_names == POINTS.names
        away = np.abs(found.keypoints - wanted.keypoints)[..., :2].max(axis=2)
        assert away.size > 30
        assert (away > 0.05).sum() <= 1  # two peaks of random weights may be as high


@pytest.mark.slow
def test_a_file_with_other_keypoints_is_refused(model, tmp_path):
    traced = trace(model, size=(64, 96))

    def run(inputs):
        given = {name: torch.from_numpy(np.asarray(value)) for name, value in inputs.items()}
        with torch.no_grad():
            found = dict(zip(traced.outputs, traced.module(**given), strict=True))
        found["keypoints"] = found["keypoints"] + 0.6
        return {name: value.numpy() for name, value in found.items()}

    with pytest.raises(ExportError, match=r"does not agree with the model.*0 of 120 keypoints within 0\.5 px"):
        verify(traced, run, tmp_path / "x.onnx")
