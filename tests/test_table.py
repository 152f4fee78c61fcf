"""Columns give back what went in."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.dataset import Dataset
from maskrcnn.structures import RLE, MaskFile, Polygons, Record, Span
from maskrcnn.table import Table

FLOATS = st.floats(-1e6, 1e6)
RINGS = st.lists(st.lists(st.tuples(FLOATS, FLOATS), min_size=3, max_size=5).map(np.array), min_size=1, max_size=3)
SPANS = st.none() | st.builds(Span, st.integers(0, 1 << 40), st.integers(0, 99))
PATHS = st.text(min_size=1, max_size=9).filter(lambda name: "\0" not in name and name not in "./").map(Path)
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = st.one_of(
    st.builds(Polygons, RINGS.map(tuple)),
    st.builds(RLE, SIZES, st.binary(max_size=9)),
    st.builds(MaskFile, PATHS, st.none() | st.integers(0, 1 << 20), SPANS, st.none() | SIZES),
)


@st.composite
def records(draw, image_id: int = 0) -> Record:
    masks = draw(st.lists(MASKS, max_size=3))
    count = len(masks)
    return Record(
        path=draw(PATHS),
        image_id=draw(st.integers(-(1 << 62), 1 << 62)),
        height=draw(st.integers(1, 1 << 20)),
        width=draw(st.integers(1, 1 << 20)),
        boxes=np.random.default_rng(0).random((count, 4), np.float32),
        labels=np.arange(count, dtype=np.int64),
        masks=tuple(masks),
        crowd=np.arange(count) % 2 == 0,
        areas=np.arange(count, dtype=np.float32),
        annotation_ids=np.arange(count, dtype=np.int64) << 40,
        keypoints=draw(st.sampled_from([None, np.ones((count, 2, 3), np.float32)])),
        split=draw(st.sampled_from(["", "train", "val"])),
        span=draw(SPANS),
    )


def assert_equal(one: Record, other: Record) -> None:
    for name in ("path", "image_id", "height", "width", "split", "span", "make"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("boxes", "labels", "crowd", "areas", "annotation_ids"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name
    assert (one.keypoints is None) == (other.keypoints is None)
    assert one.keypoints is None or np.array_equal(one.keypoints, other.keypoints)
    assert len(one.masks) == len(other.masks)
    for a, b in zip(one.masks, other.masks, strict=True):
        if isinstance(a, Polygons):
            assert len(a.rings) == len(b.rings)
            assert all(np.array_equal(r, s) for r, s in zip(a.rings, b.rings, strict=True))
        else:
            assert a == b


@settings(max_examples=40, deadline=None)
@given(st.lists(records(), max_size=4))
def test_packing_loses_nothing(tmp_path_factory, found):
    table = Table.of(found)
    folder = tmp_path_factory.mktemp("table")
    table.save(folder)
    for same in (
        table,
        pickle.loads(pickle.dumps(table)),
        Table.open(folder),
        pickle.loads(pickle.dumps(Table.open(folder))),
    ):
        assert len(same) == len(found)
        for one, other in zip(same, found, strict=True):
            assert_equal(one, other)


@settings(max_examples=30, deadline=None)
@given(st.lists(records(), min_size=1, max_size=5), st.data())
def test_columns_of_chosen_rows_are_those_of_their_records(found, data):
    rows = data.draw(st.lists(st.integers(0, len(found) - 1), max_size=6))
    table, chosen = Table.of(found).take(rows), [found[row] for row in rows]
    assert table.sizes.reshape(-1, 2).tolist() == [list(r.size) for r in chosen]
    assert table.counts.tolist() == list(map(len, chosen))
    assert table.mask_counts.tolist() == [len(r.masks) for r in chosen]
    assert table.image_of.tolist() == [i for i, r in enumerate(chosen) for _ in range(len(r))]
    assert table.image_ids.tolist() == [r.image_id for r in chosen]
    assert table.splits.tolist() == [r.split for r in chosen]
    for name in ("labels", "boxes", "crowd", "annotation_ids"):
        joined = [x for r in chosen for x in getattr(r, name).tolist()]
        assert getattr(table, name).tolist() == joined
    assert [r.image_id for r in table[1:]] == [r.image_id for r in chosen[1:]]


def test_images_made_by_functions_stay_with_the_process(tmp_path):
    record = Record(
        Path("made"), 1, 4, 4, *(np.zeros(s, t) for s, t in (((0, 4), np.float32), (0, np.int64))), (),
        np.zeros(0, bool), np.zeros(0, np.float32), np.zeros(0, np.int64), make=partial(np.zeros, (4, 4, 3)),
    )  # fmt: skip
    table = Table.of([record])
    assert pickle.loads(pickle.dumps(table))[0].make().shape == (4, 4, 3)
    with pytest.raises(ValueError, match="made by a function"):
        table.save(tmp_path)


def test_a_folder_that_lacks_a_column_is_refused(tmp_path):
    Table.of([]).save(tmp_path)
    (tmp_path / "boxes.npy").unlink()
    with pytest.raises(ValueError, match="lacks boxes"):
        Table.open(tmp_path)


def test_a_mapped_table_is_small_to_send(tmp_path):
    Table.of([]).save(tmp_path)
    dataset = Dataset(Table.open(tmp_path), ("a",), (1,))
    assert len(pickle.dumps(dataset)) < 2_000
