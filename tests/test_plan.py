from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.plan import choose_splits, plan, set_fields
from maskrcnn.presets import preset
from maskrcnn.structures import Record


def record(
    image_id: int, *, size: tuple[int, int] = (600, 800), side: float = 60, objects: int = 3, split: str = ""
) -> Record:
    return Record(
        path=Path(f"{image_id}.png"),
        image_id=image_id,
        height=size[0],
        width=size[1],
        boxes=np.tile(np.array([[0, 0, side, side]], np.float32), (objects, 1)),
        labels=np.zeros(objects, np.int64),
        masks=(),
        crowd=np.zeros(objects, bool),
        areas=np.full(objects, side * side, np.float32),
        annotation_ids=np.arange(objects),
        split=split,
    )


def toys(count: int, **options: Any) -> Dataset:
    return Dataset([record(i, **options) for i in range(count)], classes=("a",), category_ids=(1,), name="toys")


# ---------------------------------------------------------------- preset


def test_little_data_gets_the_small_preset() -> None:
    planned = plan(toys(100), accelerator=True)
    assert planned.config.model.backbone.name == "mobilenet_v2"
    assert planned.reasons[0] == "preset small: 100 images are fewer than 2000"


@pytest.mark.parametrize(("accelerator", "trunk"), [(True, "resnet50"), (False, "mobilenet_v2")])
def test_much_data_gets_resnet50_where_there_is_a_gpu(accelerator: bool, trunk: str) -> None:
    assert plan(toys(2000), accelerator=accelerator).config.model.backbone.name == trunk


def test_a_named_preset_is_kept() -> None:
    planned = plan(toys(10), "r50-fpn")
    assert planned.config == preset("r50-fpn")
    assert planned.reasons == ("preset r50-fpn, as asked",)


# ---------------------------------------------------------------- sizes


def test_small_images_are_not_enlarged() -> None:
    data = plan(toys(10, size=(256, 256), side=40)).config.data
    assert (data.min_size, data.max_size) == (256, 256)


def test_small_objects_enlarge_small_images() -> None:
    data = plan(toys(10, size=(256, 320), side=13)).config.data
    assert (data.min_size, data.max_size) == (320, 416)
    assert 13 * data.min_size / 256 >= 16


def test_tiny_objects_enlarge_by_two_at_most() -> None:
    assert plan(toys(10, size=(256, 256), side=2)).config.data.min_size == 512
    assert plan(toys(10, size=(2000, 2000), side=10)).config.data.min_size == 768


def test_large_images_shrink_to_the_preset() -> None:
    data = plan(toys(10, size=(2000, 3000), side=500)).config.data
    assert (data.min_size, data.max_size) == (384, 512)


def test_the_size_that_the_user_set_decides_the_anchors() -> None:
    planned = plan(toys(10, size=(1000, 1000), side=20), fixed={"data.min_size": 1000})
    assert planned.config.data.min_size == 1000
    assert planned.config.data.max_size >= 1000
    assert planned.config.model.rpn.anchors.sizes[0] == (16.0,)


# ---------------------------------------------------------------- anchors


def test_anchors_stay_where_they_fit() -> None:
    assert plan(toys(10, size=(384, 384), side=50)).config.model.rpn.anchors == preset("small").model.rpn.anchors


def test_anchors_shrink_to_small_objects() -> None:
    sizes = plan(toys(10, size=(384, 384), side=16)).config.model.rpn.anchors.sizes
    assert sizes == ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    sizes = plan(toys(10, size=(384, 384), side=9), fixed={"data.min_size": 384}).config.model.rpn.anchors.sizes
    assert sizes == ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))


def test_anchors_spread_over_a_wide_range() -> None:
    data = toys(50, size=(384, 384), side=9)
    mixed = replace(data, records=[*data.records, *(record(i, size=(384, 384), side=380) for i in range(50, 100))])
    sizes = [size for (size,) in plan(mixed, fixed={"data.min_size": 384}).config.model.rpn.anchors.sizes]
    assert sizes[0] == 8
    assert sizes[-1] == pytest.approx(380, rel=0.05)


def test_long_images_count_the_limit_of_the_long_side() -> None:
    planned = plan(toys(10, size=(400, 4000), side=100))
    scale = planned.config.data.max_size / 4000
    assert 100 * scale < 16
    assert planned.config.model.rpn.anchors.sizes[0] == (16.0,)


