"""COCO files that pycocotools opens, with nothing lost."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from maskrcnn.data.formats import coco as reader
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.open import open_dataset
from maskrcnn.data.write.coco import write
from maskrcnn.dataset import Dataset
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.structures import KeypointSchema, Polygons
from tests.data.write.example import example, make_record, ring


def opened(file: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def assert_pycocotools_agrees(data: Dataset, folder: Path) -> int:
    """Every object: ids, class, box, area, crowd and pixels. Returns how many."""
    count = 0
    for split in data.splits or ("",):
        theirs = opened(folder / "annotations" / (f"instances_{split}.json" if split else "instances.json"))
        ours = data.split(split) if split else data
        assert sorted(theirs.getImgIds()) == sorted(record.image_id for record in ours)
        for record in ours:
            image = theirs.loadImgs(record.image_id)[0]
            assert (folder / (split or "images") / image["file_name"]).read_bytes() == record.path.read_bytes()
            assert (image["height"], image["width"]) == record.size
            annotations = theirs.loadAnns(record.annotation_ids.tolist())
            for i, annotation in enumerate(annotations):
                x, y, width, height = annotation["bbox"]
                assert np.float32([x, y, x + width, y + height]).tolist() == record.boxes[i].tolist()
                assert theirs.cats[annotation["category_id"]]["name"] == data.classes[record.labels[i]]
                assert annotation["category_id"] == data.category_ids[record.labels[i]]
                assert (annotation["area"], annotation["iscrowd"]) == (record.areas[i], record.crowd[i])
                mask = decode_rle(mask_to_rle(record.masks[i], record.size))
                assert np.array_equal(theirs.annToMask(annotation), mask)
                count += 1
    return count


def written(data: Dataset, folder: Path) -> tuple[Dataset, list[str]]:
    folder.mkdir()
    write(data, folder, lost=(lost := Skipped()))
    return open_dataset(folder, "coco"), lost.sentences()


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_pycocotools_reads_it(tmp_path):
    data = replace(example(tmp_path / "in"), category_ids=(3, 18, 90))
    again, lost = written(data, tmp_path / "out")
    assert lost == []
    assert assert_pycocotools_agrees(data, tmp_path / "out") == 6
    assert again.category_ids == (3, 18, 90)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("source", ["coco-mini", "balloon"])
def test_pycocotools_reads_real_data(source, data_dir, tmp_path):
    data = open_dataset(data_dir / source)
    data = data.take(np.arange(0, len(data), 8))
    again, lost = written(data, tmp_path / "out")
    assert lost == []
    assert assert_pycocotools_agrees(data, tmp_path / "out") == data.table.counts.sum() > 20
    assert again.warnings == ()


def test_everything_comes_back_as_it_was(tmp_path):
    data = example(tmp_path / "in")
    again, _ = written(data, tmp_path / "out")
    for old, new in zip(sorted(data, key=lambda r: r.image_id), sorted(again, key=lambda r: r.image_id), strict=True):
        for name in ("image_id", "height", "width", "split"):
            assert getattr(old, name) == getattr(new, name)
        for name in ("boxes", "labels", "crowd", "areas", "annotation_ids"):
            assert np.array_equal(getattr(old, name), getattr(new, name)), name
        for a, b in zip(old.masks, new.masks, strict=True):
            if isinstance(a, Polygons):
                assert [r.tolist() for r in a.rings] == [r.tolist() for r in b.rings]


def test_keypoints(tmp_path):
    record = make_record(tmp_path / "in" / "a.png", 3, (20, 20), "", [(0, Polygons((ring(1, 1, 9, 1, 9, 9),)), False)])
    points = np.array([[[1.1, 2.2, 2], [3.3, 4.4, 1], [0, 0, 0]]], np.float32)
    schema = KeypointSchema(("nose", "left_eye", "right_eye"), ((1, 2),))
    data = Dataset([replace(record, keypoints=points)], ("person",), (1,), schema, name="people")
    again, lost = written(data, tmp_path / "out")
    assert lost == []
    assert again.keypoints == schema
    assert np.array_equal(again[0].keypoints, points)
    annotation = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())["annotations"][0]
    assert annotation["num_keypoints"] == 2
    named = replace(data, keypoints=KeypointSchema(("nose", "eye one", "eye two"), ((1, 2),)))
    _, lost = written(named, tmp_path / "named")
    assert [s.split(", first")[0] for s in lost] == [
        "left out 1 pairs of keypoints whose names do not say left and right"
    ]


def test_annotation_ids_that_are_there_twice(tmp_path):
    data = example(tmp_path / "in")
    data = replace(data, records=[replace(r, annotation_ids=np.arange(4, 4 + len(r))) for r in data], name="twice")
    data = replace(data, records=[replace(r, split="train") for r in data])
    again, lost = written(data, tmp_path / "out")
    assert [s.split(", first")[0] for s in lost] == ["renumbered 2 annotation ids that others have too"]
    assert sorted(again.table.annotation_ids.tolist()) == [4, 5, 6, 7, 8, 9]
    assert again.warnings == ()


def test_images_without_a_split_beside_others(tmp_path):
    data = example(tmp_path / "in")
    records = [replace(data[0], split=""), data[1], data[2]]
    again, lost = written(replace(data, records=records), tmp_path / "out")
    assert [s.split(", first")[0] for s in lost] == [
        "kept 1 images without a split, beside others that have one: theirs is now 'instances'"
    ]
    assert len(again) == 3
    assert reader.sniff(tmp_path / "out" / "annotations" / "instances.json")
