"""Several data sets as one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.merge import merge_datasets
from maskrcnn.data.open import open_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import RLE, KeypointSchema, MaskFile, Polygons, Record
from maskrcnn.table import Table
from maskrcnn.table.change import concat
from tests.data.contract import assert_dataset

TRIANGLE = Polygons((np.array([[1.0, 1.0], [9.0, 1.0], [9.0, 8.0]]),))


def record(path: Path | str, *labels: int, image_id: int = 1, first: int = 1, **changes: object) -> Record:
    """20 x 30 pixels, a triangle of each label."""
    count = len(labels)
    made = Record(
        path=Path(path),
        image_id=image_id,
        height=20,
        width=30,
        boxes=np.tile(np.array([1, 1, 9, 8], np.float32), (count, 1)),
        labels=np.array(labels, np.int64),
        masks=(TRIANGLE,) * count,
        crowd=np.zeros(count, bool),
        areas=np.full(count, 28, np.float32),
        annotation_ids=np.arange(first, first + count),
    )
    return replace(made, **changes)


def made(*records: Record, classes: str = "ant cat", ids: tuple[int, ...] = (1, 2), **changes: object) -> Dataset:
    return Dataset(records, tuple(classes.split()), ids, **{"name": "set", "format": "coco", **changes})


def equal(one: Record, other: Record) -> bool:
    """All but the ids, labels and split."""
    arrays = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("boxes", "crowd", "areas"))
    masks = all(
        np.array_equal(a.rings, b.rings) if isinstance(a, Polygons) else a == b
        for a, b in zip(one.masks, other.masks, strict=True)
    )
    return (
        arrays
        and masks
        and (one.path, one.size, one.span, one.make) == (other.path, other.size, other.span, other.make)
    )


def test_classes_are_united_by_name_in_order_of_appearance():
    one = made(record("a", 0, 1), classes="ant cat", ids=(5, 7))
    two = made(record("b", 0, 1, 2, first=9), classes="cat bee ant", ids=(7, 5, 6))
    merged = merge_datasets([one, two])
    assert merged.classes == ("ant", "cat", "bee")
    assert merged.category_ids == (5, 7, 8)  # 5 is the ant's
    assert [r.labels.tolist() for r in merged] == [[0, 1], [1, 2, 0]]
    assert merged.class_counts().tolist() == [2, 2, 1]
    assert (merged.name, merged.format) == ("set + set", "coco")


def test_ids_change_only_where_they_are_taken():
    one = made(record("a", 0, image_id=4, first=10), record("b", 0, image_id=9, first=11))
    two = made(record("c", 0, 1, image_id=9, first=11), record("d", 0, image_id=2, first=1))
    merged = merge_datasets([one, two])
    assert [r.image_id for r in merged] == [4, 9, 10, 2]
    assert [r.annotation_ids.tolist() for r in merged] == [[10], [11], [13, 12], [1]]
    assert [r.image_id for r in two] == [9, 2]  # what was merged stays as it was


def test_records_of_all_kinds_come_through():
    rle, file = RLE((20, 30), b"abc"), MaskFile(Path("m.png"), 3)
    first = [record("a", 0, 1, masks=(TRIANGLE, rle)), record("b"), record("c", 1, masks=(file,), split="train")]
    second = [record("d", 1, masks=(file,), split="val"), record("e", 0, 0, masks=(rle, TRIANGLE), split="train")]
    drawn = [record("f", 0, make=partial(np.zeros, (20, 30, 3), np.uint8), split="val")]
    parts = [made(*records).take(range(len(records))[::-1]) for records in (first, second, drawn)]
    merged = merge_datasets(parts)
    for ours, theirs in zip(merged, [*first[::-1], *second[::-1], *drawn], strict=True):
        assert equal(ours, theirs)
    assert [r.split for r in merged] == ["train", "train", "train", "train", "val", "val"]
    assert "trained on 2 images without a split, beside data with splits, first: b" in merged.warnings[0]
    again = pickle.loads(pickle.dumps(merged.table))
    assert equal(again[3], merged[3])


def test_rows_that_were_not_chosen_do_not_come_back():
    data = made(*(record(name, 0, image_id=i, first=i) for i, name in enumerate("abcd", 1)))
    merged = merge_datasets([data.take([2]), data.take([0, 3])])
    assert [str(r.path) for r in merged] == ["c", "a", "d"]
    assert [r.image_id for r in merged] == [3, 1, 4]


def test_no_split_anywhere_stays_so():
    merged = merge_datasets([made(record("a", 0)), made(record("b", 0))])
    assert (merged.splits, merged.warnings) == ((), ())


def test_the_same_file_stays_once():
    one = made(record("a.png", 0), record("b.png", 0, 0, image_id=2, first=2))
    two = made(record("./b.png", 1), record("c.png", 1), name="other")
    merged = merge_datasets([one, two])
    assert [str(r.path) for r in merged] == ["a.png", "b.png", "c.png"]
    assert merged[1].labels.tolist() == [0, 0]
    (warning,) = merged.warnings
    assert warning == "left out 1 images that another data set holds too, first: other: b.png"


def test_names_that_are_nearly_the_same_are_told():
    merged = merge_datasets(
        [made(record("a"), classes="traffic_light", ids=(1,)), made(record("b"), classes="Traffic-Light x")]
    )
    assert merged.classes == ("traffic_light", "Traffic-Light", "x")
    assert merged.warnings == (
        "kept classes 'traffic_light' and 'Traffic-Light' apart; rename one if they mean the same",
    )


def test_boxes_stand_in_for_masks_where_others_have_some():
    merged = merge_datasets([made(record("a", 0, masks=())), made(record("b", 1)), made(record("c"))])
    (mask,) = merged[0].masks
    assert isinstance(mask, Polygons)
    assert mask.rings[0].tolist() == [[1, 1], [9, 1], [9, 8], [1, 8]]
    assert merged.warnings == (
        "kept 1 objects without a mask, whose box stands in for it, first: set, annotation 1: box [1.0, 1.0, 9.0, 8.0]",
    )
    boxes = merge_datasets([made(record("a", 0, masks=())), made(record("b", 0, masks=()))])
    assert not boxes.has_masks


def test_keypoints_must_agree():
    schema = KeypointSchema(("nose", "tail"))
    points = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    with_points = made(record("a", 0, keypoints=points), keypoints=schema)
    merged = merge_datasets([made(record("b", 0, 1)), with_points])
    assert merged.keypoints == schema
    assert np.array_equal(merged[1].keypoints, points)
    assert merged[0].keypoints.tolist() == np.zeros((2, 2, 3)).tolist()
    other = replace(with_points, keypoints=KeypointSchema(("nose", "ear")), name="other")
    with pytest.raises(
        DataError, match=r"other: has keypoints nose, ear \(2\), set has nose, tail \(2\); data sets can"
    ):
        merge_datasets([with_points, other])


def test_what_cannot_be_merged():
    with pytest.raises(DataError, match="no data set to merge; give at least one"):
        merge_datasets([])
    with pytest.raises(DataError, match="set, image 1: label 2 is not one of 0 to 1; mend the annotation"):
        merge_datasets([made(record("a", 0)), made(record("b", 2))])
    one = made(record("a", 0))
    assert merge_datasets([one]) is one


def test_empty_tables_are_nothing():
    assert len(concat([Table.of([]), Table.of([])])) == 0
    assert [str(r.path) for r in concat([Table.of([]), Table.of([record("a", 1)])])] == ["a"]


def test_tables_of_files_and_of_memory(tmp_path):
    """A mapped table, as the cache gives it, merges with one that was just read."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    one, two = made(record(tmp_path / "a.png", 0, 1)), made(record(tmp_path / "b.png", 1))
    one.table.save(tmp_path / "table")
    merged = merge_datasets([replace(one, records=Table.open(tmp_path / "table")), two])
    assert_dataset(merged)
    assert equal(merged[0], one[0])
    assert equal(pickle.loads(pickle.dumps(merged.table))[1], two[0])


def test_real_data_of_two_formats(data_dir):
    balloons, nuclei = open_dataset(data_dir / "balloon"), open_dataset(data_dir / "nuclei-original")
    merged = merge_datasets([balloons, nuclei])
    assert_dataset(merged)
    assert merged.classes == (*balloons.classes, *nuclei.classes)
    assert merged.class_counts().tolist() == [*balloons.class_counts(), *nuclei.class_counts()]
    assert {len(merged.split(name)) for name in ("train", "val")} == {61 + len(nuclei), 13}


def test_an_image_chosen_twice_has_two_ids():
    one, other = made(record("a.png", 0), record("b.png", 1, image_id=2)), made(record("c.png", 0))
    merged = merge_datasets([one.take([1, 1, 0]), other])
    assert [record.path.name for record in merged] == ["b.png", "b.png", "a.png", "c.png"]
    assert len(set(merged.table.image_ids)) == len(set(merged.table.annotation_ids)) == 4
