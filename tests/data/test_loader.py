"""The same batches however they are loaded, and broken files survived."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.loader import Loader
from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.structures import Batch, KeypointSchema, MaskFile, Polygons, Record, Span

SIZES = [(40, 60), (60, 40), (50, 50), (30, 90), (64, 64), (45, 60)]
DATA = DataConfig(
    min_size=48,
    max_size=96,
    mask_size=14,
    workers=0,
    size_buckets=3,
    scale_jitter=(0.7, 1.4),
    crop=0.5,
    brightness=0.2,
    contrast=0.3,
    saturation=0.2,
)


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]])


def make_record(folder: Path, index: int, objects: int | None = None) -> Record:
    height, width = SIZES[index % len(SIZES)]
    generator = np.random.default_rng(index)
    path = folder / f"{index:03}.png"
    Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    n = index % 4 if objects is None else objects
    corners = generator.uniform(0, [width - 12, height - 12], (n, 2))
    rings = [square(x, y, 12) for x, y in corners]
    return Record(
        path=path,
        image_id=1000 + index,
        height=height,
        width=width,
        boxes=np.array([[*r.min(0), *r.max(0)] for r in rings], np.float32).reshape(-1, 4),
        labels=np.full(n, index % 3, np.int64),
        masks=tuple(Polygons((ring,)) for ring in rings),
        crowd=np.arange(n) == 2,
        areas=np.full(n, 144, np.float32),
        annotation_ids=np.arange(n, dtype=np.int64),
    )


def dataset_of(records: list[Record]) -> Dataset:
    return Dataset(records, ("a", "b", "c"), (1, 2, 3))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("images")
    return dataset_of([make_record(folder, i) for i in range(23)])


def damaged(dataset: Dataset, *indices: int) -> Dataset:
    """A copy in which these images are truncated."""
    records = list(dataset.records)
    for index in indices:
        path = records[index].path.with_name(f"damaged-{index}.png")
        path.write_bytes(records[index].path.read_bytes()[:200])
        records[index] = replace(records[index], path=path)
    return replace(dataset, records=records)


def loader_of(dataset: Dataset, data: DataConfig = DATA, **changes) -> Loader:
    return Loader(dataset, data, **({"batch_size": 4, "training": True, "seed": 5} | changes))


def assert_same(a: Batch, b: Batch) -> None:
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, torch.Tensor):
            assert left.dtype == right.dtype, field.name
            assert torch.equal(left, right), field.name
        elif field.name == "targets" and left is not None:
            for part in fields(left):
                one, two = getattr(left, part.name), getattr(right, part.name)
                assert (one is None and two is None) or torch.equal(one, two), part.name
        else:
            assert left == right, field.name


def together(batches: list[Batch]) -> Batch:
    """Batches of one shape as one."""
    targets = {
        f.name: torch.cat([getattr(b.targets, f.name) for b in batches])
        for f in fields(batches[0].targets)
        if getattr(batches[0].targets, f.name) is not None
    }
    return Batch(
        images=torch.cat([b.images for b in batches]),
        sizes=torch.cat([b.sizes for b in batches]),
        targets=type(batches[0].targets)(**targets),
        image_ids=sum((b.image_ids for b in batches), ()),
        paths=sum((b.paths for b in batches), ()),
        original_sizes=sum((b.original_sizes for b in batches), ()),
    )


def test_a_batch_has_the_documented_shapes(dataset: Dataset):
    for (batch,) in loader_of(dataset).steps(0):
        height, width = batch.images.shape[2:]
        assert batch.images.shape[:2] == (4, 3)
        assert batch.images.dtype == torch.uint8
        assert height % 32 == 0
        assert width % 32 == 0
        assert batch.sizes.dtype == torch.int64
        truth = batch.targets
        assert truth.boxes.shape == (4, 8, 4)
        assert truth.boxes.dtype == torch.float32
        assert truth.labels.dtype == torch.int64
        assert truth.masks.shape == (4, 8, 14, 14)
        assert truth.masks.dtype == torch.uint8
        assert truth.keys.dtype == torch.int64
        assert not (truth.valid & truth.crowd).any()
        for b, (h, w) in enumerate(batch.sizes.tolist()):
            assert not batch.images[b, :, h:].any()
            assert not batch.images[b, :, :, w:].any()
            boxes = truth.boxes[b][truth.valid[b]]
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, 2] <= w).all()
            assert (boxes[:, 3] <= h).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert not truth.boxes[b][~(truth.valid | truth.crowd)[b]].any()


def test_every_image_once_an_epoch_and_full_batches(dataset: Dataset):
    loader = loader_of(dataset)
    steps = list(loader.steps(0))
    assert len(steps) == len(loader) == 6
    seen = Counter(i for step in steps for batch in step for i in batch.image_ids)
    assert set(seen) == {record.image_id for record in dataset}
    assert sum(seen.values()) == 24


def test_workers_do_not_change_anything(dataset: Dataset):
    here, there = loader_of(dataset), loader_of(dataset, replace(DATA, workers=2))
    state = torch.get_rng_state()
    for epoch in range(2):
        for (a,), (b,) in zip(here.steps(epoch), there.steps(epoch), strict=True):
            assert_same(a, b)
    assert torch.equal(torch.get_rng_state(), state)  # loading draws nothing from the global generator


def test_ranks_and_micro_batches_together_see_what_one_process_sees(dataset: Dataset):
    whole = list(loader_of(dataset).steps(3))
    ranks = [list(loader_of(dataset, accumulate=2, rank=r, world_size=2).steps(3)) for r in range(2)]
    for (batch,), *parts in zip(whole, *ranks, strict=True):
        assert [len(part) for part in parts] == [2, 2]
        pieces = [parts[rank][turn] for turn in range(2) for rank in range(2)]
        assert len({piece.images.shape for piece in pieces}) == 1
        assert_same(batch, together(pieces))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_inside_an_epoch_is_exact(dataset: Dataset, workers: int):
    data = replace(DATA, workers=workers)
    whole = list(loader_of(dataset, data, accumulate=2).steps(1))
    rest = list(loader_of(dataset, data, accumulate=2).steps(1, start_step=4))
    assert len(rest) == len(whole) - 4
    for expected, step in zip(whole[4:], rest, strict=True):
        for a, b in zip(expected, step, strict=True):
            assert_same(a, b)


def test_what_resuming_skips_is_not_loaded(dataset: Dataset):
    loader = loader_of(damaged(dataset, 3), batch_size=1)
    order = [batch.image_ids[0] for (batch,) in loader_of(dataset, batch_size=1).steps(0)]
    list(loader.steps(0, start_step=order.index(1003) + 1))
    assert not loader.skipped


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_given_up_leaves_nothing_behind(dataset: Dataset, workers: int):
    loader = loader_of(dataset, replace(DATA, workers=workers))
    next(loader.steps(0))
    for (a,), (b,) in zip(loader.steps(1), loader_of(dataset).steps(1), strict=True):
        assert_same(a, b)


def test_epochs_differ_in_order_and_augmentation(dataset: Dataset):
    loader = loader_of(dataset)
    first, second = ([batch for (batch,) in loader.steps(epoch)] for epoch in range(2))
    assert [b.image_ids for b in first] != [b.image_ids for b in second]
    keys = [{int(key) for b in epoch for key in b.targets.keys} for epoch in (first, second)]
    assert not keys[0] & keys[1]


def test_company_does_not_change_an_image(dataset: Dataset):
    """The same epoch with other batch sizes: the same content for each image."""
    contents = []
    for batch_size in (1, 4):
        content = {}
        for (batch,) in loader_of(dataset, batch_size=batch_size).steps(0):
            for image, (h, w), image_id in zip(batch.images, batch.sizes.tolist(), batch.image_ids, strict=True):
                content[image_id] = image[:, :h, :w]
        contents.append(content)
    assert contents[0].keys() == contents[1].keys()
    assert all(torch.equal(image, contents[1][i]) for i, image in contents[0].items())


def test_a_data_set_smaller_than_the_batch_repeats(dataset: Dataset):
    (step,) = loader_of(dataset[:2], batch_size=6).steps(0)
    assert Counter(step[0].image_ids) == {1000: 3, 1001: 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_replaced_and_reported(dataset: Dataset, workers: int):
    loader = loader_of(damaged(dataset, 4), replace(DATA, workers=workers))
    with pytest.warns(UserWarning, match=r"damaged-4.png: image is truncated .*another image takes its place \(1 so"):
        steps = [step for epoch in range(2) for step in loader.steps(epoch)]
    assert [Path(path).name for path in loader.skipped] == ["damaged-4.png"]
    assert all(len(batch.image_ids) == 4 for step in steps for batch in step)
    assert all(1004 not in batch.image_ids for step in steps for batch in step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = [step for epoch in range(2) for step in loader_of(damaged(dataset, 4)).steps(epoch)]
    for (a,), (b,) in zip(steps, again, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_too_many_damaged_images_stop_with_the_original_error(dataset: Dataset, workers: int):
    loader = loader_of(damaged(dataset, 1, 2, 3, 4), replace(DATA, workers=workers))
    with pytest.raises(DataError, match="3 of 23 images cannot be used, more than one in ten") as caught:
        list(loader.steps(0))
    assert "damaged-" in str(caught.value)
    assert caught.value.path is not None


def test_nothing_readable_is_an_error_not_a_loop(dataset: Dataset):
    with pytest.raises(DataError, match="cannot be used"):
        list(loader_of(damaged(dataset[:1], 0)).steps(0))


def test_an_image_of_another_size_than_its_annotations(dataset: Dataset):
    wrong = replace(dataset.records[0], height=41)
    with pytest.raises(DataError, match="image is 60 x 40, but its annotations are for 60 x 41"):
        list(loader_of(dataset_of([wrong])).steps(0))


def test_images_of_one_shard_are_told_apart(tmp_path: Path, dataset: Dataset):
    shard, content, records = tmp_path / "a.tar", b"", []
    for index, record in enumerate(dataset):
        encoded = record.path.read_bytes()[: 100 if index in (3, 4) else None]
        records.append(replace(record, path=shard, span=Span(len(content), len(encoded))))
        content += encoded
    shard.write_bytes(content)
    loader = loader_of(dataset_of(records))
    with pytest.warns(UserWarning, match=r"a\.tar, image 1003: image is truncated"):
        list(loader.steps(0))
    assert set(loader.skipped) == {f"{shard}, image 1003", f"{shard}, image 1004"}
    records[5:8] = [replace(record, span=Span(0, 50)) for record in records[5:8]]
    with pytest.warns(UserWarning, match="image 100"), pytest.raises(DataError, match="3 of 23 images cannot be used"):
        list(loader_of(dataset_of(records)).steps(0))


def test_a_damaged_mask_file_is_named(tmp_path: Path, dataset: Dataset):
    (tmp_path / "mask.png").write_bytes(b"nothing")
    records = list(dataset)
    records[1] = replace(records[1], masks=(MaskFile(tmp_path / "mask.png"),))
    loader = loader_of(dataset_of(records))
    with pytest.warns(UserWarning, match=r"001\.png: .*mask\.png: the mask file cannot be read"):
        list(loader.steps(0))


def test_raw_images_have_the_channels_of_most(tmp_path: Path, dataset: Dataset):
    """Also where the first cannot be read: others would not fit together."""
    records = []
    for index, record in enumerate(dataset):
        path = tmp_path / f"{index}.npy"
        np.save(path, np.zeros((4 if index == 5 else 5, *record.size), np.float32))
        records.append(replace(record, path=path))
    records[0].path.write_bytes(b"damaged")
    data = replace(DATA, pixels="raw", brightness=0.0, contrast=0.0, saturation=0.0)
    loader = loader_of(dataset_of(records), data)
    with pytest.warns(UserWarning, match="image has 4 channels, 5 are expected"):
        steps = list(loader.steps(0))
    assert all(batch.images.shape[:2] == (4, 5) for (batch,) in steps)
    assert {Path(path).name for path in loader.skipped} == {"0.npy", "5.npy"}


def test_bilinear_images_stay_float(dataset: Dataset):
    (batch,) = next(loader_of(dataset, replace(DATA, interpolation="bilinear")).steps(0))
    assert batch.images.dtype == torch.float32
    assert batch.images.max() > 1


def test_boxes_only_have_masks_of_no_size(dataset: Dataset):
    bare = dataset_of([replace(record, masks=()) for record in dataset])
    (batch,) = next(loader_of(bare).steps(0))
    assert batch.targets.masks.shape == (4, 8, 0, 0)
    mixed = dataset_of([*dataset.records[:4], *bare.records[4:]])
    with pytest.raises(DataError, match="of 23 images have boxes without masks"):
        loader_of(mixed)


def test_keypoints_are_padded(dataset: Dataset):
    records = [replace(r, keypoints=np.full((len(r), 2, 3), 2, np.float32)) for r in dataset]
    schema = KeypointSchema(("left", "right"), ((0, 1),))
    (batch,) = next(loader_of(replace(dataset, records=records, keypoints=schema)).steps(0))
    assert batch.targets.keypoints.shape == (4, 8, 2, 3)


def test_the_middle_is_the_corner_moved(dataset: Dataset):
    """Images, boxes and labelled keypoints; what is not labelled stays (0, 0, 0)."""
    points = np.array([[4, 5, 2], [0, 0, 0]], np.float32)
    records = [replace(r, keypoints=np.tile(points, (len(r), 1, 1))) for r in dataset]
    dataset = replace(dataset, records=records, keypoints=KeypointSchema(("a", "b")))
    for data in (DATA, replace(DATA, mosaic=0.5, copy_paste=0.5)):
        pairs = [loader_of(dataset, replace(data, pad_place=place)).steps(0) for place in ("corner", "centre")]
        for (corner,), (centre,) in zip(*pairs, strict=True):
            assert torch.equal(corner.sizes, centre.sizes)
            assert torch.equal(corner.targets.masks, centre.targets.masks)
            for b, (height, width) in enumerate(corner.sizes.tolist()):
                top, left = (corner.images.shape[2] - height) // 2, (corner.images.shape[3] - width) // 2
                content = centre.images[b, :, top : top + height, left : left + width]
                assert torch.equal(content, corner.images[b, :, :height, :width])
                assert centre.images[b].sum() == content.sum()
                real = corner.targets.valid[b] | corner.targets.crowd[b]
                move = torch.tensor([left, top, left, top]) * real[:, None]
                torch.testing.assert_close(centre.targets.boxes[b], corner.targets.boxes[b] + move)
                seen = corner.targets.keypoints[b, ..., 2:] > 0
                torch.testing.assert_close(
                    centre.targets.keypoints[b, ..., :2],
                    corner.targets.keypoints[b, ..., :2] + move[:, None, :2] * seen,
                )


@pytest.mark.parametrize("interpolation", ["opencv", "skimage"])
def test_images_of_whole_numbers_stay_so(dataset: Dataset, interpolation: str):
    for data in (DATA, replace(DATA, rotation=30.0)):
        (batch,) = next(loader_of(dataset, replace(data, interpolation=interpolation)).steps(0))
        assert batch.images.dtype == torch.uint8


def test_images_without_objects(dataset: Dataset):
    empty = dataset_of([record for record in dataset if not len(record)])
    for (batch,) in loader_of(empty).steps(0):
        assert batch.targets.boxes.shape == (4, 8, 4)
        assert not batch.targets.valid.any()


def test_three_hundred_objects(tmp_path: Path):
    loader = loader_of(dataset_of([make_record(tmp_path, 1, 300), make_record(tmp_path, 2, 1)]), batch_size=2)
    (batch,) = next(loader.steps(0))
    assert batch.targets.boxes.shape == (2, 304, 4)


MIXED = replace(
    DATA, rotation=30.0, blur=0.5, noise=10.0, jpeg=0.5, cutout=0.5, copy_paste=0.6, mosaic=0.4, scale_jitter=(0.1, 2.0)
)


def test_mixed_images_do_not_depend_on_workers_company_or_where_a_run_goes_on(dataset: Dataset):
    whole = [step for epoch in range(2) for step in loader_of(dataset, MIXED).steps(epoch)]
    there = loader_of(dataset, replace(MIXED, workers=2))
    for (a,), (b,) in zip(whole, (step for epoch in range(2) for step in there.steps(epoch)), strict=True):
        assert_same(a, b)
    for (a,), (b,) in zip(whole[6 + 4 :], loader_of(dataset, MIXED).steps(1, start_step=4), strict=True):
        assert_same(a, b)
    alone = {batch.image_ids[0]: batch for (batch,) in loader_of(dataset, MIXED, batch_size=1).steps(0)}
    for (batch,) in whole[:5]:  # the last batch has images that come again
        for b, image_id in enumerate(batch.image_ids):
            (h, w), n = batch.sizes[b].tolist(), int(batch.targets.valid[b].sum())
            assert torch.equal(batch.images[b, :, :h, :w], alone[image_id].images[0, :, :h, :w])
            assert n == int(alone[image_id].targets.valid.sum())


def test_mixed_images_keep_to_the_planned_shapes(tmp_path: Path):
    dataset = dataset_of([make_record(tmp_path, i, n) for i, n in enumerate([0, 1, 30, 2, 3, 1, 0, 2, 1, 4])])
    plain, mixed = loader_of(dataset), loader_of(dataset, MIXED)
    assert len({(size, count) for size in mixed.plan.sizes for count in mixed.plan.counts}) <= 8
    assert mixed.plan.sizes == plain.plan.sizes
    assert mixed.plan.counts[-1] > plain.plan.counts[-1]
    assert loader_of(dataset, MIXED, training=False).plan.counts == plain.plan.counts
    most = 0
    for epoch in range(6):
        for (batch,) in mixed.steps(epoch):
            assert batch.targets.boxes.shape[1] in mixed.plan.counts
            used = batch.targets.valid | batch.targets.crowd
            most = max(most, int(used.sum(dim=1).max()))
    assert most > 32


@pytest.mark.parametrize("workers", [0, 2])
def test_a_partner_that_cannot_be_read_is_reported_and_replaced(dataset: Dataset, workers: int):
    data = replace(MIXED, workers=workers, mosaic=1.0)
    loader = loader_of(damaged(dataset, 3), data)
    with pytest.warns(UserWarning, match="damaged-3.png: image is truncated"):
        steps = list(loader.steps(0))
    assert [Path(path).name for path in loader.skipped] == ["damaged-3.png"]
    assert all(len(batch.image_ids) == 4 for (batch,) in steps)


def test_pasting_needs_masks_but_a_mosaic_does_not(dataset: Dataset):
    bare = dataset_of([replace(record, masks=()) for record in dataset])
    with pytest.raises(ConfigError, match=r"data.copy_paste: pasting needs masks, but the data set has boxes only"):
        loader_of(bare, MIXED)
    loader_of(bare, MIXED, training=False)
    (batch,) = next(loader_of(bare, replace(MIXED, copy_paste=0.0, mosaic=1.0)).steps(0))
    assert batch.targets.masks.shape[2:] == (0, 0)
    assert batch.targets.valid.any()


def test_mixing_images_without_objects(dataset: Dataset):
    empty = dataset_of([record for record in dataset if not len(record)])
    for (batch,) in loader_of(empty, MIXED).steps(0):
        assert not batch.targets.valid.any()


_LARGE_SAMPLE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from maskrcnn.config import DataConfig
from maskrcnn.data.loader import Loader
from maskrcnn.ops.masks import encode_mask
from maskrcnn.dataset import Dataset
from maskrcnn.structures import RLE, Polygons, Record

generator = np.random.default_rng(0)
corners = generator.uniform(0, 7000, (1000, 2))
boxes = np.concatenate([corners, corners + generator.uniform(20, 900, (1000, 2))], 1).astype(np.float32)
turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
circle = np.stack([np.cos(turn), np.sin(turn)], 1) / 2 + 0.5
masks = [Polygons((circle * (box[2:] - box[:2]) + box[:2],)) for box in boxes]
full = np.zeros((8000, 8000), bool)
for i in range(500, 520):  # some as RLE of the whole frame
    full[:] = False
    x0, y0, x1, y1 = boxes[i].astype(int)
    full[y0:y1, x0:x1] = True
    masks[i] = RLE((8000, 8000), encode_mask(full)["counts"])
del full
record = Record(Path(sys.argv[1]), 1, 8000, 8000, boxes, np.zeros(1000, np.int64), tuple(masks), np.zeros(1000, bool),
                np.ones(1000, np.float32), np.arange(1000))
before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
data = DataConfig(workers=0, scale_jitter=(0.5, 2.0), crop=1.0, **json.loads(sys.argv[2]))
(batch,), = Loader(Dataset([record], ("a",), (1,)), data, batch_size=1, training=True).steps(0)
assert batch.targets.boxes.shape[1] >= 1000
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print((peak - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "more", [{}, {"rotation": 30.0}, {"rotation": 30.0, "copy_paste": 1.0, "mosaic": 1.0}], ids=str
)
def test_a_thousand_objects_on_64_megapixels_take_under_a_gigabyte(tmp_path: Path, more: dict):
    Image.new("RGB", (8000, 8000), (90, 120, 60)).save(tmp_path / "large.jpg")
    command = [sys.executable, "-c", _LARGE_SAMPLE, str(tmp_path / "large.jpg"), json.dumps(more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1000, f"{done.stdout} MB"


def test_loaders_reach_spawned_processes(dataset: Dataset):
    source = loader_of(dataset)._source
    assert len(pickle.loads(pickle.dumps(source)).records) == 23


def test_wrong_use_is_named(dataset: Dataset):
    with pytest.raises(ConfigError, match=r"train.batch_size: 4 images .* over 1 micro-batches on 3 processes"):
        loader_of(dataset, world_size=3)
    with pytest.raises(DataError, match="the data set has no images"):
        loader_of(dataset_of([]))
