"""Seeded splits that keep the class balance, and split lists."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.splits import hold_out, split_dataset, splits_from_files
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Record
from maskrcnn.table import Table


def images(*labels: list[int], paths: list[str] | None = None, classes: int = 0) -> Dataset:
    """One image for each list of labels."""
    records = []
    for i, of_image in enumerate(labels):
        count = len(of_image)
        records.append(
            Record(
                path=Path(paths[i] if paths else f"{i}.png"),
                image_id=i,
                height=10,
                width=10,
                boxes=np.tile(np.array([1, 1, 5, 5], np.float32), (count, 1)),
                labels=np.array(of_image, np.int64),
                masks=(),
                crowd=np.zeros(count, bool),
                areas=np.full(count, 16, np.float32),
                annotation_ids=np.arange(count),
            )
        )
    count = classes or max((label for of_image in labels for label in of_image), default=0) + 1
    return Dataset(tuple(records), tuple(f"c{i}" for i in range(count)), tuple(range(count)), name="set")


def ids(dataset: Dataset) -> list[int]:
    return dataset.table.image_ids.tolist()


# ---------------------------------------------------------------- drawn


def test_every_class_of_two_images_is_in_both_parts():
    random = np.random.default_rng(0)
    common = [[0] * int(random.integers(1, 9)) for _ in range(80)]
    data = images(*common, [0, 1], [1], [2, 2], [2, 1, 0], [3], *([[]] * 15))
    train, held = split_dataset(data, 0.2, seed=1)
    assert len(held) == 20
    assert sorted(ids(train) + ids(held)) == list(range(100))
    assert ids(train) == sorted(ids(train))
    assert (train.class_counts()[:3] > 0).all()
    assert (held.class_counts()[:3] > 0).all()
    assert train.class_counts()[3] + held.class_counts()[3] == 1


def test_objects_are_shared_out_as_well_as_images():
    random = np.random.default_rng(3)
    data = images(*([0] * int(n) for n in random.geometric(0.02, 200)))  # a few images hold many
    for seed in range(5):
        _, held = split_dataset(data, 0.25, seed)
        assert len(held) == 50
        assert held.class_counts()[0] / data.class_counts()[0] == pytest.approx(0.25, abs=0.02)


def test_the_seed_decides_and_nothing_else():
    data = images(*([i % 3] for i in range(60)))
    first, again, other = (ids(split_dataset(data, 0.2, seed)[1]) for seed in (3, 3, 4))
    assert first == again != other
    assert set(np.array(first) % 3) == {0, 1, 2}


def test_crowds_do_not_count_as_objects():
    data = images([0], [0], [1], [1], [0], [0])
    crowded = [replace(r, crowd=r.labels == 1) for r in data]
    for seed in range(4):
        train, held = split_dataset(replace(data, records=crowded), 0.3, seed)
        assert (len(train), len(held)) == (4, 2)
        assert held.class_counts()[0] >= 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=2, max_size=20),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_any_data_is_split(labels, fraction, seed):
    train, held = split_dataset(images(*labels), fraction, seed)
    assert sorted(ids(train) + ids(held)) == list(range(len(labels)))
    assert min(len(train), len(held)) >= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=20), st.floats(0.01, 0.99), st.integers(0, 5))
def test_images_of_one_class_each_are_always_in_balance(labels, fraction, seed):
    train, held = split_dataset(images(*([label] for label in labels)), fraction, seed)
    for label in set(labels):
        both = [sum(labels[i] == label for i in ids(part)) for part in (train, held)]
        assert min(both) >= (labels.count(label) > 1)


def test_a_class_pulled_two_ways_is_mended_where_it_can_be():
    data = images([0, 1], [0, 2], [1, 3], [2, 3], [0, 1, 2, 3])
    for seed in range(20):
        train, held = split_dataset(data, 0.4, seed)
        assert (train.class_counts() > 0).all()
        assert (held.class_counts() > 0).all()


def test_a_class_of_one_image_is_learnt_rather_than_measured():
    data = images(*([0] for _ in range(20)), [0, 1], [2])
    for seed in range(10):
        assert split_dataset(data, 0.3, seed)[0].class_counts()[1:].tolist() == [1, 1]


def test_the_size_of_coco_is_drawn_at_once():
    """118,000 images and 80 classes are to take less than 5 s; they take a tenth of a second."""
    random = np.random.default_rng(0)
    counts = random.poisson(7, 118_000)
    objects = int(counts.sum())
    columns = dict(Table.of(images([0]).records).columns)
    columns |= {
        "image_id": np.arange(118_000),
        "objects": np.concatenate([[0], np.cumsum(counts)]),
        "labels": np.minimum(random.geometric(0.06, objects) - 1, 79),
        "crowd": np.zeros(objects, bool),
    }
    data = Dataset(Table(columns, np.arange(118_000)), tuple(map(str, range(80))), tuple(range(80)))
    train, held = split_dataset(data, 0.2)
    assert (len(train), len(held)) == (94_400, 23_600)
    share = held.class_counts() / data.class_counts()
    assert np.abs(share - 0.2).max() < 0.03


def test_held_out_images_become_the_split_val():
    dataset = images([0], [0, 1], [1], [0], [1], [0, 0], [1], [], [0], [1])
    marked = hold_out(dataset, 0.3, seed=1)
    train, held = split_dataset(dataset, 0.3, seed=1)
    assert ids(marked) == ids(dataset)
    assert (ids(marked.split("train")), ids(marked.split("val"))) == (ids(train), ids(held))
    with pytest.raises(DataError, match=r"has splits already \(.*val.*\); leave the held-out share away"):
        hold_out(marked, 0.3)


def test_what_cannot_be_split():
    with pytest.raises(DataError, match="set: 1 image cannot be split in two; give more"):
        split_dataset(images([0]))
    for fraction in (0, 1, -0.5, float("nan")):
        with pytest.raises(DataError, match="cannot be held out; give a number between 0 and 1"):
            split_dataset(images([0], [0]), fraction)


# ---------------------------------------------------------------- from files

PATHS = ["/d/images/a.jpg", "/d/images/b.jpg", "/d/images/c 1.jpg", "/d/other/d.x.png", "/d/images/e.jpg"]


def listed(folder: Path, **texts: str) -> Dataset:
    for name, text in texts.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".txt").write_text(text)
    return splits_from_files(images(*[[0]] * 5, paths=PATHS), folder)


def splits(dataset: Dataset) -> list[str]:
    return [record.split for record in dataset]


def test_names_paths_and_stems(tmp_path):
    data = listed(tmp_path, train="a.jpg\n./images/b.jpg\r\n\nc 1\n", val="\ufeffother\\d.x\n/elsewhere/e.png 1 1\n")
    assert splits(data) == ["train", "train", "train", "val", "val"]
    assert data.warnings == ()
    assert data.splits == ("train", "val")


@pytest.mark.parametrize("place", ["", "ImageSets__Main__", "ImageSets__Segmentation__", "splits__"])
def test_places_of_lists(tmp_path, place):
    data = listed(tmp_path, **{f"{place}train": "a\nb", f"{place}valid": "c 1", f"{place}test": "d.x\ne"})
    assert splits(data) == ["train", "train", "val", "test", "test"]


def test_lists_of_one_class_are_not_for_splits(tmp_path):
    data = listed(tmp_path, ImageSets__Main__cat_train="a 1\nb -1", ImageSets__Main__notes="a")
    assert splits(data) == [""] * 5


def test_trainval_is_for_training_but_for_what_val_lists(tmp_path):
    data = listed(tmp_path, trainval="a\nb\nc 1\nd.x", val="b", test="e")
    assert splits(data) == ["train", "val", "train", "train", "test"]
    assert data.warnings == ()


def test_a_table_of_splits(tmp_path):
    (tmp_path / "split.json").write_text(
        json.dumps({"train": ["a", "b.jpg", 7, ""], "Val": ["e"], "more": ["d"], "test": 3})
    )
    data = splits_from_files(images(*[[0]] * 5, paths=PATHS), tmp_path)
    assert splits(data) == ["train", "train", "", "", "val"]
    (warning,) = data.warnings
    assert warning == f"left out of all splits 2 images in no split list, first: {tmp_path}: /d/images/c 1.jpg"
    (tmp_path / "split.json").write_text('["a"]')
    assert splits_from_files(data, tmp_path) is data  # it has splits
    assert splits(splits_from_files(images([0], [0]), tmp_path)) == ["", ""]
    (tmp_path / "split.json").write_text('{"train": ')
    with pytest.raises(DataError, match=r"split\.json: is not valid JSON"):
        splits_from_files(images([0], [0]), tmp_path)


def test_lines_that_fit_nothing_are_counted(tmp_path):
    data = listed(tmp_path, train="a\nnope\nnada\n", val="a\nb\nc 1\nd.x\ne")
    assert splits(data) == ["train", "val", "val", "val", "val"]
    assert data.warnings == (
        f"skipped 2 lines of split lists that name no image, first: {tmp_path / 'train.txt'}: 'nope'",
        f"kept 1 images in two split lists, first: {tmp_path / 'val.txt'}: 'a' stays in train",
    )
    nothing = listed(tmp_path, train="these are notes", val="\x00 ../../..\n/")
    assert splits(nothing) == [""] * 5
    assert "skipped 3 lines" in nothing.warnings[0]


def test_a_name_in_two_folders_needs_its_path(tmp_path):
    (tmp_path / "train.txt").write_text("x/a\ny/a.jpg")
    (tmp_path / "val.txt").write_text("a\nz/a.png")
    data = splits_from_files(images(*[[0]] * 3, paths=["/d/x/a.jpg", "/d/y/a.jpg", "/d/z/a.png"]), tmp_path)
    assert splits(data) == ["train", "train", "val"]
    assert "skipped 1 lines of split lists that name no image" in data.warnings[0]


def test_without_lists_nothing_changes(tmp_path):
    data = images([0], [0])
    assert splits_from_files(data, tmp_path) is data
    assert splits_from_files(data, tmp_path / "nowhere") is data


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_list(tmp_path_factory, train, table):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "train.txt").write_bytes(train)
    data = images(*[[0]] * 5, paths=PATHS)
    assert len(splits_from_files(data, folder)) == 5
    (folder / "split.json").write_bytes(table)
    with contextlib.suppress(DataError):  # of a split.json that is not JSON
        assert len(splits_from_files(data, folder)) == 5
