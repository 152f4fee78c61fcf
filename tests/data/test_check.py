from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.check import check_dataset, drop_broken
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.structures import MaskFile


@pytest.fixture
def shapes(tmp_path):
    return open_dataset(write_shapes(tmp_path, train=3, val=2, size=(64, 64)))


def kinds(dataset, **options) -> set[str]:
    return {problem.kind for problem in check_dataset(dataset, **options) if problem.severity == "error"}


def changed(dataset, **changes):
    return replace(dataset, records=[replace(dataset[0], **changes), *dataset.records[1:]])


def test_good_data_has_no_errors(shapes):
    assert kinds(shapes) == set()


def test_files_that_cannot_be_used_are_found_and_dropped(shapes):
    shapes[0].path.unlink()
    shapes[1].path.write_bytes(shapes[1].path.read_bytes()[:100])
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(shapes[2].path)
    problems = check_dataset(shapes)
    assert {p.kind for p in problems if p.severity == "error"} == {
        "missing image",
        "unreadable image",
        "wrong image size",
    }
    for problem in problems[:3]:
        assert "\n" not in str(problem)
        assert str(problem.path) in str(problem)
        assert f"image {problem.image}" in str(problem)
    assert len(drop_broken(shapes, problems)) == 2
    assert kinds(shapes, decode=False) == set()


def test_boxes_and_labels(shapes):
    boxes = shapes[0].boxes.copy()
    boxes[0] = [5, 5, 5, 9]
    assert kinds(changed(shapes, boxes=boxes)) == {"degenerate box"}
    boxes[0] = [5, 5, 500, 9]
    assert kinds(changed(shapes, boxes=boxes)) == {"box outside the image"}
    assert kinds(changed(shapes, labels=shapes[0].labels + 7)) == {"label out of range"}


def test_masks(shapes, tmp_path):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "empty.png")
    count = len(shapes[0])
    assert kinds(changed(shapes, masks=(MaskFile(tmp_path / "empty.png"),) * count)) == {"empty mask"}
    gone = changed(shapes, masks=(MaskFile(tmp_path / "gone.png"),) * count)
    assert kinds(gone) == {"unreadable mask"}
    assert len(drop_broken(gone, check_dataset(gone))) == 4
    Image.fromarray(np.ones((9, 7), np.uint8)).save(tmp_path / "small.png")
    small = changed(shapes, masks=(MaskFile(tmp_path / "small.png"),) * count)
    assert kinds(small) == {"wrong mask size"}
    assert any("7x9 in an image of 64x64" in str(problem) for problem in check_dataset(small))
    assert kinds(changed(shapes, masks=shapes[0].masks * 2)) == {"mask count"}


def test_boxes_alone_are_fine(shapes):
    assert kinds(replace(shapes, records=[replace(record, masks=()) for record in shapes])) == set()


def test_ids_classes_and_counts(shapes):
    assert "duplicate image id" in kinds(changed(shapes, image_id=shapes[1].image_id))
    more = replace(shapes, classes=(*shapes.classes, "star"), category_ids=(1, 2, 3, 4))
    assert any("class 'star' has no object" in str(p) for p in check_dataset(more))
    none = {
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "masks": (),
        "crowd": np.zeros(0, bool),
    }
    none |= {"areas": np.zeros(0, np.float32), "annotation_ids": np.zeros(0, np.int64)}
    assert any("1 of 5; they are kept as background" in str(p) for p in check_dataset(changed(shapes, **none)))
    many = {
        k: np.repeat(getattr(shapes[0], k)[:1], 101, axis=0)
        for k in ("boxes", "labels", "crowd", "areas", "annotation_ids")
    }
    crowded = changed(shapes, **many, masks=shapes[0].masks[:1] * 101)
    assert any("detections_per_image must allow for 101" in str(p) for p in check_dataset(crowded))