# ---------------------------------------------------------------- counts, epochs, trunk


def test_crowded_images_raise_the_counts() -> None:
    planned = plan(toys(10, objects=375))
    box, rpn = planned.config.model.box, planned.config.model.rpn
    assert box.detections_per_image == 420
    assert rpn.post_nms_test >= 3 * 375
    assert rpn.pre_nms_test >= rpn.post_nms_test
    assert "one image has 375 objects" in " ".join(planned.reasons)
    assert plan(toys(10, objects=90)).config.model.box.detections_per_image is None


@pytest.mark.parametrize(("images", "epochs"), [(10, 100), (60, 100), (531, 12), (1500, 12), (200, 30)])
def test_epochs_follow_the_number_of_images(images: int, epochs: float) -> None:
    assert plan(toys(images)).config.train.epochs == epochs


def test_without_weights_everything_trains() -> None:
    planned = plan(toys(10), pretrained=False)
    assert planned.config.model.backbone.frozen_stages == 0
    assert planned.config.model.backbone.norm == "bn"
    assert plan(toys(10), pretrained=False, fixed={"model.mask": None}).config.model.mask is None


def test_what_the_user_set_wins() -> None:
    fixed = {
        "train.epochs": 3,
        "data.min_size": 100,
        "model.rpn.anchors.sizes": [[4], [8], [16], [32], [64]],
        "model.box.detections_per_image": 7,
    }
    config = plan(toys(10, objects=375), fixed=fixed).config
    assert (config.train.epochs, config.data.min_size) == (3.0, 100)
    assert config.model.rpn.anchors.sizes[0] == (4.0,)
    assert config.model.box.detections_per_image == 7


def test_raw_pixels_switch_colours_off_in_every_preset() -> None:
    """The command line checks its options so, before it reads the data."""
    config = set_fields(preset("small"), {"data.pixels": "raw"})
    assert config.data.brightness == config.data.contrast == config.data.saturation == 0
    with pytest.raises(ConfigError, match=r"data.brightness: 0.3 needs 8-bit RGB"):
        set_fields(preset("small"), {"data.pixels": "raw", "data.brightness": 0.3})


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(DataError, match="toys: has no images"):
        plan(toys(0))
    with pytest.raises(DataError, match="toys: has no annotated object"):
        plan(toys(3, objects=0))
    crowds = [replace(record(0), crowd=np.ones(3, bool))]
    with pytest.raises(DataError, match="no annotated object"):
        plan(replace(toys(0), records=crowds))


def test_a_wrong_field_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        plan(toys(3), fixed={"train.epoch": 3})


# ---------------------------------------------------------------- splits


def test_own_splits_are_used() -> None:
    data = toys(0)
    records = [record(0, split="train"), record(1, split="val"), record(2, split="test")]
    train, val, reason = choose_splits(replace(data, records=records))
    assert val is not None
    assert ([r.image_id for r in train], [r.image_id for r in val]) == ([0], [1])
    assert "the data's own splits" in reason


@pytest.mark.parametrize("split", ["", "train"])
def test_a_fifth_is_held_out_by_a_seeded_draw(split: str) -> None:
    data = toys(50, split=split)
    train, val, reason = choose_splits(data, seed=3)
    assert val is not None
    ids = [{r.image_id for r in part} for part in (train, val)]
    assert [len(part) for part in ids] == [40, 10]
    assert ids[0] | ids[1] == set(range(50))
    assert ids[1] == {r.image_id for r in choose_splits(data, seed=3)[1] or []}
    assert ids[1] != {r.image_id for r in choose_splits(data, seed=4)[1] or []}
    assert "drawn with seed 3" in reason


def test_test_images_are_not_trained_on() -> None:
    data = toys(0)
    records = [*(record(i, split="train") for i in range(5)), record(9, split="test")]
    train, val, _ = choose_splits(replace(data, records=records))
    assert val is not None
    assert 9 not in {r.image_id for part in (train, val) for r in part}


def test_given_validation_data_wins() -> None:
    val = replace(toys(4), records=[record(0, split="train"), record(1, split="val")])
    train, held, _ = choose_splits(toys(3), val)
    assert held is not None
    assert (len(train), [r.image_id for r in held]) == (3, [1])


def test_a_single_image_is_trained_on() -> None:
    train, val, reason = choose_splits(toys(1))
    assert (len(train), val) == (1, None)
    assert "none is left to measure" in reason
