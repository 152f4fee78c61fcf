from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.structures import Proposals, Record, Samples, Targets, empty_targets


def record(image_id: int, labels: list[int], *, split: str = "", crowd: tuple[int, ...] = ()) -> Record:
    count = len(labels)
    return Record(
        path=Path(f"{image_id}.png"),
        image_id=image_id,
        height=10,
        width=20 + image_id,
        boxes=np.tile(np.array([[0, 0, 4, 4]], np.float32), (count, 1)),
        labels=np.array(labels, np.int64),
        masks=(),
        crowd=np.isin(np.arange(count), crowd),
        areas=np.full(count, 16, np.float32),
        annotation_ids=np.arange(count),
        split=split,
    )


@pytest.fixture
def dataset() -> Dataset:
    records = [
        record(1, [0, 1, 1], split="train"),
        record(2, [], split="train"),
        record(3, [2, 2], split="val", crowd=(1,)),
    ]
    return Dataset(records, classes=("a", "b", "c"), category_ids=(1, 5, 90), name="toys", format="coco")


# ---------------------------------------------------------------- Dataset


def test_dataset_is_a_sequence_of_records(dataset: Dataset) -> None:
    assert len(dataset) == 3
    assert [r.image_id for r in dataset] == [1, 2, 3]
    assert dataset[2].size == (10, 23)
    part = dataset[:2]
    assert isinstance(part, Dataset)
    assert (len(part), part.classes, part.category_ids) == (2, dataset.classes, dataset.category_ids)


def test_splits_keep_their_order_and_classes(dataset: Dataset) -> None:
    assert dataset.splits == ("train", "val")
    assert [r.image_id for r in dataset.split("train")] == [1, 2]
    assert dataset.split("val").classes == ("a", "b", "c")
    assert replace(dataset, records=[record(1, [])]).splits == ()


def test_unknown_split_names_the_known(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="toys: no split 'test'; known splits: train, val"):
        dataset.split("test")
    with pytest.raises(DataError, match="known splits: none: the data set has no splits"):
        replace(dataset, records=[record(1, [])]).split("val")


def test_counts_leave_crowds_out(dataset: Dataset) -> None:
    assert dataset.class_counts().tolist() == [1, 2, 1]


def test_summary_says_the_main_facts(dataset: Dataset) -> None:
    lines = replace(dataset, warnings=("2 images are missing",)).summary().splitlines()
    assert lines == [
        "toys: 3 images, 5 objects (coco)",
        "classes (3): b 2, a 1, c 1",
        "sizes: 21-23 wide, 10-10 high; objects per image: median 2, most 3",
        "splits: train 2, val 1",
        "warning: 2 images are missing",
    ]


def test_summary_of_nothing() -> None:
    assert Dataset([], classes=(), category_ids=()).summary().startswith("dataset: 0 images, 0 objects (made)")


# ---------------------------------------------------------------- padded tensors


def test_targets_move_whole_and_keep_none() -> None:
    targets = empty_targets(2, 3, 4)
    moved = targets.to("meta")
    assert isinstance(moved, Targets)
    assert moved.boxes.device.type == moved.keys.device.type == "meta"
    assert moved.keypoints is None
    assert targets.boxes.device.type == "cpu"


def test_empty_targets_have_the_promised_shapes_and_types() -> None:
    targets = empty_targets(2, 3, 4, keys=torch.tensor([5, 6]))
    assert targets.boxes.shape == (2, 3, 4)
    assert (targets.masks.shape, targets.masks.dtype) == ((2, 3, 4, 4), torch.uint8)
    assert targets.labels.dtype == torch.int64
    assert not targets.valid.any()
    assert targets.keys.tolist() == [5, 6]


def test_map_keeps_what_is_no_tensor() -> None:
    samples = Samples(
        boxes=torch.zeros(1, 2, 4),
        labels=torch.zeros(1, 2, dtype=torch.int64),
        matched=torch.zeros(1, 2, dtype=torch.int64),
        foreground=torch.zeros(1, 2, dtype=torch.bool),
        valid=torch.ones(1, 2, dtype=torch.bool),
        max_foreground=7,
    )
    first = samples.map(lambda tensor: tensor[:, :1])
    assert (first.boxes.shape, first.max_foreground) == ((1, 1, 4), 7)


def test_dtype_conversion_reaches_each_tensor() -> None:
    proposals = Proposals(torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert proposals.to(torch.float64).scores.dtype == torch.float64


# ---------------------------------------------------------------- Instances


def instances(count: int) -> Instances:
    sides = np.arange(1, count + 1, dtype=np.float32)
    return Instances(
        boxes=np.stack([0 * sides, 0 * sides, sides, sides], 1),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        labels=np.arange(count, dtype=np.int64) % 2,
        classes=("cat", "dog"),
        size=(40, 50),
        roi_masks=np.ones((count, 4, 4), np.float32),
        category_ids=(17, 18),
    )


def test_names_follow_labels() -> None:
    assert instances(3).names == ["cat", "dog", "cat"]


def test_an_integer_keeps_the_first_axis() -> None:
    found = instances(3)
    assert found[0].boxes.shape == (1, 4)
    assert found[-1].scores.tolist() == found.scores[-1:].tolist()
    assert found[np.int64(1)].names == ["dog"]
    with pytest.raises(IndexError):
        found[3]


def test_iteration_gives_single_instances() -> None:
    assert [single.names for single in instances(3)] == [["cat"], ["dog"], ["cat"]]


@given(keep=st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_mask_of_bools_selects(keep: list[bool]) -> None:
    found = instances(5)
    chosen = found[np.array(keep)]
    assert len(chosen) == sum(keep)
    assert np.array_equal(chosen.boxes, found.boxes[np.array(keep)])
    assert chosen.roi_masks is not None
    assert len(chosen.roi_masks) == sum(keep)


def test_a_slice_and_a_list_select() -> None:
    found = instances(5)
    assert found[1:3].scores.tolist() == found.scores[1:3].tolist()
    assert found[[4, 0]].boxes[:, 2].tolist() == [5, 1]


def test_selection_takes_the_rle_along() -> None:
    found = replace(instances(3), _rle=[{"size": [40, 50], "counts": bytes([65 + i])} for i in range(3)])
    assert [rle["counts"] for rle in found[[2, 0]].rle] == [b"C", b"A"]


def test_filter_by_score_class_and_area() -> None:
    found = instances(5)
    assert found.filter(score=0.5).scores.tolist() == found.scores[:3].tolist()
    assert set(found.filter(classes=["dog"]).names) == {"dog"}
    assert found.filter(min_area=9).boxes[:, 2].tolist() == [3, 4, 5]
    assert len(found.filter(score=0.5, classes=["dog"], min_area=9)) == 0
    assert len(found.filter()) == 5


def test_filter_names_an_unknown_class() -> None:
    with pytest.raises(ValueError, match="unknown class 'cow'; known: cat, dog"):
        instances(1).filter(classes=["cow"])


def test_empty_is_ordinary() -> None:
    found = instances(0)
    assert (len(found), found.names, list(found)) == (0, [], [])
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 40, 50)
    assert len(found.filter(score=0.5, min_area=1)) == 0
    assert found[:0].boxes.shape == (0, 4)


def test_instances_without_masks_say_so() -> None:
    with pytest.raises(ValueError, match="have no masks"):
        _ = replace(instances(1), roi_masks=None).rle
