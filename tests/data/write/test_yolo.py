"""YOLO's lines and data.yaml, looked at as ultralytics would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write.yolo import _fractions, write
from maskrcnn.dataset import Dataset
from maskrcnn.ops.rle import polygons_to_rle
from maskrcnn.structures import Polygons
from tests.data.write.example import example, make_record, ring


def test_layout(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "nc": 3,
        "names": {0: "a cat", 1: "dog & co", 2: "never seen"},
    }
    files = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*"))
    assert files == [
        *("data.yaml", "images/train/a.png", "images/train/empty.png", "images/val/b.jpg"),
        *("labels/train/a.txt", "labels/train/empty.txt", "labels/val/b.txt"),
    ]
    assert (tmp_path / "out" / "labels" / "train" / "empty.txt").read_text() == ""
    lines = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "1", "1"]
    last = np.array(lines[3].split()[1:], float).reshape(-1, 2) * [48, 40]
    assert last.tolist() == [[10, 8], [26, 8], [26, 22], [10, 22]]
    # Two parts: both rings, and two corners more for the way there and back.
    assert len(lines[1].split()) == 1 + 2 * (3 + 3 + 2)


def test_outlines_that_leave_the_image_are_cut_to_it(tmp_path):
    outline = Polygons((ring(-10, 5, 30, -6, 12, 14),))
    size = (16, 20)
    record = make_record(tmp_path / "in" / "a.png", 1, size, "", [(0, outline, False)])
    record = replace(record, boxes=np.array([[0, 0, 20, 14]], np.float32))
    (tmp_path / "out").mkdir()
    write(Dataset([record], ("thing",), (1,)), tmp_path / "out", lost=(lost := Skipped()))
    values = np.array((tmp_path / "out" / "labels" / "train" / "a.txt").read_text().split()[1:], float)
    assert values.min() >= 0
    assert values.max() <= 1
    made = polygons_to_rle([values.reshape(-1, 2) * [20, 16]], size)
    assert made["counts"] == polygons_to_rle(outline.rings, size)["counts"]
    assert any("as parts overlap or leave the image" in sentence for sentence in lost.sentences())


def test_parts_that_overlap_keep_what_they_share(tmp_path):
    outline = Polygons((ring(2, 2, 12, 2, 12, 12, 2, 12), ring(6, 6, 18, 6, 18, 14, 6, 14)))
    size = (16, 20)
    record = make_record(tmp_path / "in" / "a.png", 1, size, "", [(0, outline, False)])
    (tmp_path / "out").mkdir()
    write(Dataset([record], ("thing",), (1,)), tmp_path / "out")
    values = np.array((tmp_path / "out" / "labels" / "train" / "a.txt").read_text().split()[1:], float)
    made = polygons_to_rle([values.reshape(-1, 2) * [20, 16]], size)
    assert made["counts"] == polygons_to_rle(outline.rings, size)["counts"]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.lists(st.integers(0, 10**6), min_size=2, max_size=8))
def test_fractions_fall_on_the_same_side_of_a_fifth(side, parts):
    values = np.round(np.array(parts) / 10**6 * side, 1).reshape(-1, 1)
    again = _fractions(values, np.array([float(side)])) * side
    assert np.array_equal(np.floor(5 * again + 0.5), np.floor(5 * values + 0.5))
    assert np.abs(again - values).max() <= 2 * np.spacing(float(side))
