"""Few padded shapes, little padding, every record once an epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.config import DataConfig
from maskrcnn.data.buckets import plan_shapes, sample_key, training_order
from maskrcnn.data.resize import resized_size
from maskrcnn.structures import Record


def record_of(height: int, width: int, objects: int = 1) -> Record:
    n = objects
    return Record(
        path=Path("a.png"),
        image_id=0,
        height=height,
        width=width,
        boxes=np.zeros((n, 4), np.float32),
        labels=np.zeros(n, np.int64),
        masks=(),
        crowd=np.zeros(n, bool),
        areas=np.zeros(n, np.float32),
        annotation_ids=np.arange(n),
    )


def photos(count: int, seed: int = 0) -> list[Record]:
    """Sizes as people's cameras have them, with a few panoramas and crowded scenes."""
    generator = np.random.default_rng(seed)
    sides = [(480, 640), (640, 480), (427, 640), (640, 427), (333, 500), (512, 512), (200, 1000), (375, 500)]
    picked = generator.integers(0, len(sides), count)
    noise = generator.integers(0, 40, (count, 2))
    objects = generator.geometric(0.15, count)
    return [
        record_of(sides[i][0] + int(a), sides[i][1] + int(b), int(n) if k % 50 else 300)
        for k, (i, (a, b), n) in enumerate(zip(picked, noise, objects, strict=True))
    ]


sets = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 40)).map(lambda t: record_of(*t)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(records=sets, buckets=st.sampled_from([(1, 1), (1, 8), (2, 2), (4, 2), (8, 1)]), square=st.booleans())
def test_a_plan_holds_every_record_in_few_shapes(records: list[Record], buckets: tuple[int, int], square: bool):
    data = DataConfig(size_buckets=buckets[0], count_buckets=buckets[1], resize="square" if square else "short")
    plan = plan_shapes(records, data)
    assert 1 <= len(plan.sizes) <= buckets[0]
    assert 1 <= len(plan.counts) <= buckets[1]
    assert all(h % 32 == 0 and w % 32 == 0 for h, w in plan.sizes)
    assert all(count >= 8 for count in plan.counts)
    for i, record in enumerate(records):
        content, padded = resized_size(*record.size, data), plan.size_for([i])
        assert content[0] <= padded[0]
        assert content[1] <= padded[1]
        assert len(record) <= plan.count_for([i])
    everything = range(len(records))
    assert plan.size_for(everything) in plan.sizes
    if square:
        assert plan.sizes == ((1344, 1344),)


@settings(max_examples=100, deadline=None)
@given(records=sets, batch_size=st.integers(1, 9), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_shows_every_record_and_fills_every_batch(
    records: list[Record], batch_size: int, seed: int, epoch: int
):
    data = DataConfig()
    plan = plan_shapes(records, data)
    groups = training_order(plan, batch_size, seed, epoch)
    assert len(groups) == -(-len(records) // batch_size)
    assert {len(group.records) for group in groups} == {batch_size}
    seen = Counter(index for group in groups for index in group.records)
    assert set(seen) == set(range(len(records)))
    assert sum(seen.values()) == len(groups) * batch_size
    if len(records) >= batch_size:
        assert max(seen.values()) <= 2
    for group in groups:
        assert group.size in plan.sizes
        assert group.count in plan.counts
        for index in group.records:
            content = resized_size(*records[index].size, data)
            assert content[0] <= group.size[0]
            assert content[1] <= group.size[1]
            assert len(records[index]) <= group.count


def test_a_run_has_at_most_eight_shapes_and_little_padding():
    data = DataConfig()
    records = photos(2000)
    plan = plan_shapes(records, data)
    shapes, padded, content = set(), 0, 0
    for epoch in range(3):
        for group in training_order(plan, 8, 0, epoch):
            shapes.add((group.size, group.count))
            padded += len(group.records) * group.size[0] * group.size[1]
            content += sum(int(np.prod(resized_size(*records[i].size, data))) for i in group.records)
    assert len(shapes) <= 8
    assert padded / content < 1.25


def test_small_batches_are_not_padded_to_the_crowded_image():
    plan = plan_shapes(photos(2000), DataConfig())
    assert plan.counts[-1] == 304
    assert plan.counts[0] <= 32


@pytest.mark.parametrize(("changes", "more"), [({"copy_paste": 0.1}, 18), ({"mosaic": 1.0}, 27), ({}, 0)])
def test_counts_leave_room_for_other_images_objects_in_training(changes: dict, more: int):
    """Nine in ten images have at most 18 objects, three in four at most 9."""
    records = [record_of(480, 640, n) for n in [1, 2, 3, 4, 5, 6, 7, 9, 9, 9, 18, 18, 40]]
    data = DataConfig(**changes)
    plan = plan_shapes(records, data, training=True)
    assert plan.objects.tolist() == [len(record) + more for record in records]
    assert plan.counts[-1] >= 40 + more
    assert len(plan.counts) <= data.count_buckets
    assert plan_shapes(records, data).objects.tolist() == [len(record) for record in records]


def test_the_order_is_a_function_of_seed_and_epoch():
    plan = plan_shapes(photos(100), DataConfig())
    assert training_order(plan, 4, 1, 2) == training_order(plan, 4, 1, 2)
    assert training_order(plan, 4, 1, 2) != training_order(plan, 4, 1, 3)
    assert training_order(plan, 4, 1, 2) != training_order(plan, 4, 2, 2)


def test_planning_a_large_data_set_is_quick():
    import time

    records = photos(20_000)
    began = time.perf_counter()
    training_order(plan_shapes(records, DataConfig()), 16, 0, 0)
    assert time.perf_counter() - began < 10


def test_keys_are_distinct_non_negative_int64():
    keys = {sample_key(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(50)}
    assert len(keys) == 5 * 20 * 50
    assert all(0 <= key < 2**63 for key in keys)


@pytest.mark.parametrize("numbers", [(0,), (0, 0), (0, 0, 0)])
def test_keys_do_not_change_between_versions(numbers: tuple[int, ...]):
    """A resumed run must go on with the order it began with."""
    known = {1: 8147104208329303767, 2: 6017775124710473527, 3: 1279368494785126216}
    assert sample_key(*numbers) == known[len(numbers)]
